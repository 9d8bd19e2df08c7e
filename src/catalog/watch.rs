//! Changes that other nodes made to the catalog.

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::Catalog;
use crate::{
    model::limits,
    store::{self, StoreError},
};

pub(super) async fn run(catalog: Catalog) {
    let mut seen = None;
    let mut failing = false;
    let mut ticks = interval(limits::WAKE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = catalog.shared.lifecycle.draining() => return,
        }
        match look(&catalog, &mut seen).await {
            Ok(()) => failing = false,
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

async fn look(catalog: &Catalog, seen: &mut Option<i64>) -> Result<(), StoreError> {
    let mut session = catalog.shared.database.acquire().await?;
    let Some(last) = seen else {
        *seen = Some(store::topics::last_change(&mut session).await?);
        catalog.forget_all();
        return Ok(());
    };
    for (change, topic) in store::topics::changes_since(&mut session, *last).await? {
        catalog.forget_id(topic);
        *last = change;
    }
    Ok(())
}
