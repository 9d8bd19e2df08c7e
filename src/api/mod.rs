//! Everything on the wire, and nothing else.

pub mod accept;
pub mod address;
pub mod asyncapi;
pub mod error;
pub mod extract;
pub mod http;
pub mod layers;
pub mod message;
pub mod openapi;
pub mod origin;
pub mod routes;
pub mod ws;

use std::sync::Arc;

use axum::extract::FromRef;

use crate::{
    catalog::Catalog,
    commit::offsets::Offsets,
    deliver::{groups::Groups, stream::Streams},
    lifecycle::{Lifecycle, Readiness},
    log::Log,
    model::{AllowedOrigins, Clock},
    publish::{Publisher, Running},
};
use accept::UnfinishedBytes;
use address::Addresses;
use extract::Bodies;

/// What every handler can reach. A clone costs one count: every request makes several.
#[derive(Clone, Debug)]
pub struct AppState(Arc<AppParts>);

impl AppState {
    /// The state of a node made of `parts`.
    pub fn new(parts: AppParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for AppState {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0
    }
}

/// What [`AppState`] is made of.
#[derive(Debug)]
pub struct AppParts {
    /// The node's life, for what has to end with it.
    pub lifecycle: Lifecycle,
    /// Whether the node can serve.
    pub readiness: Readiness,
    /// The node's own clock.
    pub clock: Clock,
    /// What bodies may cost together.
    pub bodies: Bodies,
    /// What unfinished frames cost together.
    pub unfinished: UnfinishedBytes,
    /// The addresses of those who have sockets.
    pub addresses: Addresses,
    /// The origins whose pages may open sockets from elsewhere.
    pub origins: AllowedOrigins,
    /// Topics as resources.
    pub catalog: Catalog,
    /// Consumer groups.
    pub groups: Groups,
    /// Topics that are read on.
    pub streams: Streams,
    /// What settles offsets of groups.
    pub offsets: Offsets,
    /// The way into the log.
    pub publisher: Publisher,
    /// The log.
    pub log: Log,
    /// Keys of requests other than publishes that are not answered yet.
    pub running: Running,
}

impl AsRef<Bodies> for AppState {
    fn as_ref(&self) -> &Bodies {
        &self.bodies
    }
}

impl FromRef<AppState> for Lifecycle {
    fn from_ref(state: &AppState) -> Self {
        state.lifecycle.clone()
    }
}

impl FromRef<AppState> for Readiness {
    fn from_ref(state: &AppState) -> Self {
        state.readiness.clone()
    }
}
