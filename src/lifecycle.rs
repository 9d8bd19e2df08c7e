//! Two-stage shutdown and tracked tasks. The first signal drains (`soft`), the second, or a
//! deadline, ends at once (`hard`). Nothing is spawned but through here, so a stop can wait for
//! everything that still owes an answer.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

/// A node's life as its tasks see it. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
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
            self.hard.cancel();
        }
        self.soft.cancel();
    }

    /// Ends at once.
    pub fn abort(&self) {
        self.soft.cancel();
        self.hard.cancel();
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
