//! The rows of the table, a scenario a file.

pub mod backlog;
pub mod batches;
pub mod floors;
pub mod held;
pub mod idempotent;
pub mod idle;
pub mod latency;
pub mod singles;
pub mod wake;
