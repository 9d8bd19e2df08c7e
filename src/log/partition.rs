//! What one node knows of one partition: its segments as last read, its newest batches, and the
//! readers that wait for more. All of it may be stale or missing; none of it decides anything.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{Notify, futures::Notified};

use super::{ahead::Ahead, tail::Tail};
use crate::{
    model::PartitionId,
    store::read::{Segment, Watermarks},
};

/// Watermarks as they were when a watch of that generation was taken.
#[derive(Clone, Copy, Debug)]
struct Seen {
    watermarks: Watermarks,
    generation: u64,
}

/// One partition as this node sees it.
#[derive(Debug)]
pub struct Partition {
    id: PartitionId,
    segments: Mutex<Option<Arc<[Segment]>>>,
    tail: Mutex<Tail>,
    seen: Mutex<Option<Seen>>,
    ahead: Ahead,
    generation: AtomicU64,
    low_moves: AtomicU64,
    changed: Notify,
    used: AtomicBool,
}

/// A place in the queue of those who are told of a change. It is taken before one looks, so that
/// a change between looking and waiting is not missed.
pub struct Watch<'a> {
    partition: &'a Partition,
    seen: u64,
}

impl Watch<'_> {
    /// Remembers watermarks that were read after this watch was taken.
    pub(super) fn remember(&self, watermarks: Watermarks) {
        let seen = Seen { watermarks, generation: self.seen };
        *self.partition.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }

    /// The watermarks last remembered, if nothing has changed from then to this watch.
    pub(super) fn remembered(&self) -> Option<Watermarks> {
        let seen = self.partition.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.filter(|seen| seen.generation == self.seen).map(|seen| seen.watermarks)
    }

    /// Completes when the partition has changed since the watch was taken.
    pub async fn changed(self) {
        loop {
            let mut notified: std::pin::Pin<&mut Notified<'_>> =
                std::pin::pin!(self.partition.changed.notified());
            notified.as_mut().enable();
            if self.partition.generation.load(Ordering::Acquire) != self.seen {
                return;
            }
            notified.await;
        }
    }
}

impl Partition {
    pub(super) fn new(id: PartitionId) -> Self {
        Self {
            id,
            segments: Mutex::default(),
            tail: Mutex::default(),
            seen: Mutex::default(),
            ahead: Ahead::default(),
            generation: AtomicU64::new(0),
            low_moves: AtomicU64::new(0),
            changed: Notify::new(),
            used: AtomicBool::new(true),
        }
    }

    /// Which partition.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Watches for appends, deletion and everything else that is worth a look.
    pub fn watch(&self) -> Watch<'_> {
        self.used.store(true, Ordering::Relaxed);
        Watch { partition: self, seen: self.generation.load(Ordering::Acquire) }
    }

    /// Makes everyone who watches look again.
    pub fn signal(&self) {
        self.generation.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Notes that the low watermark has moved: what was read before is told to nobody any more.
    pub(super) fn low_moved(&self) {
        self.low_moves.fetch_add(1, Ordering::Release);
        self.ahead.forget();
        self.signal();
    }

    /// How often the low watermark moved, as far as this node knows. One that was read while this
    /// number stood is the one that counts.
    pub(super) fn low_moves(&self) -> u64 {
        self.low_moves.load(Ordering::Acquire)
    }

    /// Whether anybody watched since the last call.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    pub(super) fn segments(&self) -> Option<Arc<[Segment]>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_segments(&self, segments: Arc<[Segment]>) {
        *self.segments.lock().unwrap_or_else(PoisonError::into_inner) = Some(segments);
    }

    pub(super) fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    pub(super) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
