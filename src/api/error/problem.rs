//! An error on its way to the client.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::{ErrorCode, FieldError, PROBLEM_JSON, ProblemBody};

/// An error on its way to the client. The request's id is filled in by the layer that knows it.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Which error.
    pub code: ErrorCode,
    /// What happened, for a person.
    pub detail: String,
    /// Which fields, where it is about fields.
    pub errors: Vec<FieldError>,
    /// Facts that belong to the code, such as both watermarks of `offset_out_of_range`.
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// Whether a repeat of the request is known as one: then an unknown outcome is no risk.
    pub is_repeatable: bool,
}

impl Problem {
    /// An error of `code` that says `detail`.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let (errors, facts) = (Vec::new(), serde_json::Map::new());
        Self { code, detail: detail.into(), errors, facts, is_repeatable: false }
    }

    /// Names the field that is wrong.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        let detail = self.detail.clone();
        self.errors.push(FieldError { pointer: pointer.into(), detail });
        self
    }

    /// Adds a fact that clients can read.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Says whether a repeat of the request is known as one.
    #[must_use]
    pub fn repeatable(mut self, is_repeatable: bool) -> Self {
        self.is_repeatable = is_repeatable;
        self
    }

    /// A route, field or flag that the interface names and nobody has built.
    pub fn not_yet_supported(what: &str) -> Self {
        Self::new(ErrorCode::NotYetSupported, format!("{what} is not supported yet"))
    }

    fn is_retryable(&self) -> bool {
        let is_known = self.is_repeatable && self.code == ErrorCode::OutcomeUnknown;
        is_known || self.code.is_retryable()
    }

    /// The body of the answer.
    pub fn body(&self, request_id: &str) -> ProblemBody {
        let status = self.code.status();
        ProblemBody {
            r#type: format!("urn:postrider:error:{}", self.code.as_str()),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            code: self.code.as_str(),
            retryable: self.is_retryable(),
            effect: self.code.effect(),
            request_id: request_id.to_owned(),
            errors: self.errors.clone(),
            facts: self.facts.clone(),
        }
    }

    pub(in crate::api) fn json(&self, request_id: &str) -> Vec<u8> {
        serde_json::to_vec(&self.body(request_id)).expect("a problem is plain JSON")
    }

    /// The whole answer to the request of `request_id`.
    pub fn respond(&self, request_id: &str) -> Response {
        let mut response = (self.code.status(), self.json(request_id)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.code.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == ErrorCode::UpgradeRequired {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

/// The marker that [`Problem::into_response`] leaves for the layer that knows the request's id.
#[derive(Clone, Debug)]
pub struct PendingProblem(pub Problem);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(PendingProblem(self));
        response
    }
}
