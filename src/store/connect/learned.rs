//! What a node has learned of the hosts of its URL, shared by all who connect.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::store::incarnation::Incarnation;

#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The host that took writes last.
    primary: AtomicUsize,
    /// When the primary or the log's incarnation last changed; sessions that are older go to the
    /// wrong server.
    moved_at: Mutex<Option<Instant>>,
    /// The latest incarnation that any session found.
    incarnation: watch::Sender<Option<Incarnation>>,
    moves: watch::Sender<u64>,
}

impl Learned {
    pub(super) fn primary(&self) -> usize {
        self.primary.load(Ordering::Relaxed)
    }

    pub(super) fn set_primary(&self, index: usize) {
        if self.primary.swap(index, Ordering::Relaxed) != index {
            self.moved();
        }
    }

    /// Sessions that exist now are not to be used again.
    fn moved(&self) {
        let mut moved_at = self.moved_at.lock().unwrap_or_else(PoisonError::into_inner);
        *moved_at = Some(Instant::now());
        drop(moved_at);
        self.moves.send_modify(|moves| *moves += 1);
    }

    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// Whether a session of that age may be used.
    pub(super) fn is_current(&self, age: Duration) -> bool {
        let moved_at = self.moved_at.lock().unwrap_or_else(PoisonError::into_inner);
        moved_at.is_none_or(|moved_at| age < moved_at.elapsed())
    }

    /// Notes the incarnation that a session found. False: its server was left behind by a
    /// promotion that this node knows of, and must not be used.
    pub(super) fn note(&self, found: Incarnation) -> bool {
        let mut is_behind = false;
        let mut has_changed = false;
        self.incarnation.send_if_modified(|known| {
            match *known {
                Some(known) if known == found => return false,
                Some(known) if known.is_later_than(found) => {
                    is_behind = true;
                    return false;
                }
                Some(known) => {
                    tracing::warn!(%known, %found, "the log has a new incarnation");
                    has_changed = true;
                }
                None => {}
            }
            *known = Some(found);
            true
        });
        if has_changed {
            self.moved();
        }
        !is_behind
    }

    pub(super) fn current(&self) -> Option<Incarnation> {
        *self.incarnation.borrow()
    }

    pub(super) fn incarnation(&self) -> watch::Receiver<Option<Incarnation>> {
        self.incarnation.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(timeline: u32) -> Incarnation {
        Incarnation { system: 1, timeline }
    }

    #[test]
    fn sessions_from_before_a_failover_are_not_used_again() {
        let learned = Learned::default();
        let old = Duration::from_secs(60);
        assert!(learned.is_current(old));
        *learned.moved_at.lock().expect("not poisoned") = Instant::now().checked_sub(old / 2);
        assert!(!learned.is_current(old));
        assert!(learned.is_current(old / 4));
    }

    #[test]
    fn a_server_that_was_left_behind_is_not_gone_back_to() {
        let learned = Learned::default();
        let mut seen = learned.incarnation();
        assert!(learned.note(timeline(1)) && learned.note(timeline(1)));
        assert!(learned.is_current(Duration::from_secs(60)), "the first changes nothing");
        assert!(learned.note(timeline(3)));
        assert!(!learned.is_current(Duration::from_secs(60)));
        assert!(!learned.note(timeline(2)));
        assert_eq!(*seen.borrow_and_update(), Some(timeline(3)));
        let elsewhere = Incarnation { system: 2, timeline: 1 };
        assert!(learned.note(elsewhere), "another system may begin anew");
        assert_eq!(*seen.borrow(), Some(elsewhere));
    }
}
