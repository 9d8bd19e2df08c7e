//! What each node does for itself: it says that it lives and forgets what nobody asked about.

use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use crate::{lifecycle::Lifecycle, log::Log, model::limits};

const FORGET_EVERY: u32 = 12;

/// Beats until the node has nothing left to do; at once when it begins to drain.
pub(super) async fn run(log: Log, lifecycle: Lifecycle) {
    let mut ticks = interval(limits::HEARTBEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round = 0u32;
    let mut is_draining = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = lifecycle.draining(), if !is_draining => is_draining = true,
            () = lifecycle.sealing() => return,
        }
        tokio::select! {
            beat = timeout(limits::HEARTBEAT_INTERVAL, log.beat()) => match beat {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "a heartbeat was missed"),
                Err(_) => debug!("a heartbeat was not answered"),
            },
            () = lifecycle.sealing() => return,
        }
        log.forget_stale_pages();
        round = round.wrapping_add(1);
        if round.is_multiple_of(FORGET_EVERY) {
            log.forget_idle();
        }
    }
}
