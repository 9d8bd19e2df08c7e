//! A read that waits. It watches before it looks, so an append in between is not missed; it
//! holds no connection while it waits; and the work in the database goes on in a task of its own
//! when whoever asked has gone.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};

use super::{Log, Page, Partition, Position, ReadError, ReadRequest, partition::Watch};
use crate::{
    model::{PartitionId, limits},
    store::StoreError,
    telemetry::metrics::LOG,
};

/// One read that waits, as long as it lives: whoever asked may vanish at any moment.
pub struct Parked;

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

/// A low watermark that a waiting read has in hand.
#[derive(Clone, Copy, Debug)]
pub struct Low {
    offset: i64,
    /// How often it had moved when it was read.
    moves: u64,
    /// Whether it was read since the wait began, not remembered from before.
    is_read: bool,
}

/// Waits shorter than this are not left to the wakes of other nodes.
const LOOKS_IN_A_WAIT: u32 = 4;

impl Log {
    /// Reads from `position`, waiting up to `wait` for a first message. Returns the offset that
    /// the position meant, and what was found there.
    ///
    /// An empty page is true of a moment not before the read began: either the database was asked
    /// since, or nothing changed here and all that other nodes had committed by then was looked at.
    pub async fn poll(
        &self,
        id: PartitionId,
        position: Position,
        limit: u32,
        wait: Duration,
    ) -> Result<(i64, Page), ReadError> {
        let begun = Instant::now();
        let from = match position {
            Position::Offset(offset) => offset,
            Position::Earliest | Position::Latest | Position::Time(_) => {
                let log = self.clone();
                self.detached(Box::pin(async move { log.resolve(id, position).await })).await?
            }
        };
        let request = ReadRequest { from, limit };
        let mut may_rest = wait >= limits::WAKE_INTERVAL * LOOKS_IN_A_WAIT;
        let mut low = None;
        loop {
            // Another one when the log has another incarnation.
            let partition = self.partition(id);
            let watch = partition.watch();
            let (page, seen) =
                self.peek(&partition, request, &watch, may_rest, (begun, low)).await?;
            low = Some(seen);
            if !page.batches.is_empty() || wait.is_zero() || self.shared.lifecycle.is_draining() {
                return Ok((from, page));
            }
            if self.rest(watch, begun + wait).await {
                continue;
            }
            if seen.is_read || self.looked_since(begun) {
                return Ok((from, page));
            }
            // Other nodes' wakes cannot be read at the moment: the database is asked itself.
            may_rest = false;
        }
    }

    /// Whether a low watermark may be told again, or has to be read: it must be of a moment not
    /// before the read began, or another node may have told a higher one by then.
    fn still_counts(&self, low: &Low, moves: u64, begun: Instant) -> bool {
        low.moves == moves && (low.is_read || self.looked_since(begun))
    }

    /// One look at a partition for a reader that may wait: what lies at `request`, or at the end
    /// nothing. `watch` was taken before. A reader that `rests` is not told by the database
    /// but by the watermark that was last read, while nothing was signalled; before it says that
    /// there is nothing, [`Log::looked_since`] must hold. One that waited since `begun` brings the
    /// low watermark of its last look, and may be answered from the tail cache.
    pub async fn peek(
        &self,
        partition: &Arc<Partition>,
        request: ReadRequest,
        watch: &Watch<'_>,
        rests: bool,
        (begun, low): (Instant, Option<Low>),
    ) -> Result<(Page, Low), ReadError> {
        let moves = partition.low_moves();
        let remembered = watch.remembered().filter(|seen| rests && seen.high == request.from);
        let page = match remembered {
            Some(watermarks) => Page { batches: Vec::new(), watermarks },
            None => {
                let low = low.filter(|low| self.still_counts(low, moves, begun));
                self.look(partition, request, low.map(|low| low.offset), watch).await?
            }
        };
        let low = Low { offset: page.watermarks.low, moves, is_read: remembered.is_none() };
        Ok((page, low))
    }

    /// Whether all that other nodes had committed at `moment` was signalled here.
    pub fn looked_since(&self, moment: Instant) -> bool {
        self.shared.looked.borrow().is_some_and(|looked| looked >= moment)
    }

    /// A reader that waits, for the gauge of them, until it is dropped.
    pub fn parked(&self) -> Parked {
        Parked::new()
    }

    /// Waits for a change; false when the time is over or the node drains.
    async fn rest(&self, watch: Watch<'_>, deadline: Instant) -> bool {
        let _parked = Parked::new();
        tokio::select! {
            changed = timeout_at(deadline, watch.changed()) => changed.is_ok(),
            () = self.shared.lifecycle.draining() => false,
        }
    }

    /// What the tail cache has, for those who wait already, or else the database.
    async fn look(
        &self,
        partition: &Arc<Partition>,
        request: ReadRequest,
        low: Option<i64>,
        watch: &Watch<'_>,
    ) -> Result<Page, ReadError> {
        if let Some(page) = low.and_then(|low| self.read_tail(partition, request, low)) {
            LOG.cached_pages.increment(1);
            return Ok(page);
        }
        let page = match partition.ahead().take(request).await {
            Some(page) => page,
            None => {
                let (log, partition) = (self.clone(), Arc::clone(partition));
                let work = Box::pin(async move { log.read(&partition, request).await });
                self.detached(work).await?
            }
        };
        if page.batches.is_empty() {
            watch.remember(page.watermarks);
        }
        self.read_ahead(partition, request, &page).await;
        Ok(page)
    }

    /// Runs `work` in a task that goes on though whoever asked may vanish. It comes boxed: a
    /// parked read would carry its size along.
    async fn detached<T: Send + 'static>(
        &self,
        work: Pin<Box<dyn Future<Output = Result<T, ReadError>> + Send>>,
    ) -> Result<T, ReadError> {
        let work = self.shared.lifecycle.spawn(work);
        match timeout(limits::DATABASE_ANSWER_TIMEOUT, work).await {
            Ok(done) => done.unwrap_or(Err(ReadError::Unfinished)),
            Err(_) => Err(StoreError::Unreachable("no answer".to_owned()).into()),
        }
    }
}
