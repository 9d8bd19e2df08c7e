//! What a failed statement is on the wire.

use super::{ErrorCode, Problem};
use crate::store::{StoreError, error::Refusal};

impl Problem {
    /// What a failed statement is on the wire. It is logged here, once; clients read no more than
    /// what they may do about it.
    pub fn of_store(error: &StoreError) -> Self {
        match error {
            StoreError::Unreachable(_) => {
                Self::new(ErrorCode::DatabaseUnavailable, "the database cannot be reached")
            }
            StoreError::Lost(_) => Self::new(
                ErrorCode::OutcomeUnknown,
                "the connection to the database was lost before it answered",
            ),
            StoreError::Refused { reason, .. } => match reason {
                Refusal::Full => {
                    Self::new(ErrorCode::StorageFull, "the database has no space left")
                }
                Refusal::Busy | Refusal::Unavailable => Self::new(
                    ErrorCode::DatabaseUnavailable,
                    "the database cannot do this at the moment",
                ),
                Refusal::Missing | Refusal::Conflict | Refusal::Other => {
                    tracing::error!(%error, "a statement was refused");
                    Self::new(ErrorCode::Internal, "the database refused")
                }
            },
            StoreError::Shape(_) => {
                tracing::error!(%error, "a statement brought something unexpected");
                Self::new(ErrorCode::Internal, "the database answered something unexpected")
            }
        }
    }

    /// What a failed read is on the wire: it has no effect that could be unknown.
    pub fn of_read(error: &StoreError) -> Self {
        match error {
            StoreError::Lost(_) => {
                Self::new(ErrorCode::DatabaseUnavailable, "the database cannot be reached")
            }
            StoreError::Unreachable(_) | StoreError::Refused { .. } | StoreError::Shape(_) => {
                Self::of_store(error)
            }
        }
    }
}
