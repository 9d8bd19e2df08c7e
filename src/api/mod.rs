//! Everything on the wire, and nothing else.

pub mod accept;
pub mod error;
pub mod extract;
pub mod layers;

use crate::{
    lifecycle::{Lifecycle, Readiness},
    model::Clock,
};
use extract::Bodies;

/// What every handler can reach.
#[derive(Clone, Debug)]
pub struct AppState {
    /// The node's life, for what has to end with it.
    pub lifecycle: Lifecycle,
    /// Whether the node can serve.
    pub readiness: Readiness,
    /// The node's own clock.
    pub clock: Clock,
    /// What bodies may cost together.
    pub bodies: Bodies,
}
