//! What a failed statement, and a failed read of the log, is on the wire.

use super::{ErrorCode, Problem};
use crate::{
    log::ReadError,
    store::{StoreError, error::Refusal, read::Watermarks},
};

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
    /// What a failed read of the log is on the wire. `of` names whose it was for the node's log,
    /// `gone` is the answer where the partition is there no more.
    pub fn of_log(error: ReadError, of: &str, gone: impl FnOnce() -> Self) -> Self {
        match error {
            ReadError::Gone => gone(),
            ReadError::OutOfRange(Watermarks { low, high }) => Self::new(
                ErrorCode::OffsetOutOfRange,
                format!("offsets {low} to {high} can be read from"),
            )
            .fact("low_watermark", low)
            .fact("high_watermark", high),
            ReadError::Store(error) => Self::of_read(&error),
            ReadError::Unsettled(_) | ReadError::Unfinished => {
                tracing::error!(of, %error, "a read failed");
                Self::new(ErrorCode::Internal, "the read failed")
            }
        }
    }
}
