//! How a node learns what others appended: it reads their wakes. Polling is the truth; nothing
//! that is told faster ([`super::notify`]) is needed for an answer to be right.

use std::collections::HashMap;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::warn;

use super::{Log, News};
use crate::{
    model::limits,
    store::{self, Incarnation, StoreError},
    telemetry::metrics::LOG,
};

/// Where each slot stood, in an incarnation of the log: in another one slots may have fallen back.
struct Seen {
    slots: HashMap<i64, i64>,
    incarnation: Option<Incarnation>,
}

/// Reads other nodes' wakes until the node stops.
pub async fn run(log: Log) {
    let mut seen: Option<Seen> = None;
    let mut looked_at = Instant::now();
    let mut began = looked_at;
    let mut failing = false;
    let mut ticks = interval(limits::WAKE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = log.told(News::Wakes, began) => {}
            () = log.shared.lifecycle.draining() => return,
        }
        // Wakes are kept for a while only: whoever was away longer looks everywhere.
        if looked_at.elapsed() > limits::WAKE_KEPT / 2 {
            seen = None;
        }
        began = Instant::now();
        LOG.looks.increment(1);
        match timeout(limits::WAKE_KEPT / 4, look(&log, &mut seen)).await {
            Ok(Ok(())) => {
                looked_at = began;
                log.shared.looked.send_replace(Some(began));
                failing = false;
            }
            Ok(Err(error)) if !failing => {
                warn!(%error, "wakes of other nodes cannot be read");
                failing = true;
            }
            Ok(Err(_)) | Err(_) => failing = true,
        }
    }
}

async fn look(log: &Log, seen: &mut Option<Seen>) -> Result<(), StoreError> {
    let mut session = log.shared.database.acquire().await?;
    let incarnation = log.shared.database.incarnation();
    let known = seen.as_mut().filter(|seen| seen.incarnation == incarnation);
    let Some(Seen { slots: known, .. }) = known else {
        let positions = store::wakes::positions(&mut session).await?;
        *seen = Some(Seen { slots: positions.into_iter().collect(), incarnation });
        log.wake_all();
        return Ok(());
    };
    let pairs: Vec<(i64, i64)> = known.iter().map(|(slot, n)| (*slot, *n)).collect();
    for wake in store::wakes::since(&mut session, log.node(), &pairs).await? {
        known.insert(wake.slot, wake.n);
        if store::wakes::is_maintenance(wake.slot) {
            log.lows_moved(wake.partitions);
        } else {
            log.wake(wake.partitions);
        }
    }
    Ok(())
}
