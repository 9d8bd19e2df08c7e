//! What each node does for itself: it says that it lives and forgets what nobody asked about.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use crate::{lifecycle::Lifecycle, log::Log, store, store::StoreError};

const HEARTBEAT: Duration = Duration::from_secs(5);
const FORGET_EVERY: u32 = 12;

pub(super) async fn run(log: Log, lifecycle: Lifecycle) {
    let mut ticks = interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round = 0u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = lifecycle.draining() => return,
        }
        match timeout(HEARTBEAT, beat(&log)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "a heartbeat was missed"),
            Err(_) => debug!("a heartbeat was not answered"),
        }
        log.forget_stale_pages();
        round = round.wrapping_add(1);
        if round.is_multiple_of(FORGET_EVERY) {
            log.forget_idle();
        }
    }
}

async fn beat(log: &Log) -> Result<(), StoreError> {
    let mut session = log.database().acquire().await?;
    store::nodes::heartbeat(&mut session, log.node()).await
}
