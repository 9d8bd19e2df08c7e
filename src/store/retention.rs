//! Low watermarks, and what becomes of what they hide.

use std::time::Duration;

use sqlx::{PgConnection, Row};

use super::StoreError;
use crate::model::PartitionId;

/// What a look at one partition found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Which partition.
    pub partition: PartitionId,
    /// Its low watermark.
    pub low: i64,
    /// After which time something may have to be hidden; none: not before something is appended.
    pub due: Option<Duration>,
    /// Whether appends may hide something, however young it is.
    pub by_bytes: bool,
    /// Whether what is hidden has to be removed by [`purge`], since its bucket stays.
    pub purges: bool,
}

/// Hides what is beyond the limits of these partitions' topics and tells all nodes. Partitions of
/// topics that are gone are left out of the answer.
pub async fn retain(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<Retained>, StoreError> {
    let rows = sqlx::query("select * from postrider.retain($1)").bind(ids).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let due: Option<i64> = row.try_get(2)?;
            Ok(Retained {
                partition: PartitionId(row.try_get(0)?),
                low: row.try_get(1)?,
                due: due.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default())),
                by_bytes: row.try_get(3)?,
                purges: row.try_get(4)?,
            })
        })
        .collect()
}

/// Partitions behind `after` that ever held a message, by id, at most `limit`.
pub async fn written(
    conn: &mut PgConnection,
    after: i64,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    let ids = sqlx::query_scalar(
        "select distinct partition_id from postrider.segments
         where partition_id > $1 order by partition_id limit $2",
    );
    Ok(ids.bind(after).bind(limit).fetch_all(conn).await?)
}

/// Removes at most `rows` hidden rows of a partition from `from` on. Returns how many went and
/// below which offset nothing is left.
pub async fn purge(
    conn: &mut PgConnection,
    partition: PartitionId,
    from: i64,
    rows: i32,
) -> Result<(i32, i64), StoreError> {
    let row = sqlx::query("select removed, next_offset from postrider.purge_hidden($1, $2, $3)")
        .bind(partition.0)
        .bind(from)
        .bind(rows)
        .fetch_one(conn)
        .await?;
    Ok((row.try_get(0)?, row.try_get::<Option<i64>, _>(1)?.unwrap_or(i64::MAX)))
}

/// Takes what is left of partitions of deleted topics behind `after`, at most `rows` rows of
/// messages and `partitions` partitions. Returns where to go on; none: that was the last.
pub async fn forget_deleted(
    conn: &mut PgConnection,
    after: i64,
    partitions: i32,
    rows: i32,
) -> Result<Option<i64>, StoreError> {
    let last = sqlx::query_scalar("select last_id from postrider.forget_deleted($1, $2, $3)");
    Ok(last.bind(after).bind(partitions).bind(rows).fetch_one(conn).await?)
}
