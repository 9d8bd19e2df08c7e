//! Publishing over REST: `POST /v1/topics/{topic}/messages` and `/raw`.

mod answer;
pub mod raw;
mod schema;

pub(in crate::api::http) use answer::Published;
use answer::{CameBefore, Numbers, Results};
use axum::{
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
pub use schema::{NewMessage, PublishAnswer, PublishSchema};

use super::{
    ndjson,
    topics::{catalog_problem, lookup_problem, name},
};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem, ProblemBody},
        extract::{IdempotencyKey, MediaKind, Object, PathParams, ReadBody, json_problem},
        layers::RequestId,
        message::{self, PublishIn, RequestRecords},
    },
    auth::Principal,
    catalog::{CatalogError, Topic},
    model::{Name, TenantId, limits, topic::Keyless},
    publish::{
        Acked, Claim, ClaimKey, Lane, MarkKey, Part, PublishError, Terms, layout, partition_of_key,
    },
};

/// How often a request is sorted anew after its topic moved, grew or was made again.
const TRIES: usize = 4;

/// Why a publish of one request failed, while its topic may still be looked up again.
pub(super) enum Failed {
    /// The request itself.
    Request(Problem),
    /// The topic or the log.
    Publish(PublishError, Repeatable),
}

/// Whether a repeat of the request is known as one.
type Repeatable = bool;

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Request(problem)
    }
}

