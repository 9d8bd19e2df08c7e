//! The sweep: on every node, for all groups by one statement. Silent members go, partitions that
//! were not given up in time move, and whatever else is not as it should be is repaired: a node
//! that dies between a change and its effect leaves nothing behind for ever.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::{Groups, target};
use crate::{
    model::limits,
    store::{self, StoreError, error::Refusal},
    telemetry::metrics::GROUPS,
};

const SWEEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two rounds at the least.
const PAUSE_MIN: Duration = Duration::from_millis(20);

impl Groups {
    /// Sweeps until the node stops.
    pub(super) async fn sweep(&self) {
        let mut alive_since = Instant::now();
        let mut failing = false;
        let mut pause = limits::SWEEP_INTERVAL;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.shared.lifecycle.draining() => return,
            }
            pause = limits::SWEEP_INTERVAL;
            let swept = timeout(SWEEP_TIMEOUT, self.sweep_once(alive_since.elapsed())).await;
            match swept.unwrap_or_else(|_| Err(StoreError::Lost("no answer".to_owned()))) {
                Ok(next) => {
                    failing = false;
                    let soon = next.map(|next| next + PAUSE_MIN);
                    pause = soon.map_or(pause, |next| next.min(pause));
                }
                Err(error) => {
                    // While the database was away nobody could be heard.
                    alive_since = Instant::now();
                    if !failing {
                        warn!(%error, "groups cannot be swept");
                    }
                    failing = true;
                }
            }
        }
    }

    /// One round. Returns when the next thing is due, as far as anybody knows.
    async fn sweep_once(&self, alive: Duration) -> Result<Option<Duration>, StoreError> {
        let mut session = self.shared.database.acquire().await?;
        let due = store::groups::due(&mut session, alive).await?;
        drop(session);
        if due.groups.is_empty() {
            return Ok(due.next);
        }
        let mut session = self.shared.database.acquire_for_change().await?;
        let mut failed = None;
        for group in due.groups {
            let settled =
                store::groups::settle_committed(&mut session, group, alive, &target::target).await;
            match settled {
                Ok(false) => {}
                Ok(true) => {
                    GROUPS.repairs.increment(1);
                    self.changed(group);
                }
                // Another node is at it, or a change takes its time.
                Err(error) if error.refusal() == Some(Refusal::Busy) => {
                    debug!(%group, "a group is swept later: it is locked");
                }
                Err(error) if error.ends_session() => return Err(error),
                // The others are not to wait for this one.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }
}
