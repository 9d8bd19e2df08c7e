//! Wakes: how a node learns what others appended.

use sqlx::{PgConnection, Row};

use super::StoreError;
use crate::model::PartitionId;

/// What one slot told since it was last read.
#[derive(Clone, Debug)]
pub struct Wake {
    /// Which slot.
    pub slot: i64,
    /// Its last wake.
    pub n: i64,
    /// Which partitions grew.
    pub partitions: Vec<PartitionId>,
}

/// Whether a slot tells of what maintenance did: low watermarks that moved. Slot 0 is that of
/// dropped buckets, -1 that of retention.
pub fn is_maintenance(slot: i64) -> bool {
    slot <= 0
}

/// Opens a slot, committed before its first flush.
pub async fn open_slot(conn: &mut PgConnection, node: i64) -> Result<i64, StoreError> {
    let slot = sqlx::query_scalar("select postrider.open_wake_slot($1)").bind(node);
    let mut opened = slot.fetch_all(conn).await?;
    opened.pop().ok_or_else(|| StoreError::Shape("a slot without a number".to_owned()))
}

/// What other nodes' slots told beyond `seen`, pairs of slot and n.
pub async fn since(
    conn: &mut PgConnection,
    own_node: i64,
    seen: &[(i64, i64)],
) -> Result<Vec<Wake>, StoreError> {
    let (slots, ns): (Vec<i64>, Vec<i64>) = seen.iter().copied().unzip();
    let rows = sqlx::query("select slot, n, partition_ids from postrider.wakes_since($1, $2, $3)")
        .bind(own_node)
        .bind(slots)
        .bind(ns)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let ids: Vec<i64> = row.try_get(2)?;
            Ok(Wake {
                slot: row.try_get(0)?,
                n: row.try_get(1)?,
                partitions: ids.into_iter().map(PartitionId).collect(),
            })
        })
        .collect()
}

/// Where every slot stands: pairs of slot and its last n.
pub async fn positions(conn: &mut PgConnection) -> Result<Vec<(i64, i64)>, StoreError> {
    let rows = sqlx::query(
        "select s.slot, coalesce((select w.n from postrider.wakes w
           where w.slot = s.slot order by w.n desc limit 1), 0)
         from postrider.wake_slots s",
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Removes the wakes of `slot` below `n`, which is remembered from before: the newest stays, so
/// that positions never fall.
pub async fn prune(conn: &mut PgConnection, slot: i64, n: i64) -> Result<u64, StoreError> {
    let done = sqlx::query("delete from postrider.wakes where slot = $1 and n < $2")
        .bind(slot)
        .bind(n)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Removes the slots of nodes that have been silent for ten minutes, and what is left of them.
pub async fn prune_slots(conn: &mut PgConnection) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "with gone as (
           delete from postrider.wake_slots s
           where s.node_id <> 0 and not exists (
             select from postrider.nodes n
             where n.node_id = s.node_id
               and n.heartbeat_at > clock_timestamp() - interval '10 minutes')
           returning s.slot)
         delete from postrider.wakes w using gone where w.slot = gone.slot",
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
