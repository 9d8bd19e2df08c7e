//! The rows of the table, a scenario a file.

pub mod backlog;
pub mod batches;
pub mod commits;
pub mod floors;
pub mod groups;
pub mod held;
pub mod idempotent;
pub mod idle;
pub mod idle_groups;
pub mod latency;
pub mod rebalance;
pub mod singles;
pub mod wake;
