//! This node among others.

use tokio::time::{Duration, Instant, timeout};

use super::Log;
use crate::{
    model::limits,
    store::{
        self, StoreError,
        nodes::{Heartbeat, NodeRow, NodeState},
    },
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long a node that has stopped waits to say so: the others find out by themselves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What this node is in the registry.
#[derive(Debug)]
pub(super) struct Registered {
    id: i64,
    name: String,
    since: Instant,
}

impl Log {
    /// Enters this node into the registry, once, before the database is used for anything else.
    pub async fn register(
        &self,
        session: &mut store::Session,
        name: &str,
    ) -> Result<(), StoreError> {
        if self.shared.node.get().is_none() {
            let id = store::nodes::register(session, name, VERSION).await?;
            let (name, since) = (name.to_owned(), Instant::now());
            let _ = self.shared.node.set(Registered { id, name, since });
        }
        Ok(())
    }

    /// This node's number in the registry; 0 until it is registered.
    pub fn node(&self) -> i64 {
        self.shared.node.get().map_or(0, |node| node.id)
    }

    /// Says that this node lives, and learns whether others do.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let Some(node) = self.shared.node.get() else { return Ok(()) };
        let is_draining = self.shared.lifecycle.is_draining();
        let heartbeat = Heartbeat {
            id: node.id,
            name: &node.name,
            version: VERSION,
            state: if is_draining { NodeState::Draining } else { NodeState::Serving },
            uptime_ms: i64::try_from(node.since.elapsed().as_millis()).unwrap_or(i64::MAX),
        };
        let mut session = self.shared.database.acquire().await?;
        let others = store::nodes::heartbeat(&mut session, heartbeat).await?;
        self.shared.notifications.set_others(others);
        Ok(())
    }

    /// Takes this node out of the registry when it has finished everything.
    pub async fn leave(&self) {
        let Some(node) = self.shared.node.get() else { return };
        let left = timeout(LEAVE_TIMEOUT, async {
            let mut session = self.shared.database.acquire().await?;
            store::nodes::leave(&mut session, node.id).await
        });
        match left.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the registry was not told of the end"),
            Err(_) => tracing::debug!("the registry was not told of the end in time"),
        }
    }

    /// Nodes that have not stopped, by id: those above `after` whose name begins with `prefix`.
    pub async fn nodes(
        &self,
        prefix: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<NodeRow>, StoreError> {
        let listed = timeout(limits::DATABASE_ANSWER_TIMEOUT, async {
            let mut session = self.shared.database.acquire().await?;
            store::nodes::list(&mut session, prefix, after, limit).await
        });
        listed.await.unwrap_or_else(|_| Err(StoreError::Unreachable("no answer".to_owned())))
    }
}
