//! Reading the log: segments, watermarks, and batches of one bucket.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, PgConnection, Row};
use time::OffsetDateTime;

use super::{StoreError, append::unix_ms};
use crate::model::{BucketId, PartitionId};

/// A partition's part in one bucket, as it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub first_offset: i64,
    /// Where it ends, once that is known for good.
    pub end_offset: Option<i64>,
    /// Which bucket holds it.
    pub bucket: BucketId,
}

/// One stored row: messages that were appended together.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// The offset of its first message.
    pub base_offset: i64,
    /// The offset of its last message.
    pub last_offset: i64,
    /// The database's time of the append, in ms.
    pub appended_ms: i64,
    /// Record batches.
    pub records: Vec<u8>,
}

/// Both ends of what can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that can be read.
    pub low: i64,
    /// The offset of the next message.
    pub high: i64,
}

/// What a bucket has of a partition.
#[derive(Clone, Debug, Default)]
pub struct BucketPage {
    /// Whole rows, oldest first.
    pub batches: Vec<StoredBatch>,
    /// The low watermark, read after the rows; none when the partition is gone.
    pub low: Option<i64>,
    /// The high watermark; none when the newest segment lies in another bucket.
    pub high: Option<i64>,
}

/// From where to where a read goes.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first offset wanted.
    pub from_offset: i64,
    /// The first one not wanted.
    pub until_offset: i64,
    /// About how many bytes; at least one row comes.
    pub max_bytes: i64,
}

/// All segments of a partition, the oldest first.
pub async fn segments(
    conn: &mut PgConnection,
    partition: PartitionId,
) -> Result<Vec<Segment>, StoreError> {
    let rows = sqlx::query(
        "select first_offset, end_offset, bucket_id from postrider.segments
         where partition_id = $1 order by first_offset",
    )
    .bind(partition.0)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Segment {
                first_offset: row.try_get(0)?,
                end_offset: row.try_get(1)?,
                bucket: BucketId(row.try_get(2)?),
            })
        })
        .collect()
}

/// Both watermarks; none when the partition is gone.
pub async fn watermarks(
    conn: &mut PgConnection,
    partition: PartitionId,
) -> Result<Option<Watermarks>, StoreError> {
    let row = sqlx::query("select low, high from postrider.watermarks($1)")
        .bind(partition.0)
        .fetch_optional(conn)
        .await?;
    row.map(|row| Ok(Watermarks { low: row.try_get(0)?, high: row.try_get(1)? })).transpose()
}

/// The first offset appended at or after a time in ms since 1970.
pub async fn offset_at(
    conn: &mut PgConnection,
    partition: PartitionId,
    at_ms: i64,
) -> Result<i64, StoreError> {
    let offset = sqlx::query_scalar(
        "select postrider.offset_at($1, to_timestamp($2::float8 / 1000)::timestamptz)",
    )
    .bind(partition.0)
    .bind(at_ms)
    .fetch_one(conn)
    .await?;
    Ok(offset)
}

/// Batches of `partition` from one bucket. [`super::error::Refusal::Missing`] means that the
/// bucket went.
pub async fn bucket_page(
    conn: &mut PgConnection,
    bucket: BucketId,
    partition: PartitionId,
    range: Range,
) -> Result<BucketPage, StoreError> {
    let sql: Arc<str> = format!("select * from postrider.read_{bucket}($1, $2, $3, $4)").into();
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(partition.0)
        .bind(range.from_offset)
        .bind(range.until_offset)
        .bind(range.max_bytes)
        .fetch_all(conn)
        .await?;
    let mut page = BucketPage::default();
    page.batches.reserve(rows.len());
    for row in &rows {
        match row.try_get::<Option<Vec<u8>>, _>(3)? {
            Some(records) => page.batches.push(StoredBatch {
                base_offset: row.try_get(0)?,
                last_offset: row.try_get(1)?,
                appended_ms: unix_ms(row.try_get::<OffsetDateTime, _>(2)?),
                records,
            }),
            None => {
                page.low = row.try_get(0)?;
                page.high = row.try_get(1)?;
            }
        }
    }
    Ok(page)
}
