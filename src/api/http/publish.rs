//! Publishing over REST: `POST /v1/topics/{topic}/messages` and `/raw`.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ndjson,
    topics::{catalog_problem, lookup_problem, name},
};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem, ProblemBody},
        extract::{MediaKind, Object, PathParams, ReadBody, json_problem},
        layers::RequestId,
        message::{self, PublishIn, RequestRecords},
    },
    auth::Principal,
    catalog::{CatalogError, Topic},
    model::{Name, TenantId, limits, topic::Keyless},
    publish::{Lane, Offsets, Part, PublishError},
    record::{Attributes, ValueKind},
};

/// How often a request is sorted anew after its topic moved, grew or was made again.
const TRIES: usize = 4;

/// Where one message stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishResult {
    /// The number of the partition.
    partition: u32,
    /// Its place there.
    offset: i64,
}

/// The answer to a publish.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishAnswer {
    /// One for each message, in the order of the request.
    results: Vec<PublishResult>,
    /// What the acknowledgement means.
    #[schema(example = "local")]
    durability: String,
}

/// The body of a publish, for the description of the interface.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Publish)]
pub struct PublishSchema {
    /// 1 to 10000 messages, appended together or not at all.
    messages: Vec<NewMessage>,
}

/// A message to publish. At most one of `value`, `value_text` and `value_base64`; none of them is
/// a tombstone.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewMessage {
    /// Messages of one key go to one partition and keep their order.
    #[schema(required = false)]
    key: String,
    /// A key of bytes.
    #[schema(required = false)]
    key_base64: String,
    /// Any JSON value, kept byte for byte.
    #[schema(required = false)]
    value: serde_json::Value,
    /// A string.
    #[schema(required = false)]
    value_text: String,
    /// Bytes.
    #[schema(required = false)]
    value_base64: String,
    /// A string, `{"base64": …}`, or an array of these, by name.
    #[schema(required = false)]
    headers: std::collections::BTreeMap<String, serde_json::Value>,
    /// The partition, where the key shall not choose it.
    #[schema(required = false)]
    partition: u32,
}

/// Why a publish of one request failed, while its topic may still be looked up again.
pub(super) enum Failed {
    /// The request itself.
    Request(Problem),
    /// The topic or the log.
    Publish(PublishError),
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Request(problem)
    }
}

