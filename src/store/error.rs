//! What can go wrong between a statement and its answer, sorted by what the caller may say about
//! it: nothing happened, or nobody knows.

/// A statement that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be had; the statement was not sent.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// The connection was lost or ended after the statement was sent: it may have committed.
    #[error("the connection to the database was lost: {0}")]
    Lost(String),
    /// The statement was refused by PostgreSQL and its transaction rolled back.
    #[error("the database refused: {message} ({code})")]
    Refused {
        /// Why, as far as callers decide by it.
        reason: Refusal,
        /// The SQLSTATE.
        code: String,
        /// PostgreSQL's words. They name tables, never a user's data, and stay in the log.
        message: String,
    },
    /// A row did not have the shape that was asked for.
    #[error("a row has an unexpected shape: {0}")]
    Shape(String),
}

/// Why PostgreSQL refused a statement. In every case nothing of it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A table or function is not there: its bucket went.
    Missing,
    /// A lock was not to be had in time, or a deadlock was broken.
    Busy,
    /// Disk, memory or connections are used up.
    Full,
    /// The server is starting, stopping or a standby.
    Unavailable,
    /// A unique constraint.
    Conflict,
    /// Anything else.
    Other,
}

impl StoreError {
    /// Whether the statement can have had an effect.
    pub fn outcome_is_unknown(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Unreachable(_) | Self::Refused { .. } | Self::Shape(_) => false,
        }
    }

    /// Why PostgreSQL refused, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            Self::Unreachable(_) | Self::Lost(_) | Self::Shape(_) => None,
        }
    }

    /// Whether the session that brought this error is of no further use.
    pub fn ends_session(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Unreachable(_) | Self::Shape(_) => true,
            Self::Refused { reason, .. } => *reason == Refusal::Unavailable,
        }
    }
}

fn reason(code: &str) -> Refusal {
    match code {
        "42883" | "42P01" | "3F000" => Refusal::Missing,
        "55P03" | "40P01" | "40001" => Refusal::Busy,
        "23505" => Refusal::Conflict,
        "57P03" | "25006" => Refusal::Unavailable,
        _ if code.starts_with("53") => Refusal::Full,
        _ => Refusal::Other,
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default().into_owned();
                let message = error.message().to_owned();
                // 57P01 and 57P02 end the session at any moment, also between a commit and its
                // answer.
                if matches!(code.as_str(), "57P01" | "57P02" | "57P05") {
                    return Self::Lost(message);
                }
                Self::Refused { reason: reason(&code), code, message }
            }
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
                Self::Unreachable(error.to_string())
            }
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                Self::Lost(error.to_string())
            }
            sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => {
                Self::Unreachable(error.to_string())
            }
            other => Self::Shape(other.to_string()),
        }
    }
}
