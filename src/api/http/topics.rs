//! Topics as resources: `PUT GET PATCH DELETE /v1/topics/{topic}` and the list of them.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    api::{
        AppState,
        error::{ErrorCode, FieldError, Problem, ProblemBody},
        extract::{Object, PathParams, QueryParams, ReadBody, json_problem, require_json},
        http::topic_settings::{TopicPatch, differences, patched, regrown},
    },
    auth::Principal,
    catalog::{CatalogError, Topic},
    model::{Name, clock::format_ms, duration, limits, topic::Retention, topic::TopicSettings},
};

/// A topic with its settings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Topic)]
pub struct TopicOut {
    /// Its name.
    name: String,
    /// How many partitions it has.
    partitions: u32,
    /// How long messages are kept at least: a duration such as `7d`, or `forever`.
    #[schema(example = "7d")]
    retention: String,
    /// How many bytes each partition keeps: what lies before the newest so many is hidden;
    /// `null` is no limit.
    retention_bytes: Option<u64>,
    /// What an acknowledgement means: `local` or `replicated`.
    #[schema(example = "local")]
    durability: &'static str,
    /// How messages are compressed in the log: `none`, `lz4` or `zstd`.
    #[schema(example = "none")]
    compression: &'static str,
    /// The largest message in bytes, key and headers included.
    max_message_bytes: u32,
    /// Where messages without a key go: `sticky` or `round_robin`.
    #[schema(example = "sticky")]
    keyless: &'static str,
    /// When it was made.
    #[schema(example = "2026-11-24T10:38:00.000Z")]
    created_at: String,
}

impl From<&Topic> for TopicOut {
    fn from(topic: &Topic) -> Self {
        let settings = &topic.settings;
        Self {
            name: topic.name.to_string(),
            partitions: settings.partitions,
            retention: written(settings.retention),
            retention_bytes: settings.retention_bytes,
            durability: settings.durability.as_str(),
            compression: settings.compression.as_str(),
            max_message_bytes: settings.max_message_bytes,
            keyless: settings.keyless.as_str(),
            created_at: format_ms(topic.created_ms),
        }
    }
}

/// A retention as it is written.
pub(super) fn written(retention: Retention) -> String {
    match retention {
        Retention::For(keep) => duration::format(keep),
        Retention::Forever => "forever".to_owned(),
    }
}

/// A page of topics.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopicList {
    /// Topics by name.
    items: Vec<TopicOut>,
    /// Where the next page begins, or `null` at the end.
    next_page_token: Option<String>,
}

/// Which topics to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Only names that begin with this.
    #[serde(default)]
    prefix: String,
    /// How many items at the most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    page_size: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// What a list is asked for, checked.
pub(super) struct ListPage {
    pub(super) prefix: String,
    pub(super) after: String,
    pub(super) size: u32,
}

impl ListPage {
    /// How many to look for: one more than the page tells whether there is another.
    pub(super) fn wanted(&self) -> u32 {
        self.size + 1
    }

