//! ② Append and ③ read. A partition's log is a chain of segments, each in one bucket; what was
//! appended is found by asking the database, and what was appended here a moment ago is also in
//! the tail cache.
//!
//! Readers meet appends in two places only: the database, and [`partition::Partition::signal`].

mod ahead;
pub mod append;
mod partition;
mod poll;
pub mod read;
pub mod replicated;
mod tail;
pub mod wakeup;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use ahead::AheadBudget;
use bytes::Bytes;
pub use partition::Partition;
pub use read::{Page, Position, ReadError, ReadRequest};
use replicated::Confirmations;
pub use replicated::ReplicationError;
use tail::TailBudget;
use tokio::{sync::watch, time::Instant};

use crate::{
    lifecycle::Lifecycle,
    model::PartitionId,
    store::{self, Database},
};

/// Messages that were appended together, as they lie in the log.
#[derive(Clone, Debug)]
pub struct LogBatch {
    /// The offset of the first message.
    pub base_offset: i64,
    /// The offset of the last message.
    pub last_offset: i64,
    /// The database's time of the append, in ms since 1970.
    pub appended_ms: i64,
    /// Record batches, one behind the other.
    pub records: Bytes,
}

/// This node's view of the log. Clones share it.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    lifecycle: Lifecycle,
    node: OnceLock<i64>,
    partitions: Mutex<HashMap<PartitionId, Arc<Partition>>>,
    tails: TailBudget,
    ahead: AheadBudget,
    confirmations: Confirmations,
    /// When the last look at other nodes' wakes began that came to its end. Whatever was
    /// committed before that moment has been signalled.
    looked: watch::Sender<Option<Instant>>,
}

impl Log {
    /// A view of the log in `database`.
    pub fn new(database: Database, lifecycle: Lifecycle) -> Self {
        let shared = Shared {
            database,
            lifecycle,
            node: OnceLock::new(),
            partitions: Mutex::default(),
            tails: TailBudget::default(),
            ahead: AheadBudget::default(),
            confirmations: Confirmations::default(),
            looked: watch::Sender::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Enters this node into the registry, once, before the database is used for anything else.
    pub async fn register(
        &self,
        session: &mut store::Session,
        name: &str,
    ) -> Result<(), store::StoreError> {
        if self.shared.node.get().is_none() {
            let node = store::nodes::register(session, name).await?;
            let _ = self.shared.node.set(node);
        }
        Ok(())
    }

    /// This node's number in the registry; 0 until it is registered.
    pub fn node(&self) -> i64 {
        self.shared.node.get().copied().unwrap_or_default()
    }

    /// The database that holds the log.
    pub fn database(&self) -> &Database {
        &self.shared.database
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PartitionId, Arc<Partition>>> {
        // Nothing panics while it holds this lock, and a map is whole at every step.
        self.shared.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node knows of a partition, from now on kept while anybody reads.
    pub fn partition(&self, id: PartitionId) -> Arc<Partition> {
        Arc::clone(self.lock().entry(id).or_insert_with(|| Arc::new(Partition::new(id))))
    }

    /// Tells local readers of an append that is committed.
    pub fn appended(&self, id: PartitionId, batch: LogBatch) {
        // Nobody here reads a partition without an entry: there is nothing to keep or wake.
        let partition = self.lock().get(&id).cloned();
        if let Some(partition) = partition {
            self.shared.tails.push(&partition, batch);
            partition.signal();
        }
    }

    /// Makes readers of these partitions look again.
    pub fn wake(&self, ids: impl IntoIterator<Item = PartitionId>) {
        for id in ids {
            let partition = self.lock().get(&id).cloned();
            if let Some(partition) = partition {
                partition.signal();
            }
        }
    }

    /// Makes every reader look again.
    pub fn wake_all(&self) {
        let all: Vec<_> = self.lock().values().cloned().collect();
        for partition in all {
            partition.signal();
        }
    }

    /// Lets go of pages that were fetched ahead for nobody.
    pub fn forget_stale_pages(&self) {
        for partition in self.lock().values() {
            partition.ahead().forget_stale();
        }
    }

    /// Forgets partitions that nobody has asked about since the last call.
    pub fn forget_idle(&self) {
        self.lock().retain(|_, partition| {
            let used = Arc::strong_count(partition) > 1 || partition.take_used();
            if !used {
                self.shared.tails.release(partition);
            }
            used
        });
    }
}
