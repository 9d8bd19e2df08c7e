//! What the request target says: parts of the path and parameters of the query.

use axum::{
    extract::{FromRequestParts, Path, Query, rejection::PathRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use super::json::shortened;
use crate::api::error::{ErrorCode, Problem};

/// The parts of the path as `T`, percent-decoded.
#[derive(Debug)]
pub struct PathParams<T>(pub T);

impl<T, S> FromRequestParts<S> for PathParams<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(params)) => Ok(Self(params)),
            Err(rejection) => Err(path_problem(&rejection, parts.uri.path())),
        }
    }
}

fn path_problem(rejection: &PathRejection, path: &str) -> Problem {
    use axum::extract::path::ErrorKind;
    if !is_percent_encoded_utf8(path) {
        return Problem::new(ErrorCode::Malformed, "the path is not percent-encoded UTF-8");
    }
    let PathRejection::FailedToDeserializePathParams(error) = rejection else {
        return Problem::new(ErrorCode::Internal, "the route has no such path parameters");
    };
    match error.kind() {
        ErrorKind::ParseErrorAtKey { value, .. }
        | ErrorKind::ParseErrorAtIndex { value, .. }
        | ErrorKind::ParseError { value, .. } => Problem::new(
            ErrorCode::Invalid,
            format!("`{}` is not a number that this part of the path takes", shortened(value)),
        ),
        other => Problem::new(ErrorCode::Invalid, shortened(&other.to_string())),
    }
}

/// The parameters of the query as `T`, which denies unknown fields.
#[derive(Debug)]
pub struct QueryParams<T>(pub T);

impl<T, S> FromRequestParts<S> for QueryParams<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        if !is_percent_encoded_utf8(parts.uri.query().unwrap_or_default()) {
            return Err(Problem::new(
                ErrorCode::Malformed,
                "the query is not percent-encoded UTF-8",
            ));
        }
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                let source = std::error::Error::source(&rejection);
                let told = source.map_or_else(|| rejection.to_string(), |e| e.to_string());
                Err(query_problem(&told))
            }
        }
    }
}

/// `told` is what serde says, led by the parameter's name where it knows it.
fn query_problem(told: &str) -> Problem {
    let quoted = || told.split('`').nth(1).unwrap_or_default();
    let (code, name, detail) = if told.contains("unknown field `") {
        (ErrorCode::UnknownField, quoted(), told.split_once(": ").map_or(told, |(_, d)| d))
    } else if told.contains("missing field `") || told.contains("duplicate field `") {
        (ErrorCode::Invalid, quoted(), told)
    } else {
        match told.split_once(": ") {
            Some((name, detail)) => (ErrorCode::Invalid, name, detail),
            None => (ErrorCode::Invalid, "", told),
        }
    };
    Problem::new(code, shortened(detail)).at(format!("?{}", shortened(name)))
}

/// Whether each `%` leads two hexadecimal digits and the decoded bytes are UTF-8.
fn is_percent_encoded_utf8(text: &str) -> bool {
    if !text.contains('%') {
        return true;
    }
    let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (hex(bytes.next()), hex(bytes.next())) else { return false };
        decoded.push(u8::try_from(high * 16 + low).unwrap_or(u8::MAX));
    }
    std::str::from_utf8(&decoded).is_ok()
}