    /// The page's part of what was found, and the token of the next one.
    pub(super) fn cut<T>(
        &self,
        mut found: Vec<T>,
        name: impl Fn(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        let more = found.len() > self.size as usize;
        found.truncate(self.size as usize);
        let next = found.last().filter(|_| more).map(name);
        (found, next)
    }
}

impl ListParams {
    pub(super) fn page(self) -> Result<ListPage, Problem> {
        let size = self.page_size.unwrap_or(limits::PAGE_SIZE_DEFAULT);
        if size == 0 || size > limits::PAGE_SIZE_MAX {
            let detail = format!("page_size is 1 to {}", limits::PAGE_SIZE_MAX);
            return Err(Problem::new(ErrorCode::Invalid, detail).at("?page_size"));
        }
        let in_names = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        if !self.prefix.chars().all(in_names) {
            let detail = "a prefix holds only what a name can hold";
            return Err(Problem::new(ErrorCode::Invalid, detail).at("?prefix"));
        }
        let after = self.page_token.unwrap_or_default();
        if !after.is_empty() && Name::parse(&after).is_err() {
            return Err(Problem::new(ErrorCode::Invalid, "this is no page token").at("?page_token"));
        }
        Ok(ListPage { prefix: self.prefix, after, size })
    }
}

/// Reads a name from the path.
pub(in crate::api) fn name(text: &str) -> Result<Name, Problem> {
    Name::parse(text).map_err(|why| Problem::new(ErrorCode::Invalid, why.to_string()))
}

/// What a catalog error is on the wire.
pub(super) fn catalog_problem(error: CatalogError, name: &Name) -> Problem {
    match error {
        CatalogError::NotFound => {
            Problem::new(ErrorCode::NotFound, format!("there is no topic `{name}`"))
        }
        CatalogError::AlreadyExists => {
            Problem::new(ErrorCode::AlreadyExists, format!("a topic `{name}` stands already"))
        }
        CatalogError::Store(error) => Problem::of_store(&error),
        CatalogError::NoStandby => Problem::new(
            ErrorCode::ReplicationUnavailable,
            "durability `replicated` needs a synchronous standby, and the database names none",
        )
        .at("/durability"),
        CatalogError::Unconfirmed => Problem::new(
            ErrorCode::OutcomeUnknown,
            "no synchronous standby confirmed the change in time",
        ),
        CatalogError::Overloaded => {
            Problem::new(ErrorCode::Overloaded, "too many changes of topics are waiting")
        }
        CatalogError::Unfinished => Problem::new(ErrorCode::Internal, "the change was cut short"),
    }
}

/// The same for those who only read: what was lost on the way had no effect.
pub(in crate::api) fn lookup_problem(error: CatalogError, name: &Name) -> Problem {
    match error {
        CatalogError::Store(error) => Problem::of_read(&error),
        other => catalog_problem(other, name),
    }
}

/// A body that may be left out.
async fn patch_body(
    state: &AppState,
    request: axum::extract::Request,
) -> Result<TopicPatch, Problem> {
    let body = ReadBody::from_request(request, state).await?;
    require_json(&body, "JSON")?;
    let bytes: &Bytes = &body.bytes;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(TopicPatch::default());
    }
    let parsed = serde_json::from_slice::<Object<TopicPatch>>(bytes);
    parsed.map(|Object(patch)| patch).map_err(|_| json_problem::<Object<TopicPatch>>(bytes))
}

/// Create a topic or confirm it
///
/// Answers 201 when it was made, and 200 when it stands and every setting that the body names is
/// as it stands; else 409 names the difference.
#[utoipa::path(put, path = "/v1/topics/{topic}", operation_id = "put_topic", tag = "topics",
    params(("topic" = String, Path, description = "The topic's name.")),
    request_body(content = TopicPatch, description = "Settings; all are optional."),
    responses((status = 201, description = "The topic was made.", body = TopicOut),
        (status = 200, description = "The topic stands as described.", body = TopicOut),
        (status = 409, description = "A topic of that name stands with other settings.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn put_topic(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(topic): PathParams<String>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let name = name(&topic)?;
    let patch = patch_body(&state, request).await?;
    let settings = patched(&TopicSettings::default(), &patch)?;
    let made = state.catalog.create(principal.tenant, name.clone(), settings).await;
    let status = match made {
        Ok(()) => StatusCode::CREATED,
        Err(CatalogError::AlreadyExists) => StatusCode::OK,
        Err(error) => return Err(catalog_problem(error, &name)),
    };
    let standing = state
        .catalog
        .topic(principal.tenant, &name)
        .await
        .map_err(|error| lookup_problem(error, &name))?;
    let errors =
        if status == StatusCode::OK { differences(&standing.settings, &patch) } else { Vec::new() };
    if errors.is_empty() {
        // The one who made it may have been told that nobody knew.
        let confirmed = state.catalog.confirm(standing.settings.durability).await;
        confirmed.map_err(|error| catalog_problem(error, &name))?;
        return Ok((status, Json(TopicOut::from(&*standing))).into_response());
    }
    let named: Vec<&str> = errors.iter().map(|e: &FieldError| e.detail.as_str()).collect();
    let detail = format!("the topic `{name}` stands with other settings: {}", named.join(", "));
    let mut problem = Problem::new(ErrorCode::AlreadyExists, detail);
    problem.errors = errors;
    Err(problem)
}

/// Read a topic's settings
#[utoipa::path(get, path = "/v1/topics/{topic}", operation_id = "get_topic", tag = "topics",
    params(("topic" = String, Path, description = "The topic's name.")),
    responses((status = 200, description = "The topic.", body = TopicOut)))]
