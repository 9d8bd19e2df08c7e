//! All SQL.

pub mod connect;
pub mod server;
