//! What a node tells those who run it: logs and metrics, never what is in messages.

pub mod logs;
pub mod metrics;
pub mod panics;

pub use logs::init;