pub async fn get_topic(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(topic): PathParams<String>,
) -> Result<Json<TopicOut>, Problem> {
    let name = name(&topic)?;
    let topic = state.catalog.topic(principal.tenant, &name).await;
    let topic = topic.map_err(|error| lookup_problem(error, &name))?;
    Ok(Json(TopicOut::from(&*topic)))
}

/// Change a topic's settings
///
/// A JSON merge patch (RFC 7396): what the body does not name stays, `null` goes back to the
/// default. Partitions only grow; messages with a key may go to another partition afterwards.
#[utoipa::path(patch, path = "/v1/topics/{topic}", operation_id = "patch_topic", tag = "topics",
    params(("topic" = String, Path, description = "The topic's name.")),
    request_body(content = TopicPatch, description = "The settings to change."),
    responses((status = 200, description = "The topic as it is now.", body = TopicOut),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn patch_topic(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(topic): PathParams<String>,
    request: axum::extract::Request,
) -> Result<Json<TopicOut>, Problem> {
    let name = name(&topic)?;
    let patch = patch_body(&state, request).await?;
    if let Ok(named) = patched(&TopicSettings::default(), &patch) {
        let checked = state.catalog.check_durability(named.durability).await;
        checked.map_err(|error| catalog_problem(error, &name))?;
    }
    let change = move |standing: &TopicSettings| regrown(standing, &patch);
    let altered = state.catalog.alter(principal.tenant, name.clone(), change).await;
    altered.map_err(|error| catalog_problem(error, &name))??;
    let topic = state.catalog.topic(principal.tenant, &name).await;
    let topic = topic.map_err(|error| lookup_problem(error, &name))?;
    let confirmed = state.catalog.confirm(topic.settings.durability).await;
    confirmed.map_err(|error| catalog_problem(error, &name))?;
    Ok(Json(TopicOut::from(&*topic)))
}

/// Delete a topic
///
/// Its messages can no longer be read, and every reader is told. A topic made again under the
/// name begins at offset 0.
#[utoipa::path(delete, path = "/v1/topics/{topic}", operation_id = "delete_topic",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic's name.")),
    responses((status = 204, description = "The topic is gone."),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn delete_topic(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(topic): PathParams<String>,
) -> Result<StatusCode, Problem> {
    let name = name(&topic)?;
    let deleted = state.catalog.delete(principal.tenant, name.clone()).await;
    deleted.map_err(|error| catalog_problem(error, &name))?;
    Ok(StatusCode::NO_CONTENT)
}

/// List topics
#[utoipa::path(get, path = "/v1/topics", operation_id = "list_topics", tag = "topics",
    params(ListParams),
    responses((status = 200, description = "A page of topics.", body = TopicList)))]
pub async fn list_topics(
    principal: Principal,
    State(state): State<AppState>,
    QueryParams(params): QueryParams<ListParams>,
) -> Result<Json<TopicList>, Problem> {
    let page = params.page()?;
    let (prefix, after) = (&page.prefix, &page.after);
    let listed = state.catalog.list(principal.tenant, prefix, after, page.wanted()).await;
    let topics = listed.map_err(|error| match error {
        CatalogError::Store(error) => Problem::of_read(&error),
        other => Problem::new(ErrorCode::Internal, other.to_string()),
    })?;
    let (topics, next_page_token) = page.cut(topics, |topic| topic.name.to_string());
    let items = topics.iter().map(TopicOut::from).collect();
    Ok(Json(TopicList { items, next_page_token }))
}
