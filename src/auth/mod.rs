//! Who is asking and what they may do. Without configured authentication a node serves loopback
//! only, as tenant `default` with every permission.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};

use crate::model::{TenantId, ids::DEFAULT_TENANT};

/// An id that nobody else has, for who comes without one.
#[expect(clippy::disallowed_methods, reason = "random ids are made here")]
pub fn random_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Whose resources the request is about. It comes from the credential and nothing else.
    pub tenant: TenantId,
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { tenant: DEFAULT_TENANT })
    }
}
