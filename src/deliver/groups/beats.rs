//! Which members were heard on this node. They are written down together, a few times a second.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::warn;

use super::{Groups, unlocked};
use crate::{
    model::{GroupId, limits},
    store::{self, StoreError},
    telemetry::metrics::GROUPS,
};

/// Members in one statement.
const BEATS_MAX: usize = 5_000;
const BEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// Members heard since they were last written down, by number: when, and of which group.
#[derive(Debug, Default)]
pub(super) struct Beats(Mutex<HashMap<i64, (Instant, GroupId)>>);

impl Beats {
    /// A member was heard now.
    pub(super) fn note(&self, number: i64, group: GroupId) {
        unlocked(&self.0).insert(number, (Instant::now(), group));
    }

    fn take(&self) -> HashMap<i64, (Instant, GroupId)> {
        std::mem::take(&mut *unlocked(&self.0))
    }

    /// Puts back what could not be written, unless the member was heard again since.
    fn put_back(&self, heard: &[(i64, (Instant, GroupId))]) {
        let mut beats = unlocked(&self.0);
        for (number, beat) in heard {
            beats.entry(*number).or_insert(*beat);
        }
    }
}

impl Groups {
    /// Writes down who was heard until the node stops.
    pub(super) async fn beat(&self) {
        let mut ticks = interval(limits::BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.shared.lifecycle.sealing() => return,
            }
            let heard: Vec<_> = self.shared.beats.take().into_iter().collect();
            for some in heard.chunks(BEATS_MAX) {
                let written = timeout(BEAT_TIMEOUT, self.write_down(some)).await;
                match written.unwrap_or_else(|_| Err(StoreError::Lost("no answer".to_owned()))) {
                    Ok(()) => failing = false,
                    Err(error) => {
                        self.shared.beats.put_back(some);
                        if !failing {
                            warn!(%error, "heartbeats of members cannot be written");
                        }
                        failing = true;
                    }
                }
            }
        }
    }

    async fn write_down(&self, heard: &[(i64, (Instant, GroupId))]) -> Result<(), StoreError> {
        let ages: Vec<(i64, Duration)> =
            heard.iter().map(|(number, (at, _))| (*number, at.elapsed())).collect();
        let mut session = self.shared.database.acquire().await?;
        let gone = store::groups::beat(&mut session, &ages).await?;
        GROUPS.beats.increment(heard.len() as u64);
        // Whoever waits for one of these learns that it is no member any more.
        for (number, (_, group)) in heard {
            if gone.contains(number) {
                self.changed(*group);
            }
        }
        Ok(())
    }
}