/// Publish messages
///
/// All messages of a JSON body are appended together or not at all. `application/x-ndjson` takes
/// a message a line, committed by at most 1000 lines, and answers a result a line; the first bad
/// line ends it. With an `Idempotency-Key` an upload of lines that is sent again gets the first
/// answers as far as it came and goes on from there.
#[utoipa::path(post, path = "/v1/topics/{topic}/messages", operation_id = "publish_messages",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic's name."),
        ("Idempotency-Key" = Option<String>, Header,
            description = "The request is carried out once; a repeat gets the first answer.")),
    request_body(content(
        (PublishSchema = "application/json"),
        (NewMessage = "application/x-ndjson"))),
    responses((status = 200, description = "The messages are committed.", body = PublishAnswer,
            headers(("Idempotency-Replayed" = Option<String>,
                description = "`true` where the request came before with its key."))),
        (status = 409, description = "Such a request is running, or its sequence is too old.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "The next offset is not the expected one.",
            body = ProblemBody, content_type = "application/problem+json"),
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
    let headers = keyed(&request);
    let body = ReadBody::from_request(request, &state).await?;
    let tenant = principal.tenant;
    match body.media {
        MediaKind::Absent | MediaKind::Json | MediaKind::Form => {
            let records = |topic: &Topic, keyless| parse(&body.bytes, topic, keyless);
            let bytes = body.bytes.len();
            let key = match &headers {
                Some(headers) => IdempotencyKey::of(headers, |asks| asks.add(b'b', &body.bytes))?,
                None => None,
            };
            let key = key.as_ref().map(|key| (key, "messages"));
            let asked = Asked { tenant, name: &name, bytes, key };
            publish(&state, asked, records).await.map(IntoResponse::into_response)
        }
        MediaKind::Ndjson => {
            let headers = headers.map(|headers| *headers);
            ndjson::publish(state, tenant, name, (headers, body.bytes), request_id).await
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

/// The headers of a request with an `Idempotency-Key`; most have none, and nothing is copied.
fn keyed(request: &Request) -> Option<Box<HeaderMap>> {
    let headers = request.headers();
    IdempotencyKey::is_in(headers).then(|| Box::new(headers.clone()))
}

/// Who publishes where.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) tenant: TenantId,
    pub(super) name: &'a Name,
    /// Bytes of the messages, about.
    pub(super) bytes: usize,
    /// The key of the request, and the part of the route below the topic that it counts for.
    pub(super) key: Option<(&'a IdempotencyKey, &'a str)>,
}

/// Publishes what `records` makes of the topic as it stands. A topic that moved, grew or was made
/// again since this node read it is read again and the request sorted anew: nothing of it was
/// appended.
pub(super) async fn publish(
    state: &AppState,
    asked: Asked<'_>,
    records: impl Fn(&Topic, u32) -> Result<RequestRecords, Problem>,
) -> Result<Published, Problem> {
    let name = asked.name;
    let mut last = PublishError::Unavailable;
    let mut is_fresh = false;
    for _ in 0..TRIES {
        let topic = state.catalog.topic(asked.tenant, name).await;
        let topic = topic.map_err(|error| lookup_problem(error, name))?;
        match publish_once(state, &topic, asked, &records).await {
            Ok(published) => return Ok(published),
            Err(Failed::Request(problem)) if depends_on_topic(&problem) && !is_fresh => {
                state.catalog.forget(asked.tenant, name);
                is_fresh = true;
            }
            Err(Failed::Request(problem)) => return Err(problem),
            Err(Failed::Publish(error @ (PublishError::Moved(_) | PublishError::Gone(_)), _)) => {
                state.catalog.forget(asked.tenant, name);
                last = error;
            }
            Err(Failed::Publish(error, is_repeatable)) => {
                return Err(publish_problem(&error, name).repeatable(is_repeatable));
            }
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
    asked: Asked<'_>,
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
        Keyless::Sticky => {
            state.publisher.sticky_turn(lane, asked.bytes).wrapping_add(topic.id.0 as u64)
        }
        Keyless::RoundRobin => state.publisher.next_turn(),
    };
    let keyless = (keyless % u64::from(settings.partitions)) as u32;
    let mut records = records(topic, keyless)?;
    if records.terms.expect_offset.is_some() && records.parts.len() > 1 {
        let detail = "messages with an expected offset go to one partition";
        return Err(Problem::new(ErrorCode::Invalid, detail).at("/expect_offset").into());
    }
    let numbers = Numbers {
        partitions: records.parts.iter().map(|(number, _)| *number).collect(),
        placed: records.placed,
    };
    claim_key(&mut records.terms, topic, asked)?;
    if let Some(claim) = &mut records.terms.claim {
        let parts = numbers.placed.iter().map(|placed| placed.part);
        claim.layout = layout::encode(&numbers.partitions, parts);
    }
    let parts = records
        .parts
        .into_iter()
        .map(|(number, records)| Part { partition: topic.partitions[number as usize], records })
        .collect();
    let is_repeatable = records.terms.claim.is_some();
    let published = state.publisher.publish(lane, parts, records.terms).await;
    let acked = published.map_err(|error| Failed::Publish(error, is_repeatable))?;
    let durability = settings.durability.as_str();
    Ok(match acked {
        Acked::Appended(offsets) => {
            let results = Results::Appended(numbers, offsets);
            Published { results, durability, came_before: CameBefore::No }
        }
        Acked::Repeated(results) => {
            let results = Results::Repeated(results);
            let by_key = asked.key.is_some();
            let came_before = if by_key { CameBefore::Key } else { CameBefore::Sequence };
            Published { results, durability, came_before }
        }
    })
}

/// Claims the request's key, which counts for this topic and route.
fn claim_key(terms: &mut Terms, topic: &Topic, asked: Asked<'_>) -> Result<(), Problem> {
    let Some((key, route)) = asked.key else { return Ok(()) };
    if terms.claim.is_some() {
        let detail = "a request has a producer or an Idempotency-Key, not both";
        return Err(Problem::new(ErrorCode::Invalid, detail).at("/producer"));
    }
    let scope = format!("POST /topics/{}/{route}", topic.id);
    let (hash, key) = (key.hash, ClaimKey::Request(key.claim(asked.tenant, scope)));
    terms.claim = Some(Box::new(Claim { key, hash, layout: Vec::new() }));
    Ok(())
}

fn parse(body: &Bytes, topic: &Topic, keyless: u32) -> Result<RequestRecords, Problem> {
    let Object(parsed): Object<PublishIn<'_>> =
        serde_json::from_slice(body).map_err(|_| json_problem::<Object<PublishIn<'_>>>(body))?;
    let messages = parsed.messages()?;
    let mut records = RequestRecords::for_body(body.len());
    records.terms.expect_offset = parsed.expect_offset()?;
    let mut round_robin = keyless;
    let mut is_spread = topic.settings.keyless == Keyless::RoundRobin;
    if let Some(producer) = parsed.producer()? {
        // One partition for all that have no key, so that their order is one.
        round_robin = partition_of_key(producer.id.as_bytes(), topic.settings.partitions);
        is_spread = false;
        let (owner, sequence) = (topic.id, producer.sequence);
        let key = ClaimKey::Mark(MarkKey { owner, producer: producer.id, sequence });
        let hash = message::digest(&parsed, messages);
        records.terms.claim = Some(Box::new(Claim { key, hash, layout: Vec::new() }));
    }
    for (at, message) in messages.iter().enumerate() {
        message::place(message, topic, round_robin, &mut records)
            .map_err(|refused| refused.problem(&format!("/messages/{at}")))?;
        if is_spread {
            round_robin = (round_robin + 1) % topic.settings.partitions;
        }
    }
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
        PublishError::BodyDiffers => {
            (ErrorCode::BodyDiffers, "this came before, with another body".to_owned())
        }
        PublishError::SequenceTooOld => (
            ErrorCode::SequenceTooOld,
            format!("the sequence is not among the producer's last {}", limits::PRODUCER_WINDOW),
        ),
        PublishError::InProgress => {
            (ErrorCode::InProgress, "a request with this key is running".to_owned())
        }
        PublishError::WrongOffset { next_offset } => {
            let detail = format!("the next offset of the partition is {next_offset}");
            let problem = Problem::new(ErrorCode::WrongOffset, detail);
            return problem.fact("next_offset", *next_offset);
        }
        PublishError::Draining => (ErrorCode::Draining, "this node is about to stop".to_owned()),
    };
    Problem::new(code, detail)
}

/// What a topic that cannot be found is on the wire, for readers.
pub(super) fn gone(name: &Name) -> Problem {
    catalog_problem(CatalogError::NotFound, name)
}
