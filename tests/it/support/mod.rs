//! What tests of the whole service stand on: a PostgreSQL that all of them share, a database for
//! each, nodes in this process or in one of their own, and a client.

mod balancer;
mod client;
mod database;
pub mod group;
mod load;
mod node;
mod pair;
mod process;
mod proxy;
mod raw_socket;
mod server;
mod socket;

use std::time::{Duration, Instant};

pub use balancer::Balancer;
pub use client::{Answer, Client};
pub use database::TestDatabase;
pub use group::Member;
pub use load::Load;
pub use node::{Node, TwoNodes, one_node};
pub use pair::Pair;
pub use process::Process;
pub use proxy::FaultProxy;
pub use raw_socket::RawSocket;
pub use server::OwnServer;
pub use socket::{PROTOCOL, Socket};

/// No condition is waited for longer, unless a test says so.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Probes until there is something to return.
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe).await
}

/// Probes until there is something to return, at most for `patience`.
pub async fn within<T>(
    patience: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(since.elapsed() < patience, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for one step, at most for [`PATIENCE`].
pub async fn soon<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(done) => done,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Seeds of random tests: `POSTRIDER_SEED`, else a new one. Printed, so that a failure can be
/// run again.
pub fn seed() -> u64 {
    let seed = match std::env::var("POSTRIDER_SEED") {
        Ok(text) => text.parse().expect("POSTRIDER_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("POSTRIDER_SEED={seed}");
    seed
}

/// Whether the long form of the fault runs was asked for.
pub fn is_long() -> bool {
    std::env::var("POSTRIDER_CHAOS").is_ok_and(|value| value == "long")
}
