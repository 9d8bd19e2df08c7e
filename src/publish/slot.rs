//! A slot: the requests that wait for the next flush. A request joins whole, so one request's
//! messages never split over two flushes.

use std::{
    collections::{HashSet, VecDeque},
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use smallvec::SmallVec;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{
    Acked, Lane, Link, PublishError, Terms,
    terms::{Claim, ClaimKey, RunningKey},
};
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
    pub(super) terms: Option<Box<Terms>>,
    running: Option<RunningKey>,
    reply: oneshot::Sender<Result<Acked, PublishError>>,
}

impl Pending {
    fn new(asked: Asked, reply: oneshot::Sender<Result<Acked, PublishError>>) -> Self {
        let Asked { parts, terms, running, lane } = asked;
        let Lane { compression, incarnation, .. } = lane;
        let messages = parts.iter().map(|part| part.records.len()).sum();
        let bytes = parts.iter().map(|part| part.records.bytes()).sum();
        Self {
            joined: Instant::now(),
            messages,
            bytes,
            parts,
            compression,
            incarnation,
            terms,
            running,
            reply,
        }
    }

    /// Answers that the topic is to be looked up again: nothing happened.
    pub(super) fn moved(self) {
        let partition = self.parts.first().map_or(PartitionId(0), |part| part.partition);
        self.answer(Err(PublishError::Moved(partition)));
    }

    pub(super) fn waited(&self) -> Duration {
        self.joined.elapsed()
    }

    /// The offset that it has to get.
    pub(super) fn expects(&self) -> Option<i64> {
        self.terms.as_ref().and_then(|terms| terms.expect_offset)
    }

    /// What makes a repeat of it known.
    pub(super) fn claim(&self) -> Option<&Claim> {
        self.terms.as_ref().and_then(|terms| terms.claim.as_deref())
    }

    /// Whether nothing that has to come before it has failed.
    pub(super) fn is_in_turn(&self) -> bool {
        let link = self.terms.as_ref().and_then(|terms| terms.link.as_ref());
        link.is_none_or(Link::is_whole)
    }

    /// Answers it. Whoever asked may have gone.
    pub(super) fn answer(self, result: Result<Acked, PublishError>) {
        if let (Err(error), Some(terms)) = (&result, &self.terms)
            && let Some(link) = &terms.link
        {
            link.ended(error);
        }
        // First, so that whoever has the answer can ask again.
        drop(self.running);
        let _ = self.reply.send(result);
    }
}

/// The answer to a request, which comes in time: the flusher sees to that.
#[derive(Debug)]
pub struct Acking(oneshot::Receiver<Result<Acked, PublishError>>);

impl Future for Acking {
    type Output = Result<Acked, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A flusher that ended without a word had the request in hand.
        let answered = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(answered.unwrap_or(Err(PublishError::OutcomeUnknown)))
    }
}

/// A request on its way into a slot.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) parts: Parts,
    pub(super) terms: Option<Box<Terms>>,
    pub(super) running: Option<RunningKey>,
    pub(super) lane: Lane,
}

/// The requests of a flush, from which single ones are taken out.
#[derive(Debug)]
pub(super) struct Pendings(Vec<Option<Pending>>);

impl From<Vec<Pending>> for Pendings {
    fn from(requests: Vec<Pending>) -> Self {
        Self(requests.into_iter().map(Some).collect())
    }
}

impl Pendings {
    /// The request at this place, if it was not taken yet.
    pub(super) fn take(&mut self, at: usize) -> Option<Pending> {
        self.0.get_mut(at)?.take()
    }

    /// Puts back what was taken from this place.
    pub(super) fn put_back(&mut self, at: usize, pending: Pending) {
        self.0[at] = Some(pending);
    }

    /// Those that were not taken, in their order.
    pub(super) fn into_rest(self) -> impl Iterator<Item = Pending> {
        self.0.into_iter().flatten()
    }
}

/// What the requests of one flush claim, each for itself alone.
#[derive(Default)]
struct Claimed<'a> {
    /// Once each: a repeat waits for the first.
    claims: HashSet<&'a ClaimKey>,
    /// Partitions of which one request expects an offset: it is the first in its batch.
    expecting: HashSet<PartitionId>,
}

impl<'a> Claimed<'a> {
    /// Whether the flush can take this request too.
    fn admits(&mut self, pending: &'a Pending) -> bool {
        if pending.terms.is_none() {
            return true;
        }
        if pending.claim().is_some_and(|claim| !self.claims.insert(&claim.key)) {
            return false;
        }
        let part = pending.parts.first().filter(|_| pending.expects().is_some());
        part.is_none_or(|part| self.expecting.insert(part.partition))
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

    pub(super) fn join(&self, asked: Asked) -> Result<Acking, PublishError> {
        let (reply, answer) = oneshot::channel();
        let pending = Pending::new(asked, reply);
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
        Ok(Acking(answer))
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
            pending.answer(Err(PublishError::Unavailable));
        }
    }

    /// The requests of the next flush, in the order they came, up to its bounds; a request that
    /// is over them goes alone. What one of them claims, those behind it have to wait for.
    pub(super) fn take(&self) -> Vec<Pending> {
        let mut waiting = self.lock();
        let (mut messages, mut bytes, mut parts) = (0, 0, 0);
        let mut count = 0;
        let (mut claimed, mut held) = (Claimed::default(), Vec::new());
        for pending in &waiting.requests {
            let more = (pending.messages, pending.bytes, pending.parts.len());
            let fits = messages + more.0 <= limits::FLUSH_MESSAGES_MAX
                && bytes + more.1 <= limits::FLUSH_BYTES_MAX
                && parts + more.2 <= limits::FLUSH_PARTS_MAX;
            if !fits && count > 0 {
                break;
            }
            count += 1;
            if !claimed.admits(pending) {
                held.push(count - 1);
                continue;
            }
            (messages, bytes, parts) = (messages + more.0, bytes + more.1, parts + more.2);
        }
        if count == 0 {
            return Vec::new();
        }
        waiting.messages -= messages;
        waiting.bytes -= bytes;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        let mut taken: Vec<Pending> = waiting.requests.drain(..count).collect();
        // From the back, so that what is left keeps its places and its order.
        for at in held.into_iter().rev() {
            let pending = taken.remove(at);
            waiting.requests.push_front(pending);
        }
        taken
    }

    /// Takes no more requests; those that wait are still flushed.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}
