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
mod groups;
mod history;
mod idempotent;
mod nodes;
mod postgres;
mod retention;
mod sockets;
mod sockets_groups;
mod sql_door;
mod store;
mod support;
mod topics;
