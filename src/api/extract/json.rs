//! JSON bodies, and what is told about those that are none.

use std::{fmt, marker::PhantomData};

use axum::extract::{FromRequest, Request};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use super::body::{Bodies, MediaKind, ReadBody};
use crate::{
    api::error::{ErrorCode, Problem},
    model::limits,
};

/// Characters of a client's own text that an error repeats.
const ECHO_CHARS_MAX: usize = 200;

/// A JSON body as `T`.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T, S> FromRequest<S> for JsonBody<T>
where
    T: DeserializeOwned,
    S: AsRef<Bodies> + Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = ReadBody::from_request(request, state).await?;
        json_object(&body).map(Self)
    }
}

/// A body that is a JSON object, as `T`.
pub(super) fn json_object<T: DeserializeOwned>(body: &ReadBody) -> Result<T, Problem> {
    require_json(body, "JSON")?;
    if body.bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(no_object(&body.bytes));
    }
    serde_json::from_slice(&body.bytes).map_err(|_| json_problem::<T>(&body.bytes))
}

/// Refuses a body that says it is something other than JSON. `takes` names what the route reads.
///
/// # Errors
/// `unsupported_media_type`.
pub fn require_json(body: &ReadBody, takes: &str) -> Result<(), Problem> {
    match body.media {
        MediaKind::Absent | MediaKind::Json | MediaKind::Form => Ok(()),
        MediaKind::Ndjson | MediaKind::Other => Err(Problem::new(
            ErrorCode::UnsupportedMediaType,
            format!("this route reads {takes}; say so with Content-Type: application/json"),
        )),
    }
}

/// A `T` that is written as a JSON object; serde would also read an array's elements as a
/// struct's fields.
#[derive(Clone, Copy, Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A body is an object; serde would also read an array's elements as a struct's fields.
fn no_object(bytes: &[u8]) -> Problem {
    match serde_json::from_slice::<IgnoredAny>(bytes) {
        Err(error) => malformed(&error),
        Ok(_) => Problem::new(ErrorCode::Invalid, "the body is a JSON object").at(""),
    }
}

/// Where `bytes`, which are valid JSON, are nested more deeply than
/// [`limits::JSON_DEPTH_MAX`]. serde_json counts only what it builds: a value that is passed
/// over or kept as it stands may be of any depth.
pub fn too_deep_at(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    bytes.iter().position(|byte| {
        match (is_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => is_text = !is_text,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > limits::JSON_DEPTH_MAX
    })
}

/// What is told about JSON nested too deeply at byte `at` of `bytes`.
pub fn too_deep(bytes: &[u8], at: usize) -> Problem {
    let before = bytes.get(..at).unwrap_or(bytes);
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    let detail = format!(
        "the body is nested more than {} levels deep at line {line} column {column}",
        limits::JSON_DEPTH_MAX
    );
    Problem::new(ErrorCode::Malformed, detail).fact("line", line).fact("column", column)
}

/// Why `bytes` are no `T`: `malformed` (not JSON, or nested too deeply), `unknown_field` or
/// `invalid`, with the pointer to the field. Reads them again, so that the way of good bodies
/// keeps no track of where it is.
pub fn json_problem<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Problem {
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
        return malformed(&error);
    }
    if let Some(at) = too_deep_at(bytes) {
        return too_deep(bytes, at);
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Ok(_) => Problem::new(ErrorCode::Malformed, "the body holds more than one JSON value"),
        Err(error) => {
            let pointer = pointer(error.path());
            let error = error.into_inner();
            match error.classify() {
                Category::Data => mismatch(pointer, &error),
                Category::Syntax | Category::Eof | Category::Io => malformed(&error),
            }
        }
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(ErrorCode::Malformed, format!("the body is not valid JSON: {error}"))
        .fact("line", error.line())
        .fact("column", error.column())
}

fn mismatch(mut at: String, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let told = text.rsplit_once(" at line ").map_or(text.as_str(), |(told, _)| told);
    let code = if told.starts_with("unknown field") {
        ErrorCode::UnknownField
    } else {
        let named = ["missing field `", "duplicate field `"];
        let named = named.iter().find_map(|told_of| told.strip_prefix(told_of));
        if let Some(name) = named.and_then(|rest| rest.strip_suffix('`')) {
            at.push('/');
            at.push_str(name);
        }
        ErrorCode::Invalid
    };
    Problem::new(code, shortened(told)).at(at)
}

/// Cut to what is worth repeating.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(ECHO_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// As RFC 6901 writes it.
fn pointer(path: &Path) -> String {
    let mut written = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => written.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                written.push('/');
                written.push_str(&shortened(key).replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    written
}
