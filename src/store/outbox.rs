//! What SQL publishers left in their own transactions, and how it gets into the log.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::StoreError;
use crate::model::{
    BucketId, PartitionId,
    topic::{Compression, Keyless, RetentionClass},
};

/// How many shards the outbox has; each is drained by one node at a time. A topic's shard is its
/// id modulo this, as in migrations/functions/outbox_add.sql.
pub const SHARDS: i16 = 2;

/// One message that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its number: later ones of a transaction are higher.
    pub id: i64,
    /// The topic, which may be gone.
    pub topic: i64,
    /// 1 JSON, 2 text, 3 bytes.
    pub kind: i16,
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in their order; a name may come more than once.
    pub headers: Vec<(String, Vec<u8>)>,
    /// When it was published, by the database's clock, in ms.
    pub published_ms: i64,
}

/// The next messages of a shard, and the cursor that they belong to.
#[derive(Clone, Debug)]
pub struct Step {
    /// The cursor's number.
    pub cursor: i64,
    /// The messages, in their order.
    pub messages: Vec<Waiting>,
}

fn waiting(row: &PgRow) -> Result<Waiting, StoreError> {
    let names: Option<Vec<String>> = row.try_get(6)?;
    let contents: Option<Vec<Vec<u8>>> = row.try_get(7)?;
    let headers = names.unwrap_or_default().into_iter().zip(contents.unwrap_or_default());
    Ok(Waiting {
        id: row.try_get(1)?,
        topic: row.try_get(2)?,
        kind: row.try_get(3)?,
        key: row.try_get(4)?,
        value: row.try_get(5)?,
        headers: headers.collect(),
        published_ms: row.try_get(8)?,
    })
}

/// The next messages of a shard, at most `rows` and about `bytes`, at least one if one waits.
pub async fn next(
    conn: &mut PgConnection,
    shard: i16,
    rows: i32,
    bytes: i64,
) -> Result<Option<Step>, StoreError> {
    let found = sqlx::query(
        "select n, outbox_id, topic_id, kind, key, value, header_names, header_values, published_ms
         from postrider.outbox_next($1, $2, $3)",
    )
    .bind(shard)
    .bind(rows)
    .bind(bytes)
    .fetch_all(conn)
    .await?;
    let Some(first) = found.first() else { return Ok(None) };
    let cursor = first.try_get(0)?;
    let messages = found.iter().map(waiting).collect::<Result<_, _>>()?;
    Ok(Some(Step { cursor, messages }))
}

/// What a drainer has to know of a topic.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The topic.
    pub topic: i64,
    /// How its batches are compressed.
    pub compression: Compression,
    /// Where messages without a key go.
    pub keyless: Keyless,
    /// The class that its partitions are in.
    pub class: RetentionClass,
    /// Its partitions by number, at least one.
    pub partitions: Vec<PartitionId>,
}

/// Those of these topics that stand.
pub async fn destinations(
    conn: &mut PgConnection,
    topics: &[i64],
) -> Result<Vec<Destination>, StoreError> {
    let rows = sqlx::query(
        "select t.topic_id, t.compression, t.keyless, min(p.retention_class),
           array_agg(p.partition_id order by p.index)
         from postrider.topics t
         join postrider.partitions p
           on p.owner_id = t.topic_id and p.lane = 0 and p.deleted_at is null
         where t.topic_id = any ($1) group by t.topic_id",
    )
    .bind(topics)
    .fetch_all(conn)
    .await?;
    let shape = |what: &str| StoreError::Shape(format!("{what} of a topic"));
    rows.iter()
        .map(|row| {
            let partitions: Vec<i64> = row.try_get(4)?;
            Ok(Destination {
                topic: row.try_get(0)?,
                compression: Compression::parse(row.try_get(1)?)
                    .ok_or_else(|| shape("compression"))?,
                keyless: Keyless::parse(row.try_get(2)?).ok_or_else(|| shape("keyless"))?,
                class: RetentionClass::from_number(row.try_get(3)?)
                    .ok_or_else(|| shape("class"))?,
                partitions: partitions.into_iter().map(PartitionId).collect(),
            })
        })
        .collect()
}

/// What a step becomes in the log: entry by entry, each partition once.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// The open bucket of the partition's class.
    pub buckets: Vec<i64>,
    /// Which partition.
    pub partitions: Vec<i64>,
    /// How many messages.
    pub counts: Vec<i32>,
    /// Their record batch.
    pub records: Vec<Vec<u8>>,
}

impl Drain {
    /// Adds a partition's messages.
    pub fn push(&mut self, bucket: BucketId, partition: PartitionId, count: i32, records: Vec<u8>) {
        self.buckets.push(bucket.0);
        self.partitions.push(partition.0);
        self.counts.push(count);
        self.records.push(records);
    }
}

/// Appends and moves the cursor behind `upto`, both or neither. It uses a wake of `slot` from
/// `wake` on for each bucket. [`super::error::Refusal::Busy`] and `Missing`: look again.
pub async fn append(
    conn: &mut PgConnection,
    shard: i16,
    cursor: i64,
    upto: i64,
    drain: &Drain,
    (slot, wake): (i64, i64),
) -> Result<(), StoreError> {
    sqlx::query("select postrider.outbox_append($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(shard)
        .bind(cursor)
        .bind(upto)
        .bind(&drain.buckets)
        .bind(&drain.partitions)
        .bind(&drain.counts)
        .bind(&drain.records)
        .bind(slot)
        .bind(wake)
        .fetch_all(conn)
        .await?;
    Ok(())
}

/// Empties tables of a shard in which everything is appended. Returns how many.
pub async fn empty(conn: &mut PgConnection, shard: i16) -> Result<i32, StoreError> {
    let emptied = sqlx::query_scalar("select postrider.outbox_empty($1)").bind(shard);
    Ok(emptied.fetch_one(conn).await?)
}
