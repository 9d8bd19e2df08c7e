//! ⑤ What was handed out is settled: offset commits, acks, nacks, extends.
//!
//! Nothing is settled yet: there are no groups and no queues.
