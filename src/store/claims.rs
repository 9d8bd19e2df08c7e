//! What is done once: the marks of idempotent producers and the keys of idempotent requests. Each
//! is written in the commit that it protects, and answers whoever comes again.

use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::StoreError;
use crate::model::{TenantId, TopicId};

/// A hash of what was asked for: a repeat asks for the same.
pub type BodyHash = [u8; 16];

/// One request of a producer to one topic, whichever node and partition it goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MarkKey {
    /// The incarnation of the topic.
    pub owner: TopicId,
    /// Who publishes.
    pub producer: Uuid,
    /// The how manieth of its requests.
    pub sequence: i64,
}

/// A request under a key that its client chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    /// Whose client.
    pub tenant: TenantId,
    /// The route and the incarnation of what it is about.
    pub scope: String,
    /// The client's key.
    pub key: String,
}

/// What only one commit can have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClaimKey {
    /// A producer's sequence.
    Mark(MarkKey),
    /// An `Idempotency-Key`.
    Request(RequestKey),
}

/// The claims of one flush, array by array as the function takes them: marks, then keys, each
/// kind sorted by [`ClaimKey`]'s order and once each.
#[derive(Debug, Default)]
pub struct Claims {
    owners: Vec<i64>,
    producers: Vec<Uuid>,
    sequences: Vec<i64>,
    lowest: Vec<i32>,
    tenants: Vec<i64>,
    scopes: Vec<String>,
    keys: Vec<String>,
    hashes: Vec<Vec<u8>>,
    layouts: Vec<Vec<u8>>,
    firsts: Vec<i32>,
    lasts: Vec<i32>,
    part_ids: Vec<i32>,
    part_shifts: Vec<i64>,
}

impl Claims {
    /// Adds the next claim: where its parts lie in the flush, as the partition's place in it from
    /// 1 and the number of messages before them.
    pub fn push(
        &mut self,
        key: &ClaimKey,
        hash: BodyHash,
        layout: &[u8],
        parts: impl Iterator<Item = (i32, i64)>,
    ) {
        match key {
            ClaimKey::Mark(mark) => {
                let last = self.owners.last().zip(self.producers.last());
                let number = self.owners.len() as i32 + 1;
                if last != Some((&mark.owner.0, &mark.producer)) {
                    self.lowest.push(number);
                }
                self.owners.push(mark.owner.0);
                self.producers.push(mark.producer);
                self.sequences.push(mark.sequence);
            }
            ClaimKey::Request(request) => {
                self.tenants.push(request.tenant.0);
                self.scopes.push(request.scope.clone());
                self.keys.push(request.key.clone());
            }
        }
        self.hashes.push(hash.to_vec());
        self.layouts.push(layout.to_vec());
        self.firsts.push(self.part_ids.len() as i32 + 1);
        for (id, shift) in parts {
            self.part_ids.push(id);
            self.part_shifts.push(shift);
        }
        self.lasts.push(self.part_ids.len() as i32);
    }

    /// Binds every array, in the order of the function's parameters.
    pub(super) fn bind<'q>(&'q self, query: super::append::Query<'q>) -> super::append::Query<'q> {
        query
            .bind(&self.owners)
            .bind(&self.producers)
            .bind(&self.sequences)
            .bind(&self.lowest)
            // Absent where there are none: a flush with marks alone does not look at keys.
            .bind((!self.tenants.is_empty()).then_some(&self.tenants))
            .bind(&self.scopes)
            .bind(&self.keys)
            .bind(&self.hashes)
            .bind(&self.layouts)
            .bind(&self.firsts)
            .bind(&self.lasts)
            .bind(&self.part_ids)
            .bind(&self.part_shifts)
    }
}

/// A claim that stands: what was asked for and what it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The hash of what was asked for.
    pub hash: Vec<u8>,
    /// The layout of a publish, else the body of the answer.
    pub answer: Vec<u8>,
    /// The offset of the first message of each part of a publish; `None`: not a publish.
    pub results: Option<Vec<i64>>,
    /// The HTTP status.
    pub status: i16,
}

fn standing(row: &PgRow) -> Result<Standing, StoreError> {
    Ok(Standing {
        hash: row.try_get(0)?,
        answer: row.try_get(1)?,
        results: row.try_get(2)?,
        status: row.try_get(3)?,
    })
}

