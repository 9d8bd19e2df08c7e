//! Committed offsets that newer ones stand above go. What was the newest a minute ago is the
//! bound: a commit that is retried within that time still finds that it stands.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::{
    Session, StoreError,
    groups::{self, Newest},
};

/// Between two rounds, and how long what is superseded stays at least.
const ROUND: Duration = Duration::from_secs(60);
/// Partitions of one statement.
const CHUNK: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Pruner {
    remembered: Option<(Instant, Vec<Newest>)>,
}

impl Pruner {
    pub(super) async fn prune(&mut self, session: &mut Session) -> Result<(), StoreError> {
        if self.remembered.as_ref().is_some_and(|(at, _)| at.elapsed() < ROUND) {
            return Ok(());
        }
        // While an old snapshot stands, what is deleted only makes indexes longer.
        let Some(newest) = groups::newest_offsets(session).await? else { return Ok(()) };
        if let Some((_, bounds)) = self.remembered.replace((Instant::now(), newest)) {
            for some in bounds.chunks(CHUNK) {
                groups::prune(session, some).await?;
            }
        }
        Ok(())
    }
}
