//! How far each connection is, and the one task that ends those which are overdue.
//!
//! A timer per connection would be set and cleared with each request. Instead a node counts
//! ticks; a connection notes the tick at which it entered its phase, and the watch compares them
//! all once a tick. A request costs three atomic operations on its connection's own word, and
//! every deadline is late by at most one tick.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use axum::http::Version;
use tokio::sync::Notify;

use super::AcceptSettings;
use crate::telemetry::metrics::API;

/// Ticks within the shortest timeout: deadlines are late by at most this part of it.
const TICKS_PER_TIMEOUT: u32 = 16;
const TICK_MIN: Duration = Duration::from_millis(5);
const TICK_MAX: Duration = Duration::from_millis(500);
/// How long what a refused client still sends is thrown away, so that it reads the refusal
/// before the reset.
const LINGER: Duration = Duration::from_secs(2);

/// What a connection is at. The discriminants lie in the low byte of its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// No byte has come yet.
    Connected,
    /// A head has begun.
    Head,
    /// A handler is at work or its answer is being streamed.
    Serving,
    /// The same for more than a tick; the handler was polled once more when it became so.
    ServingLong,
    /// Answered; the next request may come.
    Idle,
    /// The same for HTTP/2, whose pings and window updates are no requests.
    StreamsServing,
    StreamsIdle,
    /// HTTP/2 was told to go away.
    StreamsClosing,
    /// Refused, and what still comes is thrown away.
    Lingering,
    /// The protocol is another one now, with deadlines of its own.
    Upgraded,
    /// The head took too long, which the client is still to be told.
    HeadLate,
    /// To be closed without another word.
    Dead,
}

impl Phase {
    const ALL: [Self; 12] = [
        Self::Connected,
        Self::Head,
        Self::Serving,
        Self::ServingLong,
        Self::Idle,
        Self::StreamsServing,
        Self::StreamsIdle,
        Self::StreamsClosing,
        Self::Lingering,
        Self::Upgraded,
        Self::HeadLate,
        Self::Dead,
    ];

    fn of(word: u64) -> Self {
        Self::ALL.get((word & 0xff) as usize).copied().unwrap_or(Self::Dead)
    }

    fn since(self, tick: u64) -> u64 {
        tick << 8 | self as u64
    }
}

/// One connection's phase and the tick at which it began.
#[derive(Debug)]
pub(super) struct Progress {
    word: AtomicU64,
    /// The tick since which the client has taken nothing of what waits for it, plus one.
    unwritten: AtomicU64,
    streams: AtomicU32,
    lingers: AtomicBool,
    waker: OnceLock<Waker>,
    watch: Arc<Watch>,
}

impl Progress {
    pub(super) fn phase(&self) -> Phase {
        Phase::of(self.word.load(Ordering::Relaxed))
    }

    /// The task that drives the connection, which the watch wakes. A connection keeps its task.
    pub(super) fn driven_by(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }

    pub(super) fn is_draining(&self) -> bool {
        self.watch.draining.load(Ordering::Relaxed) || self.phase() == Phase::StreamsClosing
    }

    fn enter(&self, phase: Phase) {
        self.word.store(phase.since(self.watch.tick()), Ordering::Relaxed);
    }

    /// Goes on to `phase` from one that `from` allows; fails when the watch came first.
    fn step(&self, phase: Phase, from: impl Fn(Phase) -> bool) -> bool {
        let next = phase.since(self.watch.tick());
        self.word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                from(Phase::of(word)).then_some(next)
            })
            .is_ok()
    }

    /// Bytes have come. Only the first ones of a head begin it, else a byte now and then would
    /// keep a connection for ever.
    pub(super) fn received(&self) -> bool {
        match self.phase() {
            Phase::Connected | Phase::Idle => {
                self.step(Phase::Head, |now| matches!(now, Phase::Connected | Phase::Idle))
            }
            Phase::Dead | Phase::HeadLate => false,
            _ => true,
        }
    }

    /// A whole head has come. `None` when the watch gave the connection up before.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Option<Serving> {
        if self.lingers.load(Ordering::Relaxed) {
            self.lingers.store(false, Ordering::Relaxed);
        }
        let streams = version == Version::HTTP_2;
        if streams {
            self.streams.fetch_add(1, Ordering::Relaxed);
        }
        let serving = Serving { progress: Arc::clone(self), streams };
        let phase = if streams { Phase::StreamsServing } else { Phase::Serving };
        let goes_on = self.step(phase, |now| !matches!(now, Phase::HeadLate | Phase::Dead));
        if !goes_on {
            return None;
        }
        Some(serving)
    }

    /// The bytes of an answer wait for the client (`true`) or have gone.
    pub(super) fn wrote(&self, waits: bool) {
        let noted = self.unwritten.load(Ordering::Relaxed);
        if waits && noted == 0 {
            self.unwritten.store(self.watch.tick() + 1, Ordering::Relaxed);
        } else if !waits && noted != 0 {
            self.unwritten.store(0, Ordering::Relaxed);
        }
    }

    /// The client may still be sending what nobody will read.
    pub(super) fn linger(&self) {
        self.lingers.store(true, Ordering::Relaxed);
    }

    /// Whether to throw away what still comes before closing.
    pub(super) fn is_lingering(&self) -> bool {
        if self.phase() == Phase::Lingering {
            return true;
        }
        self.lingers.load(Ordering::Relaxed)
            && self.step(Phase::Lingering, |now| now != Phase::Dead)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Ends the phase if it has lasted too long by `tick`.
    fn check(&self, tick: u64, allowed: &Allowed) {
        let unwritten = self.unwritten.load(Ordering::Relaxed);
        let word = self.word.load(Ordering::Relaxed);
        let phase = Phase::of(word);
        let (ticks, then) = if unwritten != 0 && tick > unwritten + allowed.write {
            (0, Phase::Dead)
        } else {
            match phase {
                Phase::Connected => (allowed.head, Phase::Dead),
                Phase::Head => (allowed.head, Phase::HeadLate),
                Phase::Serving => (1, Phase::ServingLong),
                Phase::Idle => (allowed.idle, Phase::Dead),
                Phase::StreamsIdle if self.streams.load(Ordering::Relaxed) == 0 => {
                    (allowed.idle, Phase::StreamsClosing)
                }
                Phase::StreamsClosing => (allowed.write, Phase::Dead),
                Phase::Lingering => (allowed.linger, Phase::Dead),
                Phase::HeadLate => (1, Phase::Dead),
                Phase::StreamsIdle
                | Phase::ServingLong
                | Phase::StreamsServing
                | Phase::Upgraded
                | Phase::Dead => return,
            }
        };
        if tick > (word >> 8) + ticks {
            let next = then.since(tick);
            let swapped =
                self.word.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
            if swapped.is_ok() {
                self.wake();
            }
        }
    }
}

