//! A slot: the requests that wait for the next flush. A request joins whole, so one request's
//! messages never split over two flushes.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use smallvec::SmallVec;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{Lane, PublishError};
use crate::{
    model::{PartitionId, limits, topic::Compression},
    record::RecordBuffer,
    store::Incarnation,
};

/// Messages of one request for one partition.
#[derive(Debug)]
pub struct Part {
    /// Where they go.
    pub partition: PartitionId,
    /// The messages.
    pub records: RecordBuffer,
}

/// The parts of one request, each partition at most once.
pub type Parts = SmallVec<[Part; 1]>;
/// For each part, in the same order, the offset of its first message.
pub type Offsets = SmallVec<[i64; 1]>;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Pending {
    joined: Instant,
    messages: usize,
    bytes: usize,
    pub(super) parts: Parts,
    pub(super) compression: Compression,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) reply: oneshot::Sender<Result<Offsets, PublishError>>,
}

impl Pending {
    fn new(
        parts: Parts,
        lane: Lane,
        reply: oneshot::Sender<Result<Offsets, PublishError>>,
    ) -> Self {
        let Lane { compression, incarnation, .. } = lane;
        let messages = parts.iter().map(|part| part.records.len()).sum();
        let bytes = parts.iter().map(|part| part.records.bytes()).sum();
        Self { joined: Instant::now(), messages, bytes, parts, compression, incarnation, reply }
    }

    /// Answers that the topic is to be looked up again: nothing happened.
    pub(super) fn moved(self) {
        let partition = self.parts.first().map_or(PartitionId(0), |part| part.partition);
        // Whoever asked may have gone.
        let _ = self.reply.send(Err(PublishError::Moved(partition)));
    }

    pub(super) fn waited(&self) -> Duration {
        self.joined.elapsed()
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    waiting: Mutex<Waiting>,
    pub(super) filled: Notify,
    flushes: AtomicU64,
    sticky_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Pending>,
    messages: usize,
    bytes: usize,
    closed: bool,
}

impl Slot {
    pub(super) fn new() -> Self {
        let (flushes, sticky_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { waiting: Mutex::default(), filled: Notify::new(), flushes, sticky_bytes }
    }

    pub(super) fn sticky_turn(&self, bytes: usize) -> u64 {
        let before = self.sticky_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.flushes.load(Ordering::Relaxed).wrapping_add(before / limits::STICKY_BYTES)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn publish(&self, parts: Parts, lane: Lane) -> Result<Offsets, PublishError> {
        let answer = self.join(parts, lane)?;
        // The flusher answers in time. One that ended without a word had the request in hand.
        answer.await.unwrap_or(Err(PublishError::OutcomeUnknown))
    }

    fn join(
        &self,
        parts: Parts,
        lane: Lane,
    ) -> Result<oneshot::Receiver<Result<Offsets, PublishError>>, PublishError> {
        let (reply, answer) = oneshot::channel();
        let pending = Pending::new(parts, lane, reply);
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(PublishError::Draining);
        }
        if waiting.messages + pending.messages > limits::SLOT_MESSAGES_MAX
            || waiting.bytes + pending.bytes > limits::SLOT_BYTES_MAX
        {
            return Err(PublishError::Overloaded);
        }
        waiting.messages += pending.messages;
        waiting.bytes += pending.bytes;
        let first = waiting.requests.is_empty();
        waiting.requests.push_back(pending);
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
        Ok(answer)
    }

    /// Answers the requests that have waited for too long: they were not sent, nothing happened.
    pub(super) fn expire(&self) {
        let now = Instant::now();
        let mut waiting = self.lock();
        while let Some(oldest) = waiting.requests.front() {
            if now.duration_since(oldest.joined) < limits::PUBLISH_WAIT_MAX {
                return;
            }
            let Some(pending) = waiting.requests.pop_front() else { return };
            waiting.messages -= pending.messages;
            waiting.bytes -= pending.bytes;
            let _ = pending.reply.send(Err(PublishError::Unavailable));
        }
    }

    /// The requests of the next flush, in the order they came, up to its bounds; a request that
    /// is over them goes alone.
    pub(super) fn take(&self) -> Vec<Pending> {
        let mut waiting = self.lock();
        let (mut messages, mut bytes, mut parts) = (0, 0, 0);
        let mut count = 0;
        for pending in &waiting.requests {
            let more = (pending.messages, pending.bytes, pending.parts.len());
            let fits = messages + more.0 <= limits::FLUSH_MESSAGES_MAX
                && bytes + more.1 <= limits::FLUSH_BYTES_MAX
                && parts + more.2 <= limits::FLUSH_PARTS_MAX;
            if !fits && count > 0 {
                break;
            }
            (messages, bytes, parts) = (messages + more.0, bytes + more.1, parts + more.2);
            count += 1;
        }
        if count == 0 {
            return Vec::new();
        }
        waiting.messages -= messages;
        waiting.bytes -= bytes;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        waiting.requests.drain(..count).collect()
    }

    /// Takes no more requests; those that wait are still flushed.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}
