//! Two-stage shutdown and tracked tasks. The first signal drains (`soft`), the second, or a
//! deadline, ends at once (`hard`). Nothing is spawned but through here, so a stop can wait for
//! everything that still owes an answer.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

/// A node's life as its tasks see it. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    sealed: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// A life that has just begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` on the runtime and counts it among those a stop waits for.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tasks.track_future(task))
    }

    /// Begins the drain; called again, ends at once.
    pub fn stop(&self) {
        if self.soft.is_cancelled() {
            self.abort();
        }
        self.soft.cancel();
    }

    /// No new work comes any more: what waits is finished.
    pub fn seal(&self) {
        self.soft.cancel();
        self.sealed.cancel();
    }

    /// Ends at once.
    pub fn abort(&self) {
        self.seal();
        self.hard.cancel();
    }

    /// Whether no new work comes any more.
    pub fn is_sealed(&self) -> bool {
        self.sealed.is_cancelled()
    }

    /// Completes when no new work comes any more.
    pub fn sealing(&self) -> WaitForCancellationFuture<'_> {
        self.sealed.cancelled()
    }

    /// Whether a stop has begun.
    pub fn is_draining(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Completes when a stop begins.
    pub fn draining(&self) -> WaitForCancellationFuture<'_> {
        self.soft.cancelled()
    }

    /// Completes when nothing may be waited for any more.
    pub fn aborted(&self) -> WaitForCancellationFuture<'_> {
        self.hard.cancelled()
    }

    /// Waits until every tracked task has ended.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Whether this node can serve, as the probe that watches it last saw. Clones share one state,
/// which begins unready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    shared: Arc<ReadinessState>,
}

#[derive(Debug)]
struct ReadinessState {
    ready: AtomicBool,
    reason: Mutex<String>,
}

impl Default for ReadinessState {
    fn default() -> Self {
        Self { ready: AtomicBool::new(false), reason: Mutex::new("starting".to_owned()) }
    }
}

impl Readiness {
    /// A node that is starting.
    pub fn new() -> Self {
        Self::default()
    }

    /// The node can serve.
    pub fn set_ready(&self) {
        self.shared.ready.store(true, Ordering::Release);
    }

    /// The node cannot serve because of `reason`, which clients read.
    pub fn set_unready(&self, reason: &str) {
        let mut kept = self.shared.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.clone_into(&mut kept);
        self.shared.ready.store(false, Ordering::Release);
    }

    /// `Ok` when ready, else why not.
    pub fn get(&self) -> Result<(), String> {
        if self.shared.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(self.shared.reason.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_begins_unready_and_tells_why() {
        let readiness = Readiness::new();
        assert_eq!(readiness.get(), Err("starting".to_owned()));
        readiness.set_ready();
        assert_eq!(readiness.clone().get(), Ok(()));
        readiness.set_unready("the database does not answer");
        assert_eq!(readiness.get(), Err("the database does not answer".to_owned()));
    }
}
