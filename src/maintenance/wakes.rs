//! Old wakes, slots of dead nodes and old catalog changes go. What was the newest wake of a slot a
//! minute ago is the bound: nothing is searched for by time.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use crate::{
    model::limits,
    store::{self, Session, StoreError},
};

#[derive(Debug, Default)]
pub(super) struct Pruner {
    remembered: VecDeque<(Instant, HashMap<i64, i64>)>,
}

impl Pruner {
    pub(super) async fn prune(&mut self, session: &mut Session) -> Result<(), StoreError> {
        let now = Instant::now();
        // A few samples a minute are enough.
        let sampled = self
            .remembered
            .back()
            .is_some_and(|(at, _)| now.duration_since(*at) < limits::WAKE_KEPT / 6);
        if sampled {
            return Ok(());
        }
        let positions = store::wakes::positions(session).await?;
        self.remembered.push_back((now, positions.into_iter().collect()));
        let Some((at, _)) = self.remembered.front() else { return Ok(()) };
        if now.duration_since(*at) < limits::WAKE_KEPT {
            return Ok(());
        }
        let Some((_, bounds)) = self.remembered.pop_front() else { return Ok(()) };
        for (slot, n) in bounds {
            store::wakes::prune(session, slot, n).await?;
        }
        store::wakes::prune_slots(session).await?;
        store::topics::prune_changes(session).await?;
        store::nodes::prune(session).await?;
        Ok(())
    }
}
