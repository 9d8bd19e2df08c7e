//! The body of an error.

use serde::Serialize;
use utoipa::ToSchema;

/// Whether a failed request may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing happened.
    None,
    /// It may have happened.
    Unknown,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where, as a JSON pointer (RFC 6901) into the body: `/messages/3/value`.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

/// An error as clients read it: RFC 9457 with the members that Postrider adds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A URN of the code.
    pub r#type: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, for a person.
    pub detail: String,
    /// The stable name of the error.
    pub code: &'static str,
    /// Whether the same request can succeed later without risk.
    pub retryable: bool,
    /// Whether something may have happened.
    pub effect: Effect,
    /// The id of the request, as in the header `X-Request-Id`.
    pub request_id: String,
    /// Which fields, where it is about fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Facts that belong to the code.
    #[serde(flatten)]
    pub facts: serde_json::Map<String, serde_json::Value>,
}
