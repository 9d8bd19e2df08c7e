//! Everything on the wire, and nothing else.

pub mod error;
