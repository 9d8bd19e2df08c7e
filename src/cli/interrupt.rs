//! Ctrl-C: the first ends a command in good order, the second at once.

use crate::lifecycle::Lifecycle;

/// A life that Ctrl-C ends. Must be called on a runtime.
pub fn watched() -> Lifecycle {
    let life = Lifecycle::new();
    let stopped = life.clone();
    life.spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            stopped.stop();
        }
    });
    life
}
