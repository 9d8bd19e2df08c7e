//! The registry of nodes.

use sqlx::{PgConnection, Row};

use super::StoreError;
use crate::model::limits;

/// What a node does, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It serves.
    Serving,
    /// It finishes what it has and takes nothing new.
    Draining,
}

impl NodeState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        let all = [Self::Serving, Self::Draining];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| StoreError::Shape(format!("'{text}' is no state of a node")))
    }
}

/// A node as the registry shows it.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// Its id, which is never used again.
    pub id: i64,
    /// Its name, which others may have too.
    pub name: String,
    /// The version of its program; empty for one from before versions were told.
    pub version: String,
    /// What it said of itself last.
    pub state: NodeState,
    /// When it started, in ms since 1970.
    pub started_ms: i64,
    /// When it was last heard of, in ms since 1970.
    pub heartbeat_ms: i64,
    /// How long ago that was, by the database's clock, in ms.
    pub silent_ms: i64,
}

/// Enters a node and returns its id, which is never used again.
pub async fn register(
    conn: &mut PgConnection,
    name: &str,
    version: &str,
) -> Result<i64, StoreError> {
    let sql = "insert into postrider.nodes (name, version) values ($1, $2) returning node_id";
    let id = sqlx::query_scalar(sql).bind(name).bind(version);
    let mut ids = id.fetch_all(conn).await?;
    ids.pop().ok_or_else(|| StoreError::Shape("a node without an id".to_owned()))
}

/// What a node says of itself when it says that it lives.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat<'a> {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: &'a str,
    /// The version of its program.
    pub version: &'a str,
    /// What it does.
    pub state: NodeState,
    /// For how many ms it has run.
    pub uptime_ms: i64,
}

/// Says that a node lives; returns whether another one does. One that was silent for so long that
/// it was removed enters again.
pub async fn heartbeat(conn: &mut PgConnection, node: Heartbeat<'_>) -> Result<bool, StoreError> {
    let others = sqlx::query_scalar(
        "insert into postrider.nodes (node_id, name, version, state, started_at)
         overriding system value
         values ($1, $2, $3, $4, clock_timestamp() - $5 * interval '1 ms')
         on conflict (node_id) do update
           set heartbeat_at = clock_timestamp(), state = excluded.state
         returning exists (
           select from postrider.nodes n
           where n.node_id <> $1 and n.state <> 'stopped'
             and n.heartbeat_at > clock_timestamp() - $6 * interval '1 ms')",
    )
    .bind(node.id)
    .bind(node.name)
    .bind(node.version)
    .bind(node.state.as_str())
    .bind(node.uptime_ms)
    .bind(silence_ms())
    .fetch_one(conn)
    .await?;
    Ok(others)
}

fn silence_ms() -> i64 {
    i64::try_from(limits::NODE_SILENCE.as_millis()).unwrap_or(i64::MAX)
}

/// Takes a node that has stopped out of the lists. Its row stays until its wakes were read.
pub async fn leave(conn: &mut PgConnection, node: i64) -> Result<(), StoreError> {
    sqlx::query(
        "update postrider.nodes set state = 'stopped', heartbeat_at = clock_timestamp()
         where node_id = $1",
    )
    .bind(node)
    .execute(conn)
    .await?;
    Ok(())
}

/// Nodes that have not stopped, by id: those above `after` whose name begins with `prefix`.
pub async fn list(
    conn: &mut PgConnection,
    prefix: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<NodeRow>, StoreError> {
    let rows = sqlx::query(
        "select node_id, name, version, state,
           floor(extract(epoch from started_at) * 1000)::bigint,
           floor(extract(epoch from heartbeat_at) * 1000)::bigint,
           floor(extract(epoch from clock_timestamp() - heartbeat_at) * 1000)::bigint
         from postrider.nodes
         where node_id > $1 and state <> 'stopped' and starts_with(name, $2)
         order by node_id limit $3",
    )
    .bind(after)
    .bind(prefix)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let node = |row: &sqlx::postgres::PgRow| {
        Ok(NodeRow {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            version: row.try_get(2)?,
            state: NodeState::parse(row.try_get(3)?)?,
            started_ms: row.try_get(4)?,
            heartbeat_ms: row.try_get(5)?,
            silent_ms: row.try_get(6)?,
        })
    };
    rows.iter().map(node).collect()
}

/// Removes nodes that have been silent for a day, and those that stopped ten minutes ago: by then
/// their slots of wakes have gone too.
pub async fn prune(conn: &mut PgConnection) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from postrider.nodes
         where heartbeat_at < clock_timestamp() - interval '1 day'
           or (state = 'stopped' and heartbeat_at < clock_timestamp() - interval '10 minutes')",
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
