//! One reader for each partition that is read here, however many read it. It goes on behind what
//! it read last and tells all consumers; who is behind reads by itself until it has caught up.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::Notified},
    time::{Instant, sleep},
};
use tracing::{error, warn};

use super::{
    Shared,
    mailbox::Ear,
    ring::{Chunk, Ring, Take},
};
use crate::{
    log::{Low, Partition, Position, ReadError, ReadRequest},
    model::{PartitionId, limits},
    telemetry::metrics::STREAMS,
};

/// What it costs to send one consumer what a round brought, about: mostly the kernel's write.
const CONSUMER_COST: Duration = Duration::from_micros(5);
/// Consumers are told at most this rarely; shorter pauses are none, a timer has that grain.
const PAUSE_MAX: Duration = Duration::from_millis(10);
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Between two tries to read what cannot be read now.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Messages of one read.
const READ_MESSAGES: u32 = 10_000;

/// One partition's reader and those it tells.
#[derive(Debug)]
pub struct Feed {
    id: PartitionId,
    ring: Mutex<Ring>,
    ears: Mutex<Vec<Arc<Ear>>>,
    is_read: AtomicBool,
    left: Notify,
}

impl Feed {
    pub(super) fn new(id: PartitionId) -> Arc<Self> {
        Arc::new(Self {
            id,
            ring: Mutex::default(),
            ears: Mutex::default(),
            is_read: AtomicBool::new(false),
            left: Notify::new(),
        })
    }

    /// Which partition.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ears(&self) -> MutexGuard<'_, Vec<Arc<Ear>>> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is at `from`.
    pub fn take(&self, from: i64) -> Take {
        self.ring().take(from)
    }

    pub(super) fn enter(self: &Arc<Self>, ear: Arc<Ear>, shared: &Arc<Shared>) {
        self.ears().push(ear);
        if !self.is_read.swap(true, Ordering::AcqRel) {
            shared.lifecycle.spawn(Arc::clone(self).run(Arc::clone(shared)));
        }
    }

    pub(super) fn leave(&self, ear: &Arc<Ear>) {
        let mut ears = self.ears();
        if let Some(at) = ears.iter().position(|one| Arc::ptr_eq(one, ear)) {
            ears.swap_remove(at);
        }
        if ears.is_empty() {
            self.left.notify_waiters();
        }
    }

    /// Lets go of what everybody had the time to take.
    pub(super) fn sweep(&self) {
        self.ring().sweep();
    }

    /// Tells everybody. Returns how many that are.
    fn tell(&self) -> u32 {
        let ears = self.ears();
        ears.iter().for_each(|ear| ear.tell());
        u32::try_from(ears.len()).unwrap_or(u32::MAX)
    }

    /// Whether nobody is left: then this reader ends and the next consumer starts another.
    fn is_over(&self) -> bool {
        let ears = self.ears();
        let is_over = ears.is_empty();
        if is_over {
            // What comes from here on is not read: the next one must not take the end for known.
            *self.ring() = Ring::default();
            self.is_read.store(false, Ordering::Release);
        }
        is_over
    }

    async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        STREAMS.feeds.increment(1.0);
        self.read_on(&shared).await;
        STREAMS.feeds.decrement(1.0);
    }

    async fn read_on(&self, shared: &Shared) {
        let mut reading = Reading { begun: Instant::now(), low: None, is_failing: false };
        while !self.is_over() && !shared.lifecycle.is_draining() {
            let round = Instant::now();
            let partition = shared.log.partition(self.id);
            let watch = partition.watch();
            let mut left: std::pin::Pin<&mut Notified<'_>> = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            let (pause, is_all) = match self.read(shared, &partition, &watch, &mut reading).await {
                Ok(Found::Nothing) => (Duration::ZERO, true),
                Ok(found) => {
                    let cost = CONSUMER_COST * self.tell();
                    let pause = (cost * 2).min(PAUSE_MAX).saturating_sub(round.elapsed());
                    (pause, found == Found::All)
                }
                Err(error) => {
                    self.failed(shared, &error, &mut reading);
                    (RETRY_PAUSE, false)
                }
            };
            if pause >= PAUSE_MIN {
                sleep(pause).await;
            }
            if is_all {
                tokio::select! {
                    () = watch.changed() => {}
                    () = left => {}
                    () = shared.lifecycle.draining() => {}
                }
            }
        }
    }

    /// Reads what has come.
    async fn read(
        &self,
        shared: &Shared,
        partition: &Arc<Partition>,
        watch: &crate::log::Watch<'_>,
        reading: &mut Reading,
    ) -> Result<Found, ReadError> {
        let end = self.ring().end();
        let Some(from) = end else {
            let high = shared.log.resolve(self.id, Position::Latest).await?;
            self.ring().restart(high);
            reading.begun = Instant::now();
            return Ok(Found::Some);
        };
        let request = ReadRequest { from, limit: READ_MESSAGES };
        let since = (reading.begun, reading.low);
        let (page, low) = shared.log.peek(partition, request, watch, true, since).await?;
        reading.low = Some(low);
        reading.is_failing = false;
        if page.batches.is_empty() {
            return Ok(Found::Nothing);
        }
        let high = page.watermarks.high;
        match Chunk::new(from, page.batches, shared.encode) {
            Ok(chunk) => self.ring().push(chunk, limits::FEED_BYTES_MAX),
            Err(corrupt) => {
                // Consumers find the same when they read by themselves, and are told.
                error!(partition = self.id.0, %corrupt, "stored messages cannot be read");
                self.ring().restart(high);
            }
        }
        STREAMS.rounds.increment(1);
        // What came since is signalled to the watch, which was taken before.
        let is_all = self.ring().end().is_none_or(|end| end >= high);
        Ok(if is_all { Found::All } else { Found::Some })
    }

    fn failed(&self, shared: &Shared, error: &ReadError, reading: &mut Reading) {
        match error {
            // Whoever reads on behind what is gone finds out by itself.
            ReadError::OutOfRange(marks) => {
                self.ring().restart(marks.high);
                self.tell();
            }
            ReadError::Gone => shared.changed.notify_one(),
            error if !reading.is_failing => {
                warn!(partition = self.id.0, %error, "a partition cannot be read");
                reading.is_failing = true;
            }
            _ => {}
        }
    }
}

/// What one look brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// There may be more.
    Some,
    /// Everything that was there.
    All,
}

/// What a reader remembers.
struct Reading {
    begun: Instant,
    low: Option<Low>,
    is_failing: bool,
}
