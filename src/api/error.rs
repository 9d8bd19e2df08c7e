//! What a client is told when something went wrong: one table of codes for HTTP and WebSocket,
//! written as `application/problem+json` (RFC 9457). The three functions of [`ErrorCode`] are
//! total: a new code does not compile until its status, retry and effect are decided.

mod body;
mod problem;
mod store;

use axum::http::StatusCode;
pub use body::{Effect, FieldError, ProblemBody};
pub use problem::{PendingProblem, Problem};

/// The content type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The stable name of an error. Clients branch on it; titles and details may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A resource of that name stands with other settings.
    AlreadyExists,
    /// More messages in one request than a batch may hold.
    BatchTooLarge,
    /// The sequence or key came before, with another body.
    BodyDiffers,
    /// The request body is over its limit, before or after decoding.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// Another poll of the same member came.
    ConcurrentPoll,
    /// PostgreSQL cannot be reached.
    DatabaseUnavailable,
    /// This node is about to stop.
    Draining,
    /// The page that asks comes from elsewhere.
    ForbiddenOrigin,
    /// The head of a request did not arrive in time.
    HeadTimeout,
    /// The head of a request has too many bytes or fields.
    HeadTooLarge,
    /// A request with the same `Idempotency-Key` is running.
    InProgress,
    /// Something failed that should not have; the log of the node has more.
    Internal,
    /// A value that the field does not take.
    Invalid,
    /// The database failed over: offsets of a `local` topic may mean other messages.
    LogTruncated,
    /// The body cannot be read as what it says it is.
    Malformed,
    /// One message is over its topic's limit.
    MessageTooLarge,
    /// The path does not know this method.
    MethodNotAllowed,
    /// Nothing is there, or you may not know.
    NotFound,
    /// This node cannot serve now.
    NotReady,
    /// Named in the interface and not built yet.
    NotYetSupported,
    /// Below the low watermark or above the high one.
    OffsetOutOfRange,
    /// A request of the same producer has to come first.
    OutOfTurn,
    /// It may have happened: the database did not say.
    OutcomeUnknown,
    /// More work is waiting than this node takes on.
    Overloaded,
    /// The topic has no partition of that number.
    PartitionOutOfRange,
    /// Nobody remembers any more whether this sequence was appended.
    SequenceTooOld,
    /// The database has no synchronous standby.
    ReplicationUnavailable,
    /// An epoch or generation that has passed: somebody else goes on.
    StaleEpoch,
    /// The database has no space left.
    StorageFull,
    /// The topic was deleted and made again.
    TopicRecreated,
    /// A field that the request does not have.
    UnknownField,
    /// The group has no such member, or not any more.
    UnknownMember,
    /// A content type or encoding that the route does not read.
    UnsupportedMediaType,
    /// The path is for sockets alone.
    UpgradeRequired,
    /// The request target is too long.
    UriTooLong,
    /// The next offset of the partition is not the expected one.
    WrongOffset,
}

impl ErrorCode {
    /// All codes, in alphabetical order of their names.
    pub const ALL: [Self; 37] = [
        Self::AlreadyExists,
        Self::BatchTooLarge,
        Self::BodyDiffers,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::ConcurrentPoll,
        Self::DatabaseUnavailable,
        Self::Draining,
        Self::ForbiddenOrigin,
        Self::HeadTimeout,
        Self::HeadTooLarge,
        Self::InProgress,
        Self::Internal,
        Self::Invalid,
        Self::LogTruncated,
        Self::Malformed,
        Self::MessageTooLarge,
        Self::MethodNotAllowed,
        Self::NotFound,
        Self::NotReady,
        Self::NotYetSupported,
        Self::OffsetOutOfRange,
        Self::OutOfTurn,
        Self::OutcomeUnknown,
        Self::Overloaded,
        Self::PartitionOutOfRange,
        Self::ReplicationUnavailable,
        Self::SequenceTooOld,
        Self::StaleEpoch,
        Self::StorageFull,
        Self::TopicRecreated,
        Self::UnknownField,
        Self::UnknownMember,
        Self::UnsupportedMediaType,
        Self::UpgradeRequired,
        Self::UriTooLong,
        Self::WrongOffset,
    ];

