//! Publishing one value of any type: `POST /v1/topics/{topic}/messages/raw`.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::{Asked, PublishAnswer, name, publish};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem, ProblemBody},
        extract::{Fingerprint, IdempotencyKey, MediaKind, PathParams, ReadBody, json_problem},
        message::{self, RequestRecords},
    },
    auth::Principal,
    catalog::Topic,
    model::limits,
    record::{Attributes, ValueKind},
};

/// Publish one value as it is
///
/// The body is the value, of the type that `Content-Type` names: JSON is read back as `value`,
/// `text/*` as `value_text`, anything else as `value_base64`. `Postrider-Key` is the key,
/// `Postrider-Header-<name>` a header; names are read in lower case.
#[utoipa::path(post, path = "/v1/topics/{topic}/messages/raw", operation_id = "publish_raw",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic's name."),
        ("Postrider-Key" = Option<String>, Header, description = "The key."),
        ("Idempotency-Key" = Option<String>, Header,
            description = "The request is carried out once; a repeat gets the first answer.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "The message is committed.", body = PublishAnswer,
            headers(("Idempotency-Replayed" = Option<String>,
                description = "`true` where the request came before with its key."))),
        (status = 409, description = "A request with this key is running.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn publish_raw(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(topic): PathParams<String>,
    request: Request,
) -> Result<Response, Problem> {
    let name = name(&topic)?;
    let headers = request.headers().clone();
    let body = ReadBody::from_request(request, &state).await?;
    let kind = raw_kind(&headers, &body)?;
    let records = |topic: &Topic, keyless| raw(&headers, kind, &body.bytes, topic, keyless);
    let bytes = body.bytes.len();
    let key = IdempotencyKey::of(&headers, |asks| asks_for(asks, &headers, &body.bytes))?;
    let key = key.as_ref().map(|key| (key, "messages/raw"));
    let asked = Asked { tenant: principal.tenant, name: &name, bytes, key };
    publish(&state, asked, records).await.map(IntoResponse::into_response)
}

/// What makes the message: its body and the headers that say what it is.
fn asks_for(asks: &mut Fingerprint, headers: &HeaderMap, body: &Bytes) {
    let mut told: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| name.starts_with("postrider-") || *name == "content-type")
        .collect();
    // Stable: the values of one name keep their order.
    told.sort_by_key(|(name, _)| *name);
    for (name, value) in told {
        asks.add(b'n', name.as_bytes());
        asks.add(b'v', value);
    }
    asks.add(b'b', body);
}

fn raw_kind(headers: &HeaderMap, body: &ReadBody) -> Result<ValueKind, Problem> {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_text = declared
        .is_some_and(|kind| kind.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/")));
    if body.media == MediaKind::Json {
        if serde_json::from_slice::<serde::de::IgnoredAny>(&body.bytes).is_err() {
            return Err(json_problem::<serde::de::IgnoredAny>(&body.bytes));
        }
        message::check_depth(&body.bytes).map_err(|refused| refused.problem(""))?;
        return Ok(ValueKind::Json);
    }
    if is_text {
        if std::str::from_utf8(&body.bytes).is_err() {
            let detail = "the body says it is text and is not UTF-8";
            return Err(Problem::new(ErrorCode::Malformed, detail));
        }
        return Ok(ValueKind::Text);
    }
    Ok(ValueKind::Bytes)
}

const HEADER_PREFIX: &str = "postrider-header-";

fn raw(
    headers: &HeaderMap,
    kind: ValueKind,
    body: &Bytes,
    topic: &Topic,
    keyless: u32,
) -> Result<RequestRecords, Problem> {
    let invalid = |detail: String| Problem::new(ErrorCode::Invalid, detail);
    let key = headers.get("postrider-key").map(HeaderValue::as_bytes);
    if key.is_some_and(|key| key.len() > limits::KEY_BYTES_MAX) {
        return Err(invalid(format!("a key has at most {} bytes", limits::KEY_BYTES_MAX)));
    }
    let own: Vec<(&str, &[u8])> = headers
        .iter()
        .filter_map(|(name, value)| {
            Some((name.as_str().strip_prefix(HEADER_PREFIX)?, value.as_bytes()))
        })
        .collect();
    let header_bytes: usize = own.iter().map(|(name, bytes)| name.len() + bytes.len()).sum();
    let bytes = key.map_or(0, <[u8]>::len) + body.len() + header_bytes;
    message::check_size(bytes, topic).map_err(|refused| refused.problem(""))?;
    let partition = message::partition(None, key, topic, keyless);
    let partition = partition.map_err(|refused| refused.problem(""))?;
    // JSON is kept without the blanks around it, as in a batch.
    let value = if kind == ValueKind::Json { body.trim_ascii() } else { body };
    let mut records = RequestRecords::for_body(body.len());
    let binary_key = key.is_some_and(|key| std::str::from_utf8(key).is_err());
    let attributes = Attributes::new(kind, binary_key);
    records.push(partition, attributes, key, Some(value), own.into_iter());
    Ok(records)
}