/// Publish messages
///
/// All messages of a JSON body are appended together or not at all. `application/x-ndjson` takes
/// a message a line, committed by at most 1000 lines, and answers a result a line; the first bad
/// line ends it.
#[utoipa::path(post, path = "/v1/topics/{topic}/messages", operation_id = "publish_messages",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic's name.")),
    request_body(content(
        (PublishSchema = "application/json"),
        (NewMessage = "application/x-ndjson"))),
    responses((status = 200, description = "The messages are committed.", body = PublishAnswer),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn publish_messages(
    principal: Principal,
    State(state): State<AppState>,
    request_id: RequestId,
    PathParams(topic): PathParams<String>,
    request: Request,
) -> Result<Response, Problem> {
    let name = name(&topic)?;
    refuse_later_headers(request.headers())?;
    let body = ReadBody::from_request(request, &state).await?;
    match body.media {
        MediaKind::Absent | MediaKind::Json | MediaKind::Form => {
            let records = |topic: &Topic, keyless| parse(&body.bytes, topic, keyless);
            let bytes = body.bytes.len();
            publish(&state, principal.tenant, &name, bytes, records)
                .await
                .map(IntoResponse::into_response)
        }
        MediaKind::Ndjson => {
            ndjson::publish(state, principal.tenant, name, body.bytes, request_id).await
        }
        MediaKind::Other => Err(Problem::new(
            ErrorCode::UnsupportedMediaType,
            format!(
                "messages are application/json or application/x-ndjson; a body of any type is \
                 one message at /v1/topics/{name}/messages/raw"
            ),
        )),
    }
}

/// Publish one value as it is
///
/// The body is the value, of the type that `Content-Type` names: JSON is read back as `value`,
/// `text/*` as `value_text`, anything else as `value_base64`. `Postrider-Key` is the key,
/// `Postrider-Header-<name>` a header; names are read in lower case.
#[utoipa::path(post, path = "/v1/topics/{topic}/messages/raw", operation_id = "publish_raw",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic's name."),
        ("Postrider-Key" = Option<String>, Header, description = "The key.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "The message is committed.", body = PublishAnswer),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn publish_raw(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(topic): PathParams<String>,
    request: Request,
) -> Result<Response, Problem> {
    let name = name(&topic)?;
    refuse_later_headers(request.headers())?;
    let headers = request.headers().clone();
    let body = ReadBody::from_request(request, &state).await?;
    let kind = raw_kind(&headers, &body)?;
    let records = |topic: &Topic, keyless| raw(&headers, kind, &body.bytes, topic, keyless);
    let bytes = body.bytes.len();
    publish(&state, principal.tenant, &name, bytes, records).await.map(IntoResponse::into_response)
}

fn refuse_later_headers(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key("idempotency-key") {
        return Err(Problem::not_yet_supported("the header Idempotency-Key"));
    }
    Ok(())
}

/// What an answer to a publish is made of.
pub(super) struct Published {
    pub(super) records: Numbers,
    pub(super) offsets: Offsets,
    pub(super) durability: &'static str,
}

/// Which partition each part is, and which message went where.
pub(super) struct Numbers {
    partitions: smallvec::SmallVec<[u32; 1]>,
    placed: smallvec::SmallVec<[message::Placed; 1]>,
}

impl Published {
    /// How many messages were committed.
    pub(super) fn count(&self) -> usize {
        self.records.placed.len()
    }

    /// Partition and offset of each message, in the order of the request.
    pub(super) fn results(&self) -> impl Iterator<Item = (u32, i64)> {
        self.records.placed.iter().map(|placed| {
            let part = placed.part as usize;
            (self.records.partitions[part], self.offsets[part] + i64::from(placed.place))
        })
    }
}

impl IntoResponse for Published {
    fn into_response(self) -> Response {
        let mut out = Vec::with_capacity(64 + self.records.placed.len() * 36);
        let mut number = itoa::Buffer::new();
        out.extend_from_slice(b"{\"results\":[");
        for (partition, offset) in self.results() {
            out.extend_from_slice(b"{\"partition\":");
            out.extend_from_slice(number.format(partition).as_bytes());
            out.extend_from_slice(b",\"offset\":");
            out.extend_from_slice(number.format(offset).as_bytes());
            out.extend_from_slice(b"},");
        }
        out.pop();
        out.extend_from_slice(b"],\"durability\":\"");
        out.extend_from_slice(self.durability.as_bytes());
        out.extend_from_slice(b"\"}");
        let kind = HeaderValue::from_static("application/json");
        (StatusCode::OK, [(header::CONTENT_TYPE, kind)], out).into_response()
    }
}

/// Publishes what `records` makes of the topic as it stands. A topic that moved, grew or was made
/// again since this node read it is read again and the request sorted anew: nothing of it was
/// appended.
pub(super) async fn publish(
    state: &AppState,
    tenant: TenantId,
    name: &Name,
    bytes: usize,
    records: impl Fn(&Topic, u32) -> Result<RequestRecords, Problem>,
) -> Result<Published, Problem> {
    let mut last = PublishError::Unavailable;
    let mut is_fresh = false;
    for _ in 0..TRIES {
        let topic = state.catalog.topic(tenant, name).await;
        let topic = topic.map_err(|error| lookup_problem(error, name))?;
        match publish_once(state, &topic, bytes, &records).await {
            Ok(published) => return Ok(published),
            Err(Failed::Request(problem)) if depends_on_topic(&problem) && !is_fresh => {
                state.catalog.forget(tenant, name);
                is_fresh = true;
            }
            Err(Failed::Request(problem)) => return Err(problem),
            Err(Failed::Publish(error @ (PublishError::Moved(_) | PublishError::Gone(_)))) => {
                state.catalog.forget(tenant, name);
                last = error;
            }
            Err(Failed::Publish(error)) => return Err(publish_problem(&error, name)),
        }
    }
    Err(publish_problem(&last, name))
}

/// Whether the topic's settings are what makes the request wrong: another node may have answered
/// a change of them that this one has not heard of.
pub(super) fn depends_on_topic(problem: &Problem) -> bool {
    matches!(problem.code, ErrorCode::PartitionOutOfRange | ErrorCode::MessageTooLarge)
}

async fn publish_once(
    state: &AppState,
    topic: &Topic,
    bytes: usize,
    records: &impl Fn(&Topic, u32) -> Result<RequestRecords, Problem>,
) -> Result<Published, Failed> {
    let settings = &topic.settings;
    let lane = Lane {
        class: settings.retention.class(),
        durability: settings.durability,
        compression: settings.compression,
        incarnation: topic.incarnation,
    };
    let keyless = match settings.keyless {
        Keyless::Sticky => state.publisher.sticky_turn(lane, bytes).wrapping_add(topic.id.0 as u64),
        Keyless::RoundRobin => state.publisher.next_turn(),
    };
    let keyless = (keyless % u64::from(settings.partitions)) as u32;
    let records = records(topic, keyless)?;
    let numbers = Numbers {
        partitions: records.parts.iter().map(|(number, _)| *number).collect(),
        placed: records.placed,
    };
    let parts = records
        .parts
        .into_iter()
        .map(|(number, records)| Part { partition: topic.partitions[number as usize], records })
        .collect();
    let offsets = state.publisher.publish(lane, parts).await.map_err(Failed::Publish)?;
    Ok(Published { records: numbers, offsets, durability: settings.durability.as_str() })
}

fn parse(body: &Bytes, topic: &Topic, keyless: u32) -> Result<RequestRecords, Problem> {
    let Object(parsed): Object<PublishIn<'_>> =
        serde_json::from_slice(body).map_err(|_| json_problem::<Object<PublishIn<'_>>>(body))?;
    let messages = parsed.messages()?;
    let mut records = RequestRecords::for_body(body.len());
    let mut round_robin = keyless;
    for (at, message) in messages.iter().enumerate() {
        message::place(message, topic, round_robin, &mut records)
            .map_err(|refused| refused.problem(&format!("/messages/{at}")))?;
        if topic.settings.keyless == Keyless::RoundRobin {
            round_robin = (round_robin + 1) % topic.settings.partitions;
        }
    }
    Ok(records)
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

/// What a publish error is on the wire.
pub(super) fn publish_problem(error: &PublishError, topic: &Name) -> Problem {
    let (code, detail) = match error {
        PublishError::Gone(_) => (ErrorCode::NotFound, format!("there is no topic `{topic}`")),
        PublishError::Moved(_) | PublishError::Overloaded => {
            (ErrorCode::Overloaded, "more is waiting than this node takes on".to_owned())
        }
        PublishError::Unavailable => {
            (ErrorCode::DatabaseUnavailable, "the database cannot be reached".to_owned())
        }
        PublishError::StorageFull => {
            (ErrorCode::StorageFull, "the database has no space left".to_owned())
        }
        PublishError::NoStandby => (ErrorCode::ReplicationUnavailable, error.to_string()),
        PublishError::OutcomeUnknown => (
            ErrorCode::OutcomeUnknown,
            "the database did not say whether the messages were committed".to_owned(),
        ),
        PublishError::Draining => (ErrorCode::Draining, "this node is about to stop".to_owned()),
    };
    Problem::new(code, detail)
}

/// What a topic that cannot be found is on the wire, for readers.
pub(super) fn gone(name: &Name) -> Problem {
    catalog_problem(CatalogError::NotFound, name)
}
