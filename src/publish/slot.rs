//! A slot: the requests that wait for the next flush. A request joins whole, so one request's
//! messages never split over two flushes.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use smallvec::SmallVec;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::PublishError;
use crate::{
    model::{PartitionId, limits, topic::Compression},
    record::RecordBuffer,
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
    ticket: u64,
    pub(super) parts: Parts,
    pub(super) compression: Compression,
    pub(super) reply: oneshot::Sender<Result<Offsets, PublishError>>,
}

impl Pending {
    pub(super) fn messages(&self) -> usize {
        self.parts.iter().map(|part| part.records.len()).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.records.bytes()).sum()
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    waiting: Mutex<Waiting>,
    pub(super) filled: Notify,
    flushes: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Pending>,
    messages: usize,
    bytes: usize,
    next_ticket: u64,
    closed: bool,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), filled: Notify::new(), flushes: AtomicU64::new(0) }
    }

    pub(super) fn flush_number(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn publish(
        &self,
        parts: Parts,
        compression: Compression,
    ) -> Result<Offsets, PublishError> {
        let (ticket, answer) = self.join(parts, compression)?;
        match timeout(limits::PUBLISH_WAIT_MAX, answer).await {
            Ok(Ok(result)) => result,
            // The flusher ended without a word: it had the request in hand.
            Ok(Err(_)) => Err(PublishError::OutcomeUnknown),
            // Taken back before it was sent, nothing happened; else nobody knows yet.
            Err(_) if self.withdraw(ticket) => Err(PublishError::Unavailable),
            Err(_) => Err(PublishError::OutcomeUnknown),
        }
    }

    fn join(
        &self,
        parts: Parts,
        compression: Compression,
    ) -> Result<(u64, oneshot::Receiver<Result<Offsets, PublishError>>), PublishError> {
        let (reply, answer) = oneshot::channel();
        let mut pending = Pending { ticket: 0, parts, compression, reply };
        let (messages, bytes) = (pending.messages(), pending.bytes());
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(PublishError::Draining);
        }
        if waiting.messages + messages > limits::SLOT_MESSAGES_MAX
            || waiting.bytes + bytes > limits::SLOT_BYTES_MAX
        {
            return Err(PublishError::Overloaded);
        }
        let ticket = waiting.next_ticket;
        waiting.next_ticket += 1;
        waiting.messages += messages;
        waiting.bytes += bytes;
        pending.ticket = ticket;
        let first = waiting.requests.is_empty();
        waiting.requests.push_back(pending);
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
        Ok((ticket, answer))
    }

    fn withdraw(&self, ticket: u64) -> bool {
        let mut waiting = self.lock();
        let Some(at) = waiting.requests.iter().position(|pending| pending.ticket == ticket) else {
            return false;
        };
        if let Some(pending) = waiting.requests.remove(at) {
            waiting.messages -= pending.messages();
            waiting.bytes -= pending.bytes();
        }
        true
    }

    /// The requests of the next flush, in the order they came, up to its bounds; a request that
    /// is over them goes alone.
    pub(super) fn take(&self) -> Vec<Pending> {
        let mut waiting = self.lock();
        let (mut messages, mut bytes, mut parts) = (0, 0, 0);
        let mut count = 0;
        for pending in &waiting.requests {
            let more = (pending.messages(), pending.bytes(), pending.parts.len());
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
