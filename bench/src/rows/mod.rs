//! The rows of the table, a scenario a file.

pub mod backlog;
pub mod batches;
pub mod commits;
pub mod fanout;
pub mod floors;
pub mod frames;
pub mod group_sockets;
pub mod groups;
pub mod held;
pub mod idempotent;
pub mod idle;
pub mod idle_groups;
pub mod idle_sockets;
pub mod latency;
pub mod rebalance;
pub mod singles;
pub mod sockets;
pub mod wake;
