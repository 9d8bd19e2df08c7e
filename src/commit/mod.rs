//! ⑤ What was handed out is settled: offset commits, acks, nacks, extends.

pub mod offsets;
