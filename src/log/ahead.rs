//! Reading ahead. A reader that goes through a backlog page by page asks for the next one when it
//! is done with the last; by then the node has fetched it. Only a page that ends below the high
//! watermark is used so, and only for a moment: at the end of the log, and where retention has
//! been, the database is asked itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{Log, Page, Partition, ReadRequest};
use crate::model::limits;

/// How long a fetched page is good for.
const FRESH: Duration = Duration::from_secs(1);

/// What one partition has of pages fetched ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the last page that was served ended: who begins there goes through the log.
    expected: Option<i64>,
    /// The highest low watermark that was told.
    low: i64,
    page: Option<Fetched>,
}

#[derive(Debug)]
struct Fetched {
    request: ReadRequest,
    page: Page,
    at: Instant,
    _share: OwnedSemaphorePermit,
}

/// The pages that a node may hold fetched.
#[derive(Debug)]
pub(super) struct AheadBudget(Arc<Semaphore>);

impl Default for AheadBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::AHEAD_PAGES_MAX)))
    }
}

impl Ahead {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page that was fetched for this request, once.
    pub(super) fn take(&self, request: ReadRequest) -> Option<Page> {
        let mut state = self.lock();
        let fetched = state.page.take_if(|fetched| fetched.request == request)?;
        let is_good = fetched.at.elapsed() < FRESH && fetched.page.watermarks.low >= state.low;
        is_good.then_some(fetched.page)
    }

    /// Notes a page that is served. Returns the request to expect next, if this one was expected
    /// itself and there is more.
    fn note(&self, request: ReadRequest, page: &Page) -> Option<ReadRequest> {
        let mut state = self.lock();
        state.low = state.low.max(page.watermarks.low);
        let last = page.batches.last()?.last_offset + 1;
        let next = last.min(request.from + i64::from(request.limit));
        let was_expected = state.expected.replace(next) == Some(request.from);
        let is_sequel = was_expected && next < page.watermarks.high;
        is_sequel.then_some(ReadRequest { from: next, limit: request.limit })
    }

    /// Lets go of a page that nobody asked for.
    pub(super) fn forget_stale(&self) {
        self.lock().page.take_if(|fetched| fetched.at.elapsed() >= FRESH);
    }
}

impl Log {
    /// Notes a page that is served and fetches the next one where it will probably be asked for.
    pub(super) fn read_ahead(&self, partition: &Arc<Partition>, request: ReadRequest, page: &Page) {
        let Some(next) = partition.ahead().note(request, page) else { return };
        let budget = Arc::clone(&self.shared.ahead.0);
        let Ok(share) = budget.try_acquire_owned() else { return };
        let (log, partition) = (self.clone(), Arc::clone(partition));
        self.shared.lifecycle.spawn(async move {
            let at = Instant::now();
            // What cannot be read now is told to whoever asks for it.
            let Ok(page) = log.read(&partition, next).await else { return };
            let end = page.batches.last().map(|batch| batch.last_offset + 1);
            if end.is_some_and(|end| end < page.watermarks.high) {
                let fetched = Fetched { request: next, page, at, _share: share };
                partition.ahead().lock().page = Some(fetched);
            }
        });
    }
}
