//! Everything that is tested from outside the crate, in one binary.

mod api;
mod architecture;
mod deploy;
mod docs;
mod postgres;
