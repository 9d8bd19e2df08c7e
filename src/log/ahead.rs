//! Reading ahead. A reader that goes through a backlog page by page asks for the next one when it
//! is done with the last; by then the node has fetched it. Only a page that ends below the high
//! watermark is used so, and only for a moment: at the end of the log, and where retention has
//! been, the database is asked itself.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::yield_now,
    time::{Instant, timeout},
};

use super::{Log, Page, Partition, ReadRequest};
use crate::model::limits;

/// How long a fetched page is good for.
const FRESH: Duration = Duration::from_secs(1);

/// Pages that wait for one reader.
const DEPTH: usize = 2;

/// What one partition has of pages fetched ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
    fetched: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Where the last page that was served ended: who begins there goes through the log.
    expected: Option<i64>,
    /// The highest low watermark that was told.
    low: i64,
    /// What is being fetched at the moment.
    fetching: Option<ReadRequest>,
    pages: VecDeque<Fetched>,
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

/// The request that goes on where `page` ends, if there is more.
fn sequel(request: ReadRequest, page: &Page) -> Option<ReadRequest> {
    let last = page.batches.last()?.last_offset + 1;
    let from = last.min(request.from + i64::from(request.limit));
    (from < page.watermarks.high).then_some(ReadRequest { from, limit: request.limit })
}

impl Ahead {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page that was fetched for this request, once. One that is being fetched is waited for.
    pub(super) async fn take(&self, request: ReadRequest) -> Option<Page> {
        loop {
            let mut fetched = pin!(self.fetched.notified());
            fetched.as_mut().enable();
            {
                let mut state = self.lock();
                while let Some(first) = state.pages.pop_front() {
                    let is_good = first.request == request
                        && first.at.elapsed() < FRESH
                        && first.page.watermarks.low >= state.low;
                    if is_good {
                        return Some(first.page);
                    }
                }
                if state.fetching != Some(request) {
                    return None;
                }
            }
            fetched.await;
        }
    }

    /// Notes a page that is served. Returns what to fetch next, if this one was expected itself,
    /// there is more, and nobody fetches yet.
    fn note(&self, request: ReadRequest, page: &Page) -> Option<ReadRequest> {
        let mut state = self.lock();
        state.low = state.low.max(page.watermarks.low);
        let next = sequel(request, page);
        let was_expected = state.expected == Some(request.from);
        state.expected = next.map(|next| next.from);
        if !was_expected || state.fetching.is_some() || state.pages.len() >= DEPTH {
            return None;
        }
        let newest = state.pages.back();
        let next = newest.map_or(next, |newest| sequel(newest.request, &newest.page))?;
        state.fetching = Some(next);
        Some(next)
    }

    /// Keeps a fetched page, and says what to fetch after it.
    fn keep(&self, fetched: Option<Fetched>) -> Option<ReadRequest> {
        let mut state = self.lock();
        state.fetching = None;
        if let Some(fetched) = fetched {
            let next = sequel(fetched.request, &fetched.page);
            // Without a sequel the page touches the end of the log, where it may be old already.
            if next.is_some() {
                state.pages.push_back(fetched);
                state.fetching = next.filter(|_| state.pages.len() < DEPTH);
            }
        }
        let next = state.fetching;
        drop(state);
        self.fetched.notify_waiters();
        next
    }

    /// Lets go of all pages: the low watermark has moved.
    pub(super) fn forget(&self) {
        self.lock().pages.clear();
    }

    /// Lets go of pages that nobody asked for.
    pub(super) fn forget_stale(&self) {
        self.lock().pages.retain(|fetched| fetched.at.elapsed() < FRESH);
    }
}

impl Log {
    /// Notes a page that is served and fetches the next ones where they will probably be asked
    /// for.
    pub(super) async fn read_ahead(
        &self,
        partition: &Arc<Partition>,
        request: ReadRequest,
        page: &Page,
    ) {
        let Some(mut next) = partition.ahead().note(request, page) else { return };
        let (log, partition) = (self.clone(), Arc::clone(partition));
        self.shared.lifecycle.spawn(async move {
            loop {
                let fetched = log.fetch(&partition, next).await;
                let Some(after) = partition.ahead().keep(fetched) else { return };
                next = after;
            }
        });
        // The database works on it while this page is written.
        yield_now().await;
    }

    /// A page, if there is room for it; what cannot be read now is told to whoever asks for it.
    async fn fetch(&self, partition: &Partition, request: ReadRequest) -> Option<Fetched> {
        let share = Arc::clone(&self.shared.ahead.0).try_acquire_owned().ok()?;
        let at = Instant::now();
        let page = timeout(FRESH, self.read(partition, request)).await.ok()?.ok()?;
        Some(Fetched { request, page, at, _share: share })
    }
}
