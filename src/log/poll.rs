//! A read that waits. It watches before it looks, so an append in between is not missed; it
//! holds no connection while it waits; and the work in the database goes on in a task of its own
//! when whoever asked has gone.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};

use super::{Log, Page, Partition, Position, ReadError, ReadRequest};
use crate::{
    model::{PartitionId, limits},
    store::StoreError,
    telemetry::metrics::LOG,
};

/// One read that waits, as long as it lives: whoever asked may vanish at any moment.
struct Parked;

impl Parked {
    fn new() -> Self {
        LOG.parked.increment(1.0);
        Self
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        LOG.parked.decrement(1.0);
    }
}

impl Log {
    /// Reads from `position`, waiting up to `wait` for a first message. Returns the offset that
    /// the position meant, and what was found there.
    ///
    /// An empty page is true of the moment the read began.
    pub async fn poll(
        &self,
        id: PartitionId,
        position: Position,
        limit: u32,
        wait: Duration,
    ) -> Result<(i64, Page), ReadError> {
        let deadline = Instant::now() + wait;
        let partition = self.partition(id);
        let from = match position {
            Position::Offset(offset) => offset,
            Position::Earliest | Position::Latest | Position::Time(_) => {
                let log = self.clone();
                self.detached(async move { log.resolve(id, position).await }).await?
            }
        };
        let request = ReadRequest { from, limit };
        let mut low = None;
        loop {
            let watch = partition.watch();
            let cached = low.and_then(|low| self.read_tail(&partition, request, low));
            let page = match cached {
                Some(page) => {
                    LOG.cached_pages.increment(1);
                    page
                }
                None => self.read_detached(&partition, request).await?,
            };
            let lifecycle = &self.shared.lifecycle;
            if !page.batches.is_empty() || wait.is_zero() || lifecycle.is_draining() {
                return Ok((from, page));
            }
            low = Some(page.watermarks.low);
            let _parked = Parked::new();
            tokio::select! {
                changed = timeout_at(deadline, watch.changed()) => {
                    if changed.is_err() {
                        return Ok((from, page));
                    }
                }
                () = lifecycle.draining() => return Ok((from, page)),
            }
        }
    }

    async fn read_detached(
        &self,
        partition: &Arc<Partition>,
        request: ReadRequest,
    ) -> Result<Page, ReadError> {
        let (log, partition) = (self.clone(), Arc::clone(partition));
        self.detached(async move { log.read(&partition, request).await }).await
    }

    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ReadError>> + Send + 'static,
    ) -> Result<T, ReadError> {
        let work = self.shared.lifecycle.spawn(work);
        match timeout(limits::DATABASE_ANSWER_TIMEOUT, work).await {
            Ok(done) => done.unwrap_or(Err(ReadError::Unfinished)),
            Err(_) => Err(StoreError::Unreachable("no answer".to_owned()).into()),
        }
    }
}
