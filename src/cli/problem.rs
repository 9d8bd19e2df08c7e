//! The server's errors as this side reads them.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

/// An error answer. What is no problem document, such as a proxy's page, becomes one too.
#[derive(Clone, Debug, Deserialize)]
pub struct Problem {
    /// The stable name.
    pub code: String,
    /// What happened.
    #[serde(default)]
    pub detail: String,
    /// `none` or `unknown`.
    #[serde(default)]
    pub effect: String,
    /// Whether the same again may have another end.
    #[serde(default)]
    pub retryable: bool,
    /// The request's id; empty when nobody gave it one.
    #[serde(default)]
    pub request_id: String,
    /// Which fields.
    #[serde(default)]
    pub errors: Vec<FieldError>,
    /// The HTTP status.
    #[serde(skip)]
    pub http_status: u16,
    /// After how many seconds a repeat is worth while, if the server says so.
    #[serde(skip)]
    pub retry_after_s: Option<u64>,
    /// Whatever else it says, such as both watermarks.
    #[serde(flatten)]
    pub facts: Map<String, Value>,
}

/// One field that is wrong.
#[derive(Clone, Debug, Deserialize)]
pub struct FieldError {
    /// Where.
    #[serde(default)]
    pub pointer: String,
    /// What.
    #[serde(default)]
    pub detail: String,
}

impl Problem {
    /// Reads an answer of `status` that is no success.
    pub fn read(status: u16, request_id: Option<&str>, body: &[u8]) -> Self {
        let foreign = || Self {
            code: format!("http_{status}"),
            detail: "the answer is not one of Postrider's; is a proxy in between, or is --url \
                     another service?"
                .to_owned(),
            effect: "unknown".to_owned(),
            retryable: false,
            request_id: String::new(),
            errors: Vec::new(),
            http_status: status,
            retry_after_s: None,
            facts: Map::new(),
        };
        let mut problem: Self = serde_json::from_slice(body).unwrap_or_else(|_| foreign());
        problem.http_status = status;
        if let (true, Some(id)) = (problem.request_id.is_empty(), request_id) {
            problem.request_id = id.to_owned();
        }
        problem
    }

    /// Reads the problem of a socket's frame, which says its status itself.
    pub fn of_frame(problem: &str) -> Self {
        let mut problem = Self::read(0, None, problem.as_bytes());
        let status = problem.number("status").and_then(|status| u16::try_from(status).ok());
        problem.http_status = status.unwrap_or(0);
        problem
    }

    /// Whether it is worth while to say the same again to a server that knows a repeat as one.
    pub fn is_worth_repeating(&self) -> bool {
        self.retryable || matches!(self.http_status, 429 | 503) && self.had_no_effect()
    }

    /// Whether the server is sure that nothing happened.
    pub fn had_no_effect(&self) -> bool {
        self.effect == "none"
    }

    /// A number among the facts.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.facts.get(name)?.as_u64()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if !self.request_id.is_empty() {
            write!(f, " (request {})", self.request_id)?;
        }
        for error in &self.errors {
            let pointer = if error.pointer.is_empty() { "/" } else { &error.pointer };
            // One field whose words are the detail itself needs only to be named.
            match error.detail == self.detail {
                true => write!(f, "\n  at {pointer}")?,
                false => write!(f, "\n  at {pointer}: {}", error.detail)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_its_fields_and_request() {
        let body = br#"{"type":"urn:x","title":"Unprocessable","status":422,"code":"unknown_field",
            "detail":"two are unknown","retryable":false,"effect":"none","request_id":"r1",
            "errors":[{"pointer":"/a","detail":"no such field"},
                      {"pointer":"/b","detail":"two are unknown"}],"low_watermark":7}"#;
        let problem = Problem::read(422, Some("other"), body);
        assert_eq!(
            problem.to_string(),
            "unknown_field: two are unknown (request r1)\n  at /a: no such field\n  at /b"
        );
        assert_eq!(problem.number("low_watermark"), Some(7));
        assert!(problem.had_no_effect());
    }

    #[test]
    fn what_is_no_problem_document_is_told_as_what_it_is() {
        let problem = Problem::read(502, Some("r2"), b"<html>Bad Gateway</html>");
        assert!(problem.to_string().starts_with("http_502: the answer is not"), "{problem}");
        assert!(problem.to_string().ends_with("(request r2)"), "{problem}");
        assert!(!problem.had_no_effect());
    }
}
