//! Everything that is tested from outside the crate, in one binary.

mod advantages;
mod api;
mod architecture;
mod bad_input;
mod chaos;
mod cli;
mod deploy;
mod docs;
mod failover;
mod history;
mod postgres;
mod store;
mod support;
mod topics;
