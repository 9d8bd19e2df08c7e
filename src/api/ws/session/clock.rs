//! What a socket does by the clock: pings, positions of what is filtered, and every patience that
//! comes to its end. One timer for all of it, set only to earlier times before it has rung.

use std::{
    pin::Pin,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};

use futures_util::{Sink, Stream};
use rand::Rng;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{
    super::{answers, close::Close},
    End, Session,
};
use crate::model::limits;

/// Pings without an answer after which a client counts as gone.
const PINGS_MAX: u32 = 2;
/// Sockets that are asked to come back in the same second when a node stops.
const RETURNS_A_SECOND: usize = 200;
/// Over how many ms they are spread at the least and at the most.
const SPREAD_MS_MIN: usize = 500;
const SPREAD_MS_MAX: usize = 8_000;
/// How long pages are kept for a socket that takes nothing.
const PAGE_PATIENCE: Duration = Duration::from_secs(1);
/// Heartbeats of members are passed on this often.
const BEAT_PAUSE: Duration = Duration::from_millis(250);

/// Pings of different sockets leave together, this far apart: what 10,000 of them cost is mostly
/// that the processor wakes up for each.
const PINGS_APART: Duration = Duration::from_millis(125);

/// The first moment at or after `at` when pings leave.
fn together(at: Instant) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(Instant::now);
    let apart = PINGS_APART.as_millis();
    let steps = at.saturating_duration_since(first).as_millis().div_ceil(apart);
    first + PINGS_APART * u32::try_from(steps).unwrap_or(u32::MAX)
}

/// Sockets that are open on this node.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// One socket that is open, as long as it lives.
#[derive(Debug)]
struct Open;

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When a socket has to do something next.
#[derive(Debug)]
pub(super) struct Clock {
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
    pinged: Instant,
    pings: u32,
    /// How long the client has for an answer to the last ping: its member may end before it does.
    interval: Duration,
    beaten: Option<Instant>,
    /// Pings and pongs that the client sent since then.
    control_frames: (Instant, u32),
    positions: Option<Instant>,
    _open: Open,
}

impl Default for Clock {
    fn default() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        let pinged = Instant::now();
        Self {
            alarm: None,
            pinged,
            pings: 0,
            interval: limits::PING_INTERVAL,
            beaten: None,
            control_frames: (pinged, 0),
            positions: None,
            _open: Open,
        }
    }
}

impl Clock {
    /// The client was heard.
    pub(super) fn heard(&mut self) {
        self.pings = 0;
    }

    /// A ping or a pong came; whether these are too many.
    pub(super) fn is_flood(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.control_frames;
        if now - *since >= limits::PING_INTERVAL {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count > limits::SOCKET_CONTROL_FRAMES_MAX
    }

    /// Whether heartbeats are to be passed on again.
    pub(super) fn is_beat_due(&mut self, now: Instant) -> bool {
        let is_due = self.beaten.is_none_or(|beaten| now - beaten >= BEAT_PAUSE);
        if is_due {
            self.beaten = Some(now);
        }
        is_due
    }

    /// Positions are told from now on.
    pub(super) fn tell_positions(&mut self) {
        self.positions.get_or_insert_with(|| Instant::now() + limits::POSITION_INTERVAL);
    }

    /// Rings at `deadline`, or before. True: the task of `cx` will be woken.
    fn set(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        let is_later = self.alarm.as_ref().is_none_or(|(at, _)| deadline < *at);
        if is_later {
            self.alarm = Some((deadline, Box::pin(sleep_until(deadline))));
        }
        let Some((_, alarm)) = &mut self.alarm else { return false };
        let has_rung = alarm.as_mut().poll(cx).is_ready();
        if has_rung {
            self.alarm = None;
        }
        !has_rung
    }
}

impl<S> Session<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    /// Does what is due, and sets the timer to what is next.
    pub(super) fn look_at_clock(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            let next = self.do_what_is_due(Instant::now())?;
            if self.clock.set(next, cx) {
                return Ok(());
            }
        }
    }

    /// Returns when the next is due.
    fn do_what_is_due(&mut self, now: Instant) -> Result<Instant, End> {
        let mut next = self.ping(now)?;
        if let Some(stalled) = self.out.stalled() {
            if now >= stalled + limits::WRITE_TIMEOUT {
                return Err(End::Close(Close::TooSlow));
            }
            next = next.min(stalled + limits::WRITE_TIMEOUT);
            if now < stalled + PAGE_PATIENCE {
                next = next.min(stalled + PAGE_PATIENCE);
            } else {
                self.let_go_of_pages();
            }
        }
        if let Some(draining) = self.draining {
            if now >= draining + limits::DRAIN_TIMEOUT {
                return Err(End::Close(Close::Draining));
            }
            next = next.min(draining + limits::DRAIN_TIMEOUT);
        }
        if let Some(positions) = self.clock.positions {
            if now >= positions {
                self.tell_positions();
                self.clock.positions = Some(now + limits::POSITION_INTERVAL);
            }
            next = next.min(positions.max(now + Duration::from_millis(1)));
        }
        Ok(next)
    }

    fn ping(&mut self, now: Instant) -> Result<Instant, End> {
        let interval = match self.clock.pings {
            0 => self.ping_interval(),
            _ => self.clock.interval,
        };
        let due = together(self.heard.max(self.clock.pinged) + interval);
        if now < due {
            return Ok(due);
        }
        if self.clock.pings >= PINGS_MAX {
            return Err(End::Close(Close::Silent));
        }
        self.clock.pings += 1;
        (self.clock.pinged, self.clock.interval) = (now, interval);
        self.out.push(Message::Ping(Default::default()));
        self.has_more = true;
        Ok(together(now + interval))
    }

    /// Tells the client that the node stops. What it publishes, commits and gives up until it
    /// closes is still done.
    pub(super) fn drain(&mut self) {
        self.draining = Some(Instant::now());
        let spread = OPEN.load(Ordering::Relaxed) * 1_000 / RETURNS_A_SECOND;
        let spread = spread.clamp(SPREAD_MS_MIN, SPREAD_MS_MAX);
        let after_ms = rand::rng().random_range(0..spread) as u64;
        self.out.push_json(answers::draining(after_ms));
        self.has_more = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_now_and_then_are_no_flood() {
        let mut clock = Clock::default();
        let mut now = Instant::now();
        // A client that asks every 20 s whether the node lives, for a day.
        for _ in 0..24 * 180 {
            now += Duration::from_secs(20);
            assert!(!clock.is_flood(now));
        }
        now += limits::PING_INTERVAL;
        let most = limits::SOCKET_CONTROL_FRAMES_MAX;
        assert!((0..most).all(|_| !clock.is_flood(now)));
        assert!(clock.is_flood(now));
        now += limits::PING_INTERVAL;
        assert!(!clock.is_flood(now));
    }
}
