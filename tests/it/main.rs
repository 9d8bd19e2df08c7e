//! One binary for all integration tests: linking is what costs.

mod api;