/// The claim of this key, if it stands. Read in a statement after the one that met it, which sees
/// what that one waited for.
pub async fn find(conn: &mut PgConnection, key: &ClaimKey) -> Result<Option<Standing>, StoreError> {
    let query = match key {
        ClaimKey::Mark(mark) => sqlx::query(
            "select body_hash, answer, results, status from postrider.standing_mark($1, $2, $3)",
        )
        .bind(mark.owner.0)
        .bind(mark.producer)
        .bind(mark.sequence),
        ClaimKey::Request(request) => sqlx::query(
            "select body_hash, answer, results, status from postrider.standing_key($1, $2, $3)",
        )
        .bind(request.tenant.0)
        .bind(&request.scope)
        .bind(&request.key),
    };
    // fetch_all, not fetch_optional: the statement is over when this returns.
    query.fetch_all(conn).await?.first().map(standing).transpose()
}

/// Claims a request's key for the transaction that runs, before anything else is done in it.
/// Waits up to 2 s for another one that holds the key. `false`: the key stands already.
pub(super) async fn claim(
    conn: &mut PgConnection,
    request: &RequestKey,
    hash: BodyHash,
) -> Result<bool, StoreError> {
    sqlx::query("select set_config('lock_timeout', '2s', true)").execute(&mut *conn).await?;
    let done = sqlx::query(
        "insert into postrider.idempotency_keys
           (tenant_id, scope, idempotency_key, body_hash, status, answer)
         values ($1, $2, $3, $4, 0, '') on conflict do nothing",
    )
    .bind(request.tenant.0)
    .bind(&request.scope)
    .bind(&request.key)
    .bind(hash.as_slice())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes the answer to a request whose key this transaction has claimed.
pub(super) async fn record(
    conn: &mut PgConnection,
    request: &RequestKey,
    (status, answer): (u16, Vec<u8>),
) -> Result<(), StoreError> {
    sqlx::query(
        "update postrider.idempotency_keys set status = $4, answer = $5
         where tenant_id = $1 and scope = $2 and idempotency_key = $3",
    )
    .bind(request.tenant.0)
    .bind(&request.scope)
    .bind(&request.key)
    .bind(i16::try_from(status).unwrap_or_default())
    .bind(answer)
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes marks that no repeat can ask for, of the `most` producers behind `after`. Returns
/// where the next call goes on; `None`: at the beginning.
pub async fn prune_marks(
    conn: &mut PgConnection,
    after: Option<(i64, Uuid)>,
    most: i32,
) -> Result<Option<(i64, Uuid)>, StoreError> {
    let (owner, producer) = after.unwrap_or((i64::MIN, Uuid::nil()));
    let rows = sqlx::query("select owner_id, producer_id from postrider.prune_marks($1, $2, $3)")
        .bind(owner)
        .bind(producer)
        .bind(most)
        .fetch_all(conn)
        .await?;
    rows.first().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// Removes keys that are older than a day from `blocks` blocks of the table, from block `from`
/// on. Returns where the next call goes on, which is the beginning behind the last block.
pub async fn prune_keys(
    conn: &mut PgConnection,
    from: i64,
    blocks: i64,
) -> Result<i64, StoreError> {
    // A key of any time may lie anywhere: the heap is gone through, and no index is needed. The
    // text holds the numbers, so that it is planned for the table as it is.
    let next = from + blocks;
    let delete = format!(
        "delete from postrider.idempotency_keys
         where ctid >= '({from},0)'::tid and ctid < '({next},0)'::tid
           and made_at < clock_timestamp() - interval '24 hours'"
    );
    sqlx::query(AssertSqlSafe(delete)).persistent(false).execute(&mut *conn).await?;
    let size: Vec<i64> = sqlx::query_scalar(
        "select pg_relation_size('postrider.idempotency_keys')
           / current_setting('block_size')::bigint",
    )
    .fetch_all(conn)
    .await?;
    Ok(if size.first().is_some_and(|size| next < *size) { next } else { 0 })
}

/// The oldest snapshot or transaction in this database that anybody holds, by a name that stays
/// the same while it is held. What is deleted beside it stays where it is.
pub async fn horizon(conn: &mut PgConnection) -> Result<Option<String>, StoreError> {
    let oldest: Vec<String> = sqlx::query_scalar(
        "select held.xmin::text from (
           select backend_xmin from pg_stat_activity
           where backend_xmin is not null and pid <> pg_backend_pid()
             and (datname = current_database() or backend_type = 'walsender')
           union all
           select xmin from pg_replication_slots where xmin is not null
           union all
           select transaction from pg_prepared_xacts
           where database = current_database()) held (xmin)
         order by age(held.xmin) desc limit 1",
    )
    .fetch_all(conn)
    .await?;
    Ok(oldest.into_iter().next())
}
