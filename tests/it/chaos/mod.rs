//! Faults under load, judged by the checker of [`crate::history`]: real nodes in processes of
//! their own, a real PostgreSQL, many publishers and readers. Every seed is printed; a history
//! that breaks a promise is kept as a file.
//!
//! Loads end by themselves, and every process that a test starts is killed by its number when the
//! test ends, also by a panic.

pub mod client;
mod drops;
mod kills;
pub mod load;
pub mod message;
mod mixed;
mod pauses;
mod planted;
mod producers;
mod proxy;
pub mod rig;
mod wire;

use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng};

/// How long a load may take to get somewhere on a machine that others use too.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Random numbers for one purpose: what is drawn for another does not move them.
pub fn stream(seed: u64, purpose: &str) -> StdRng {
    StdRng::seed_from_u64(seed ^ crate::history::fingerprint(&[purpose.as_bytes()]))
}
