//! Everything that is tested from outside the crate, in one binary.

mod api;
mod architecture;
mod cli;
mod deploy;
mod docs;
mod postgres;
mod support;
mod topics;
