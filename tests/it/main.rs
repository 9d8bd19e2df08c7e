//! Everything that is tested from outside the crate, in one binary.

mod api;
mod architecture;
mod chaos;
mod docs;
mod history;
mod postgres;
mod support;
mod topics;
