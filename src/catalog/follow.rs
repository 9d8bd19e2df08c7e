//! Changes that other nodes made to the catalog.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::warn;

use super::Catalog;
use crate::{
    log::News,
    model::limits,
    store::{self, Incarnation, StoreError},
};

/// How long a node may go without looking; changes are kept for twice as long.
const AWAY_MAX: Duration = Duration::from_secs(300);
const LOOK_TIMEOUT: Duration = Duration::from_secs(15);

/// The last change that was seen, and in which incarnation of the log: in another one changes may
/// have gone, and their numbers with them.
struct Seen {
    change: i64,
    incarnation: Option<Incarnation>,
}

pub(super) async fn run(catalog: Catalog) {
    let mut seen: Option<Seen> = None;
    let mut looked_at = Instant::now();
    let mut began = looked_at;
    let mut failing = false;
    let mut ticks = interval(limits::WAKE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = catalog.shared.log.told(News::Catalog, began) => {}
            () = catalog.shared.lifecycle.draining() => return,
        }
        // Changes are kept for a while only: whoever was away longer forgets everything.
        if looked_at.elapsed() > AWAY_MAX {
            seen = None;
        }
        began = Instant::now();
        let looked = timeout(LOOK_TIMEOUT, look(&catalog, &mut seen)).await;
        let no_answer = || StoreError::Unreachable("no answer".to_owned());
        match looked.unwrap_or_else(|_| Err(no_answer())) {
            Ok(()) => {
                looked_at = Instant::now();
                failing = false;
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "changes of the catalog cannot be read");
                }
                failing = true;
                // What was missed meanwhile may have been pruned by the time it works again.
                seen = None;
            }
        }
    }
}

async fn look(catalog: &Catalog, seen: &mut Option<Seen>) -> Result<(), StoreError> {
    let mut session = catalog.shared.database.acquire().await?;
    let incarnation = catalog.shared.database.incarnation();
    let known = seen.as_mut().filter(|seen| seen.incarnation == incarnation);
    let Some(Seen { change: last, .. }) = known else {
        let change = store::topics::last_change(&mut session).await?;
        *seen = Some(Seen { change, incarnation });
        catalog.forget_all();
        return Ok(());
    };
    for change in store::topics::changes_since(&mut session, *last).await? {
        *last = change.id;
        catalog.forget_changed(change);
    }
    Ok(())
}
