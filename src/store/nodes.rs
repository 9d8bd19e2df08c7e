//! The registry of nodes.

use sqlx::PgConnection;

use super::StoreError;

/// Enters a node and returns its id, which is never used again.
pub async fn register(conn: &mut PgConnection, name: &str) -> Result<i64, StoreError> {
    let id = sqlx::query_scalar("insert into postrider.nodes (name) values ($1) returning node_id");
    let mut ids = id.bind(name).fetch_all(conn).await?;
    ids.pop().ok_or_else(|| StoreError::Shape("a node without an id".to_owned()))
}

/// Says that a node lives. One that was silent for so long that it was removed enters again.
pub async fn heartbeat(conn: &mut PgConnection, node: i64) -> Result<(), StoreError> {
    sqlx::query(
        "insert into postrider.nodes (node_id, name) overriding system value values ($1, 'again')
         on conflict (node_id) do update set heartbeat_at = clock_timestamp()",
    )
    .bind(node)
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes nodes that have been silent for a day.
pub async fn prune(conn: &mut PgConnection) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from postrider.nodes where heartbeat_at < clock_timestamp() - interval '1 day'",
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
