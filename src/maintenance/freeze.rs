//! Each flush takes a transaction id, and ids go round: rows that stay for longer than a day are
//! frozen once, slowly, when their bucket is sealed and never written to again. So no autovacuum
//! against wraparound ever has a large table before it.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use tracing::{debug, info};

use crate::store::{Session, StoreError, buckets, error::Refusal};

/// When a bucket that could not be frozen is tried again: whoever holds rows back, a dump or a
/// forgotten session, may go on for hours.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Freezer {
    tried: HashMap<i64, Instant>,
}

impl Freezer {
    /// Freezes one bucket, if there is one to be frozen.
    pub(super) async fn round(&mut self, session: &mut Session) -> Result<(), StoreError> {
        self.tried.retain(|_, at| at.elapsed() < AGAIN);
        let tried: Vec<i64> = self.tried.keys().copied().collect();
        let Some(bucket) = buckets::unfrozen(session, &tried).await? else { return Ok(()) };
        self.tried.insert(bucket.0, Instant::now());
        match buckets::freeze(session, bucket).await {
            Ok(true) => info!(%bucket, "a bucket was frozen"),
            Ok(false) => debug!(%bucket, "a bucket is frozen later: old snapshots are open"),
            Err(error) if is_passing(&error) => debug!(%bucket, %error, "a bucket is frozen later"),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The bucket is being attached or dropped at this moment.
fn is_passing(error: &StoreError) -> bool {
    matches!(error.refusal(), Some(Refusal::Busy | Refusal::Missing))
}
