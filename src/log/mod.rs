//! ② Append and ③ read. A partition's log is a chain of segments, each in one bucket; what was
//! appended is found by asking the database, and what was appended here a moment ago is also in
//! the tail cache.
//!
//! Readers meet appends in two places only: the database, and [`partition::Partition::signal`].

mod ahead;
pub mod append;
mod nodes;
mod notify;
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
use nodes::Registered;
pub use notify::News;
use notify::Notifications;
pub use partition::{Partition, Watch};
pub use poll::{Low, Parked};
pub use read::{Page, Position, ReadError, ReadRequest};
use replicated::Confirmations;
pub use replicated::ReplicationError;
use tail::TailBudget;
use tokio::{sync::watch, time::Instant};

use crate::{
    lifecycle::Lifecycle,
    model::PartitionId,
    store::{Database, Incarnation},
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
    node: OnceLock<Registered>,
    notifications: Notifications,
    known: Mutex<Known>,
    tails: TailBudget,
    ahead: AheadBudget,
    confirmations: Confirmations,
    /// When the last look at other nodes' wakes began that came to its end. Whatever was
    /// committed before that moment has been signalled.
    looked: watch::Sender<Option<Instant>>,
}

/// What this node knows of partitions, all of it under one incarnation of the log: under another
/// one a partition's number and its offsets may mean something else.
#[derive(Debug, Default)]
struct Known {
    incarnation: Option<Incarnation>,
    partitions: HashMap<PartitionId, Arc<Partition>>,
}

impl Log {
    /// A view of the log in `database`.
    pub fn new(database: Database, lifecycle: Lifecycle) -> Self {
        Self::notifying(true, database, lifecycle)
    }

    /// Such a view that tells and hears other nodes by NOTIFY, or does without.
    pub fn notifying(is_on: bool, database: Database, lifecycle: Lifecycle) -> Self {
        let shared = Shared {
            database,
            lifecycle,
            node: OnceLock::new(),
            notifications: Notifications::new(is_on),
            known: Mutex::default(),
            tails: TailBudget::default(),
            ahead: AheadBudget::default(),
            confirmations: Confirmations::default(),
            looked: watch::Sender::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The database that holds the log.
    pub fn database(&self) -> &Database {
        &self.shared.database
    }

    /// Whether this node is about to stop.
    pub fn is_draining(&self) -> bool {
        self.shared.lifecycle.is_draining()
    }

    /// What is known under the incarnation as it is now; what was known under another one is
    /// forgotten here, and its readers look again.
    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds this lock, and a map is whole at every step.
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        let incarnation = self.shared.database.incarnation();
        if known.incarnation != incarnation {
            known.incarnation = incarnation;
            for (_, partition) in known.partitions.drain() {
                self.shared.tails.release(&partition);
                partition.low_moved();
            }
        }
        known
    }

    /// Makes readers look again when the log has another incarnation, until the node stops.
    pub async fn follow_incarnation(self) {
        let mut incarnations = self.shared.database.incarnations();
        loop {
            tokio::select! {
                changed = incarnations.changed() => if changed.is_err() { return },
                () = self.shared.lifecycle.draining() => return,
            }
            drop(self.lock());
        }
    }

    /// What this node knows of a partition, from now on kept while anybody reads.
    pub fn partition(&self, id: PartitionId) -> Arc<Partition> {
        let mut known = self.lock();
        Arc::clone(known.partitions.entry(id).or_insert_with(|| Arc::new(Partition::new(id))))
    }

    /// Tells local readers of an append that is committed in `incarnation`.
    pub fn appended(&self, id: PartitionId, batch: LogBatch, incarnation: Option<Incarnation>) {
        let known = self.lock();
        // The batch may not be part of the log as it is now.
        if known.incarnation != incarnation {
            return;
        }
        // Nobody here reads a partition without an entry: there is nothing to keep or wake.
        let partition = known.partitions.get(&id).cloned();
        drop(known);
        if let Some(partition) = partition {
            self.shared.tails.push(&partition, batch);
            partition.signal();
        }
    }

    /// Makes readers of these partitions look again.
    pub fn wake(&self, ids: impl IntoIterator<Item = PartitionId>) {
        self.each_known(ids, Partition::signal);
    }

    /// Makes readers of these partitions look again, in the database: low watermarks have moved.
    fn lows_moved(&self, ids: impl IntoIterator<Item = PartitionId>) {
        self.each_known(ids, Partition::low_moved);
    }

    fn each_known(&self, ids: impl IntoIterator<Item = PartitionId>, act: impl Fn(&Partition)) {
        for id in ids {
            let partition = self.lock().partitions.get(&id).cloned();
            if let Some(partition) = partition {
                act(&partition);
            }
        }
    }

    /// Whether anybody here may read.
    fn has_readers(&self) -> bool {
        !self.lock().partitions.is_empty()
    }

    /// Makes every reader look again.
    pub fn wake_all(&self) {
        let all: Vec<_> = self.lock().partitions.values().cloned().collect();
        for partition in all {
            partition.low_moved();
        }
    }

    /// Lets go of pages that were fetched ahead for nobody.
    pub fn forget_stale_pages(&self) {
        for partition in self.lock().partitions.values() {
            partition.ahead().forget_stale();
        }
    }

    /// Forgets partitions that nobody has asked about since the last call.
    pub fn forget_idle(&self) {
        self.lock().partitions.retain(|_, partition| {
            let used = Arc::strong_count(partition) > 1 || partition.take_used();
            if !used {
                self.shared.tails.release(partition);
            }
            used
        });
    }
}
