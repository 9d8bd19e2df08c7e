//! Publishing over REST: `POST /v1/topics/{topic}/messages` and `/raw`.

mod answer;
pub mod raw;
pub mod request;
mod schema;

pub use answer::Published;
use axum::{
    extract::{FromRequest, Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
pub(in crate::api::http) use request::{Asked, depends_on_topic, publish};
pub use schema::{NewMessage, ProducerSchema, PublishAnswer, PublishResult, PublishSchema};

use super::{
    ndjson,
    topics::{catalog_problem, name},
};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem, ProblemBody},
        extract::{IdempotencyKey, MediaKind, PathParams, ReadBody},
        layers::RequestId,
    },
    auth::Principal,
    catalog::{CatalogError, Topic},
    model::Name,
};

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
            let records = |topic: &Topic, keyless| request::parse(&body.bytes, topic, keyless);
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

/// What a topic that cannot be found is on the wire, for readers.
pub(in crate::api) fn gone(name: &Name) -> Problem {
    catalog_problem(CatalogError::NotFound, name)
}
