//! ① Publishing: a request's messages are spread over partitions, join the open flush of their
//! slot, and are answered when that flush is committed.
//!
//! There is one slot for each retention class and durability, with one flush in flight. More
//! slots only make thinner flushes, and a paused standby must not hold up `local` topics.

mod chain;
mod flush;
pub mod layout;
mod partitioner;
mod refused;
mod slot;
mod terms;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

pub use chain::{Chain, Link};
pub use partitioner::partition_of_key;
pub use slot::{Acking, Offsets, Part, Parts};
use slot::{Asked, Slot};
pub use terms::{BodyHash, Claim, ClaimKey, MarkKey, RequestKey, Running, RunningKey, Terms};

use crate::{
    lifecycle::Lifecycle,
    log::Log,
    model::{
        Clock, PartitionId,
        topic::{Compression, Durability, RetentionClass},
    },
    store::Incarnation,
};

/// Why a publish was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Nothing happened: this partition is in another class now, look it up again.
    #[error("partition {0} has moved to another class")]
    Moved(PartitionId),
    /// Nothing happened: there is no such partition any more.
    #[error("partition {0} is gone")]
    Gone(PartitionId),
    /// Nothing happened: the next offset is not the expected one.
    #[error("the next offset is {next_offset}")]
    WrongOffset {
        /// The next offset.
        next_offset: i64,
    },
    /// Nothing happened: the claim stands for a request that asked for something else.
    #[error("the claim stands for another request")]
    BodyDiffers,
    /// Nothing happened: nobody remembers whether this sequence was appended before.
    #[error("the sequence lies below the newest ones of its producer")]
    SequenceTooOld,
    /// Nothing happened by this one: a request with the same key is running.
    #[error("a request with this key is running")]
    InProgress,
    /// Nothing happened: a request of the same producer before it failed and has to come first.
    #[error("a request of this producer has to come first")]
    OutOfTurn,
    /// Nothing happened: more is waiting than the node takes on.
    #[error("too many messages are waiting for the database")]
    Overloaded,
    /// Nothing happened: the database cannot be reached or did not get to it in time.
    #[error("the database cannot be reached")]
    Unavailable,
    /// Nothing happened: the database has no space left.
    #[error("the database has no space left")]
    StorageFull,
    /// Nothing happened: the database has no synchronous standby that could hold it.
    #[error("the database has no synchronous standby")]
    NoStandby,
    /// It may have happened.
    #[error("the database did not say whether it happened")]
    OutcomeUnknown,
    /// Nothing happened: the node is stopping.
    #[error("the node is stopping")]
    Draining,
}

/// How a publish was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acked {
    /// For each part, in the same order, the offset of its first message.
    Appended(Offsets),
    /// It was appended when it came before: partition and offset of each message.
    Repeated(Vec<(u32, i64)>),
}

/// Where the flushes of one request go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The class of the topic's retention.
    pub class: RetentionClass,
    /// What its acknowledgements mean.
    pub durability: Durability,
    /// How its batches are compressed.
    pub compression: Compression,
    /// In which incarnation of the log its partitions were looked up.
    pub incarnation: Option<Incarnation>,
}

const SLOTS: usize = RetentionClass::ALL.len() * 2;

impl Lane {
    fn slot(self) -> usize {
        let class = self.class as usize - RetentionClass::Hour as usize;
        class * 2 + usize::from(self.durability == Durability::Replicated)
    }
}

/// The way into the log. Clones share it.
#[derive(Clone, Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Log,
    lifecycle: Lifecycle,
    clock: Clock,
    slots: [OnceLock<Arc<Slot>>; SLOTS],
    turns: AtomicU64,
    running: Running,
}

impl Publisher {
    /// A publisher into `log`.
    pub fn new(log: Log, lifecycle: Lifecycle, clock: Clock) -> Self {
        let (slots, turns) = (Default::default(), AtomicU64::new(0));
        let shared = Shared { log, lifecycle, clock, slots, turns, running: Running::default() };
        Self { shared: Arc::new(shared) }
    }

    /// A number for messages without a key to choose their partition by. It stays the same for
    /// requests of one flush until they have brought [`limits::STICKY_BYTES`], as with Kafka's
    /// sticky partitioner (KIP-480, KIP-794): small requests share a row, and no row becomes so
    /// large that PostgreSQL allocates its memory anew for each.
    pub fn sticky_turn(&self, lane: Lane, bytes: usize) -> u64 {
        self.slot(lane).sticky_turn(bytes)
    }

    /// The next number of a count that goes round, for messages that are to be spread evenly.
    pub fn next_turn(&self) -> u64 {
        self.shared.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Appends `parts`, all or nothing. A request with a claim is appended once, and every repeat
    /// of it gets the answer of the first.
    pub async fn publish(
        &self,
        lane: Lane,
        parts: Parts,
        terms: Terms,
    ) -> Result<Acked, PublishError> {
        self.submit(lane, parts, terms)?.await
    }

    /// The same without waiting: `parts` stand behind all that were submitted before with a lane
    /// of the same class and durability, and the answer comes later.
    pub fn submit(&self, lane: Lane, parts: Parts, terms: Terms) -> Result<Acking, PublishError> {
        let running = match &terms.claim {
            Some(claim) => self.shared.running.enter_claim(claim)?,
            None => None,
        };
        let terms = (!terms.is_empty()).then(|| Box::new(terms));
        self.slot(lane).join(Asked { parts, terms, running, lane })
    }

    fn slot(&self, lane: Lane) -> &Slot {
        let shared = &self.shared;
        shared.slots[lane.slot()].get_or_init(|| {
            let slot = Arc::new(Slot::new());
            let flusher =
                flush::Flusher::new(Arc::clone(&slot), shared.log.clone(), shared.clock, lane);
            shared.lifecycle.spawn(flusher.run(shared.lifecycle.clone()));
            slot
        })
    }
}
