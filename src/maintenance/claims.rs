//! Marks and keys that nobody can ask for any more go, some at a time, from where the last round
//! stopped: nothing is searched for by time. While somebody holds an old snapshot nothing goes:
//! what is deleted would stay where it is, in the way of whoever reads its place next.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::store::{Session, StoreError, claims};

/// Producers that are looked at in one round, and blocks of keys.
const PRODUCERS: i32 = 500;
const BLOCKS: i64 = 1_024;
/// From the beginning of one way through all of them to the next.
const PASS_INTERVAL: Duration = Duration::from_secs(10);
/// How long one snapshot may be the oldest before nothing goes beside it.
const HORIZON_REST_MAX: Duration = Duration::from_secs(5);

/// Where the last round stopped.
#[derive(Debug, Default)]
pub(super) struct Pruner {
    horizon: Option<(String, Instant)>,
    begun: Option<Instant>,
    producer: Option<(i64, Uuid)>,
    block: i64,
}

impl Pruner {
    pub(super) async fn prune(&mut self, session: &mut Session) -> Result<(), StoreError> {
        let now = Instant::now();
        let is_between = self.producer.is_none() && self.block == 0;
        if is_between && self.begun.is_some_and(|at| now.duration_since(at) < PASS_INTERVAL) {
            return Ok(());
        }
        if self.stands_still(claims::horizon(session).await?, now) {
            return Ok(());
        }
        if is_between {
            self.begun = Some(now);
        }
        if is_between || self.producer.is_some() {
            self.producer = claims::prune_marks(session, self.producer, PRODUCERS).await?;
        }
        if is_between || self.block > 0 {
            self.block = claims::prune_keys(session, self.block, BLOCKS).await?;
        }
        Ok(())
    }

    fn stands_still(&mut self, horizon: Option<String>, now: Instant) -> bool {
        let Some(horizon) = horizon else {
            self.horizon = None;
            return false;
        };
        match &self.horizon {
            Some((known, since)) if *known == horizon => {
                now.duration_since(*since) >= HORIZON_REST_MAX
            }
            _ => {
                self.horizon = Some((horizon, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_is_the_oldest_for_long_is_waited_for() {
        let mut pruner = Pruner::default();
        let begun = Instant::now();
        let mut at = |horizon: Option<&str>, seconds| {
            let now = begun + Duration::from_secs(seconds);
            pruner.stands_still(horizon.map(str::to_owned), now)
        };
        assert!(!at(None, 0));
        assert!(!at(Some("7"), 1));
        assert!(!at(Some("7"), 5));
        assert!(at(Some("7"), 6));
        assert!(at(Some("7"), 600));
        assert!(!at(Some("8"), 601));
        assert!(!at(None, 602));
        assert!(!at(Some("8"), 650));
    }
}
