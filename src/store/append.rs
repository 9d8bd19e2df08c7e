//! One flush into one bucket: a single call of that bucket's function, autocommitted.

use std::sync::Arc;

use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
};
use time::OffsetDateTime;

use super::{StoreError, claims::Claims};
use crate::model::{BucketId, PartitionId};

pub(super) type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// A flush as the function takes it: entry by entry the same partition, sorted by id, once each.
#[derive(Debug)]
pub struct Flush<'a> {
    /// Which partitions.
    pub partitions: &'a [i64],
    /// How many messages for each.
    pub counts: &'a [i32],
    /// Their record batches.
    pub records: &'a [Vec<u8>],
    /// The offset that each expects, -1 for none; `None` where no partition does.
    pub expects: Option<&'a [i64]>,
    /// What no other commit may have; `None` where nothing is claimed.
    pub claims: Option<&'a Claims>,
    /// The slot that tells other nodes.
    pub slot: i64,
    /// The flush's number in that slot, one higher than the last.
    pub wake: i64,
}

/// What the function says of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The messages stand at `base_offset` and behind it.
    Appended {
        /// The offset of the first.
        base_offset: i64,
        /// The database's time of the append, in ms.
        appended_ms: i64,
    },
    /// The bucket does not take appends: look for the open one.
    NotOpen,
    /// There is no such partition any more.
    Gone,
    /// The partition is in another retention class now.
    Moved,
    /// The partition is in a newer bucket already: look for the open one.
    Stale,
    /// The next offset is not the expected one.
    WrongOffset {
        /// Which is the next.
        next_offset: i64,
    },
    /// The claim of this number, from 1, stands already.
    Claimed(usize),
    /// The claim of this number, from 1, is of a sequence below its producer's newest ones.
    TooOld(usize),
}

/// A function's name and call for one bucket, made once.
#[derive(Clone, Debug)]
pub struct AppendStatement {
    /// The bucket it appends to.
    pub bucket: BucketId,
    plain: Arc<str>,
    expecting: Arc<str>,
    claiming: Arc<str>,
}

impl AppendStatement {
    /// The statement of `bucket`, whose commit waits for what the session says.
    pub fn new(bucket: BucketId) -> Self {
        Self::with(bucket, "$5")
    }

    /// The same; its commit waits for a synchronous standby. It says so itself, within the one
    /// statement: behind a pooler a session's settings may be another's. `on` and not
    /// `remote_apply`: what a standby has flushed it replays before it is promoted, and nothing is
    /// read from standbys, whose replay a long query may hold up.
    pub fn replicated(bucket: BucketId) -> Self {
        // An argument is evaluated before the call, a setting lasts until the commit.
        Self::with(
            bucket,
            "case set_config('synchronous_commit', 'on', true) when 'on' then $5 end",
        )
    }

    fn with(bucket: BucketId, wake: &str) -> Self {
        let call = format!("select * from postrider.append_{bucket}($1, $2, $3");
        let plain = format!("{call}, null, $4, {wake})");
        let expecting = format!("{call}, $6, $4, {wake})");
        let claiming = format!(
            "{call}, $6, $4, {wake}, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
        );
        let (plain, expecting, claiming) = (plain.into(), expecting.into(), claiming.into());
        Self { bucket, plain, expecting, claiming }
    }

    /// Appends `flush`, all of it or nothing. If any outcome is not [`Outcome::Appended`],
    /// nothing was appended, and only the partitions in the way are named.
    pub async fn run(
        &self,
        conn: &mut PgConnection,
        flush: &Flush<'_>,
    ) -> Result<Vec<(PartitionId, Outcome)>, StoreError> {
        // fetch_all reads up to ReadyForQuery, which comes after the commit; anything that stops
        // at the first row would answer before it.
        let sql = match (flush.claims, flush.expects) {
            (Some(_), _) => &self.claiming,
            (None, Some(_)) => &self.expecting,
            (None, None) => &self.plain,
        };
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(sql)))
            .bind(flush.partitions)
            .bind(flush.counts)
            .bind(flush.records)
            .bind(flush.slot)
            .bind(flush.wake);
        if flush.expects.is_some() || flush.claims.is_some() {
            query = query.bind(flush.expects);
        }
        if let Some(claims) = flush.claims {
            query = claims.bind(query);
        }
        let rows = query.fetch_all(conn).await?;
        rows.iter().map(outcome).collect()
    }
}

/// Of an outcome that is about a claim: partitions are numbered from 1.
const NO_PARTITION: PartitionId = PartitionId(0);

/// Whether a session still has a server behind it.
pub async fn is_alive(conn: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("select 1").execute(conn).await?;
    Ok(())
}

fn outcome(row: &PgRow) -> Result<(PartitionId, Outcome), StoreError> {
    let number: i16 = row.try_get(0)?;
    if matches!(number, 6 | 7) {
        let claim = usize::try_from(row.try_get::<i64, _>(2)?).unwrap_or_default();
        let outcome = if number == 6 { Outcome::Claimed(claim) } else { Outcome::TooOld(claim) };
        return Ok((NO_PARTITION, outcome));
    }
    let partition = PartitionId(row.try_get(1)?);
    let outcome = match number {
        0 => {
            let appended_at: OffsetDateTime = row.try_get(3)?;
            Outcome::Appended { base_offset: row.try_get(2)?, appended_ms: unix_ms(appended_at) }
        }
        1 => Outcome::NotOpen,
        2 => Outcome::Gone,
        3 => Outcome::Moved,
        4 => Outcome::Stale,
        5 => Outcome::WrongOffset { next_offset: row.try_get(2)? },
        other => return Err(StoreError::Shape(format!("outcome {other} of an append"))),
    };
    Ok((partition, outcome))
}

/// Milliseconds since 1970, rounded down.
pub(super) fn unix_ms(at: OffsetDateTime) -> i64 {
    at.unix_timestamp() * 1_000 + i64::from(at.millisecond())
}