/// A request in work; when it is dropped, its connection is idle again.
#[derive(Debug)]
pub(super) struct Serving {
    progress: Arc<Progress>,
    streams: bool,
}

impl Serving {
    /// The client may still be sending what nobody will read.
    pub(super) fn linger(&self) {
        self.progress.linger();
    }

    /// Whether the connection is to end with this answer: the node is about to stop.
    pub(super) fn is_last(&self) -> bool {
        !self.streams && self.progress.watch.leaving.load(Ordering::Relaxed)
    }

    /// The connection speaks another protocol from here on.
    pub(super) fn upgraded(self) {
        self.progress.enter(Phase::Upgraded);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let progress = &self.progress;
        if self.streams {
            if progress.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
                progress.step(Phase::StreamsIdle, |now| now == Phase::StreamsServing);
            }
        } else {
            progress.step(Phase::Idle, |now| matches!(now, Phase::Serving | Phase::ServingLong));
        }
    }
}

/// Timeouts in ticks.
#[derive(Debug)]
struct Allowed {
    head: u64,
    idle: u64,
    write: u64,
    linger: u64,
}

/// All connections of one listener.
#[derive(Debug)]
pub(super) struct Watch {
    now: AtomicU64,
    tick: Duration,
    allowed: Allowed,
    leaving: AtomicBool,
    draining: AtomicBool,
    connections: Mutex<HashMap<u64, Arc<Progress>>>,
    emptied: Notify,
}

impl Watch {
    pub(super) fn new(settings: &AcceptSettings) -> Arc<Self> {
        let shortest = settings.head_timeout.min(settings.idle_timeout).min(settings.write_timeout);
        let tick = (shortest / TICKS_PER_TIMEOUT).clamp(TICK_MIN, TICK_MAX);
        let ticks = |timeout: Duration| {
            u64::try_from(timeout.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u64::MAX >> 8)
        };
        let allowed = Allowed {
            head: ticks(settings.head_timeout),
            idle: ticks(settings.idle_timeout),
            write: ticks(settings.write_timeout),
            linger: ticks(LINGER),
        };
        Arc::new(Self {
            now: AtomicU64::new(0),
            tick,
            allowed,
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            connections: Mutex::default(),
            emptied: Notify::new(),
        })
    }

    fn tick(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn each(&self, act: impl Fn(&Progress)) {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.values().for_each(|progress| act(progress));
    }

    /// Counts ticks until it is dropped.
    pub(super) async fn run(&self) {
        let mut ticks = tokio::time::interval(self.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.each(|progress| progress.check(now, &self.allowed));
        }
    }

    /// Each answer from now on is the last of its connection, and says so.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Connections finish what they are at and take nothing more.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.each(Progress::wake);
    }

    /// Connections close now.
    pub(super) fn end(&self) {
        self.each(|progress| {
            progress.enter(Phase::Dead);
            progress.wake();
        });
    }

    /// Completes when no connection is left.
    pub(super) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes a new connection into the watch, unless `max` are there.
    pub(super) fn admit(self: &Arc<Self>, number: u64, max: usize) -> Option<Watched> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.len() >= max {
            return None;
        }
        let progress = Arc::new(Progress {
            word: AtomicU64::new(Phase::Connected.since(self.tick())),
            unwritten: AtomicU64::new(0),
            streams: AtomicU32::new(0),
            lingers: AtomicBool::new(false),
            waker: OnceLock::new(),
            watch: Arc::clone(self),
        });
        connections.insert(number, Arc::clone(&progress));
        API.connections.increment(1.0);
        Some(Watched { number, progress })
    }
}

/// A connection's place in the watch, given back when its socket is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    number: u64,
    pub(super) progress: Arc<Progress>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let watch = &self.progress.watch;
        let mut connections = watch.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.remove(&self.number);
        API.connections.decrement(1.0);
        if connections.is_empty() {
            watch.emptied.notify_waiters();
        }
    }
}