    /// The code as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyExists => "already_exists",
            Self::BatchTooLarge => "batch_too_large",
            Self::BodyDiffers => "body_differs",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::ConcurrentPoll => "concurrent_poll",
            Self::DatabaseUnavailable => "database_unavailable",
            Self::Draining => "draining",
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::HeadTimeout => "head_timeout",
            Self::HeadTooLarge => "head_too_large",
            Self::InProgress => "in_progress",
            Self::Internal => "internal",
            Self::Invalid => "invalid",
            Self::LogTruncated => "log_truncated",
            Self::Malformed => "malformed",
            Self::MessageTooLarge => "message_too_large",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotFound => "not_found",
            Self::NotReady => "not_ready",
            Self::NotYetSupported => "not_yet_supported",
            Self::OffsetOutOfRange => "offset_out_of_range",
            Self::OutOfTurn => "out_of_turn",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Overloaded => "overloaded",
            Self::PartitionOutOfRange => "partition_out_of_range",
            Self::ReplicationUnavailable => "replication_unavailable",
            Self::SequenceTooOld => "sequence_too_old",
            Self::StaleEpoch => "stale_epoch",
            Self::StorageFull => "storage_full",
            Self::TopicRecreated => "topic_recreated",
            Self::UnknownField => "unknown_field",
            Self::UnknownMember => "unknown_member",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::UpgradeRequired => "upgrade_required",
            Self::UriTooLong => "uri_too_long",
            Self::WrongOffset => "wrong_offset",
        }
    }

    /// The HTTP status that carries the code.
    pub fn status(self) -> StatusCode {
        match self {
            Self::AlreadyExists
            | Self::ConcurrentPoll
            | Self::InProgress
            | Self::LogTruncated
            | Self::OutOfTurn
            | Self::SequenceTooOld
            | Self::StaleEpoch
            | Self::TopicRecreated => StatusCode::CONFLICT,
            Self::BatchTooLarge | Self::BodyTooLarge | Self::MessageTooLarge => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::BodyTimeout | Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ForbiddenOrigin => StatusCode::FORBIDDEN,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::DatabaseUnavailable
            | Self::Draining
            | Self::NotReady
            | Self::Overloaded
            | Self::ReplicationUnavailable
            | Self::StorageFull => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BodyDiffers
            | Self::Invalid
            | Self::NotYetSupported
            | Self::OffsetOutOfRange
            | Self::PartitionOutOfRange
            | Self::UnknownField => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound | Self::UnknownMember => StatusCode::NOT_FOUND,
            Self::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::WrongOffset => StatusCode::PRECONDITION_FAILED,
        }
    }

    /// Whether the same request can succeed later without risk. `outcome_unknown` is not: the
    /// repeat may write twice.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::BodyTimeout
            | Self::DatabaseUnavailable
            | Self::Draining
            | Self::HeadTimeout
            | Self::InProgress
            | Self::NotReady
            | Self::OutOfTurn
            | Self::Overloaded
            | Self::ReplicationUnavailable
            | Self::StorageFull => true,
            Self::AlreadyExists
            | Self::BatchTooLarge
            | Self::BodyDiffers
            | Self::BodyTooLarge
            | Self::ConcurrentPoll
            | Self::ForbiddenOrigin
            | Self::HeadTooLarge
            | Self::Internal
            | Self::Invalid
            | Self::LogTruncated
            | Self::Malformed
            | Self::MessageTooLarge
            | Self::MethodNotAllowed
            | Self::NotFound
            | Self::NotYetSupported
            | Self::OffsetOutOfRange
            | Self::OutcomeUnknown
            | Self::PartitionOutOfRange
            | Self::SequenceTooOld
            | Self::StaleEpoch
            | Self::TopicRecreated
            | Self::UnknownField
            | Self::UnknownMember
            | Self::UnsupportedMediaType
            | Self::UpgradeRequired
            | Self::UriTooLong
            | Self::WrongOffset => false,
        }
    }

    /// Whether a request that failed so may have changed something.
    pub fn effect(self) -> Effect {
        match self {
            Self::Internal | Self::OutcomeUnknown => Effect::Unknown,
            Self::AlreadyExists
            | Self::BatchTooLarge
            | Self::BodyDiffers
            | Self::BodyTimeout
            | Self::BodyTooLarge
            | Self::ConcurrentPoll
            | Self::DatabaseUnavailable
            | Self::Draining
            | Self::ForbiddenOrigin
            | Self::HeadTimeout
            | Self::HeadTooLarge
            | Self::InProgress
            | Self::Invalid
            | Self::LogTruncated
            | Self::Malformed
            | Self::MessageTooLarge
            | Self::MethodNotAllowed
            | Self::NotFound
            | Self::NotReady
            | Self::NotYetSupported
            | Self::OffsetOutOfRange
            | Self::OutOfTurn
            | Self::Overloaded
            | Self::PartitionOutOfRange
            | Self::ReplicationUnavailable
            | Self::SequenceTooOld
            | Self::StaleEpoch
            | Self::StorageFull
            | Self::TopicRecreated
            | Self::UnknownField
            | Self::UnknownMember
            | Self::UnsupportedMediaType
            | Self::UpgradeRequired
            | Self::UriTooLong
            | Self::WrongOffset => Effect::None,
        }
    }

    /// After how many seconds a retry is worth while.
    pub(super) fn retry_after_s(self) -> Option<u32> {
        (self.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(1)
    }
}
