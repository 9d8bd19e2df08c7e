//! Reading over REST: `GET /v1/topics/{topic}/partitions/{p}/messages`.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    log_token::LogToken,
    publish::gone,
    topics::{lookup_problem, name},
};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
        extract::{PathParams, QueryParams},
        message::{MessagePage, write_page},
    },
    auth::Principal,
    log::{Page, Position, ReadError},
    model::{Name, TenantId, clock::parse_rfc3339_ms, duration, limits},
};

/// How often a topic is looked up anew for one read.
const TRIES: usize = 4;

/// Where to read and how much.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadParams {
    /// `earliest`, `latest`, an offset, or an RFC 3339 time: the first message appended then or
    /// later.
    #[param(default = "earliest")]
    from: Option<String>,
    /// How many messages at the most; a page may hold fewer.
    #[param(minimum = 1, maximum = 10000, default = 500)]
    limit: Option<u32>,
    /// How long to wait for a first message, up to `30s`.
    #[param(default = "0s")]
    wait: Option<String>,
    /// The `log` of an earlier page. Where its offsets may mean other messages now, the answer is
    /// `topic_recreated` or `log_truncated`.
    log: Option<String>,
}

/// Which partition.
#[derive(Debug, Deserialize)]
pub struct PartitionPath {
    topic: String,
    partition: String,
}

/// Read messages of one partition
///
/// With `wait` the answer comes as soon as there is a message. Below the low watermark or above
/// the high one the answer is `offset_out_of_range`, which names both.
#[utoipa::path(get, path = "/v1/topics/{topic}/partitions/{partition}/messages",
    operation_id = "read_messages", tag = "topics",
    params(("topic" = String, Path, description = "The topic's name."),
        ("partition" = u32, Path, description = "The number of the partition."), ReadParams),
    responses((status = 200, description = "A page of messages.", body = MessagePage)))]
pub async fn read_messages(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(path): PathParams<PartitionPath>,
    QueryParams(params): QueryParams<ReadParams>,
) -> Result<Response, Problem> {
    let name = name(&path.topic)?;
    let position = position(params.from.as_deref().unwrap_or("earliest"))?;
    let limit = limit(params.limit)?;
    let wait = wait(params.wait.as_deref())?;
    let before = params.log.as_deref().map(LogToken::parse).transpose()?;
    let wanted = Wanted { position, limit, wait, before };
    let found = poll(&state, principal.tenant, &name, &path, wanted).await?;
    let Found { partition, from, page, log } = found;
    let page = write_page(name.as_str(), partition, from, limit, &page, &log.to_string());
    let body = page.map_err(|corrupt| {
        tracing::error!(topic = %name, partition, %corrupt, "stored messages cannot be read");
        Problem::new(ErrorCode::Internal, "stored messages cannot be read")
    })?;
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

struct Found {
    partition: u32,
    from: i64,
    page: Page,
    log: LogToken,
}

struct Wanted {
    position: Position,
    limit: u32,
    wait: Duration,
    /// Under which history the client reads.
    before: Option<LogToken>,
}

async fn poll(
    state: &AppState,
    tenant: TenantId,
    name: &Name,
    path: &PartitionPath,
    wanted: Wanted,
) -> Result<Found, Problem> {
    let Wanted { position, limit, wait, mut before } = wanted;
    let mut fresh = false;
    // Once more where what this node has in memory may be a topic that was made again since, or
    // the log got another incarnation meanwhile.
    for _ in 0..TRIES {
        let topic = state.catalog.topic(tenant, name).await;
        let topic = topic.map_err(|error| lookup_problem(error, name))?;
        let log = LogToken::of(&topic);
        match before.map_or(Ok(()), |before| before.check(log)) {
            Ok(()) => {}
            Err(problem) if fresh => return Err(problem),
            Err(_) => {
                state.catalog.forget(tenant, name);
                fresh = true;
                continue;
            }
        }
        let partition = path.partition.parse::<u32>().ok();
        let id = partition.and_then(|number| topic.partitions.get(number as usize));
        let (Some(partition), Some(id)) = (partition, id) else {
            let detail = format!("the topic `{name}` has no partition {}", path.partition);
            if fresh {
                return Err(Problem::new(ErrorCode::NotFound, detail));
            }
            state.catalog.forget(tenant, name);
            fresh = true;
            continue;
        };
        let read = state.log.poll(*id, position, limit, wait).await;
        if state.log.database().incarnation() != topic.incarnation {
            // The partition may be another topic's now. Who reads on from an offset is told.
            if matches!(position, Position::Offset(_)) {
                before.get_or_insert(log);
            }
            continue;
        }
        match read {
            Ok((from, page)) => return Ok(Found { partition, from, page, log }),
            Err(ReadError::Gone) if !fresh => {
                state.catalog.forget(tenant, name);
                fresh = true;
            }
            Err(error) => return Err(Problem::of_log(error, name.as_str(), || gone(name))),
        }
    }
    Err(gone(name))
}

/// Where `from` says to begin.
pub fn position(from: &str) -> Result<Position, Problem> {
    let invalid = |detail: &str| Problem::new(ErrorCode::Invalid, detail).at("?from");
    match from {
        "earliest" => return Ok(Position::Earliest),
        "latest" => return Ok(Position::Latest),
        _ => {}
    }
    let digits = from.strip_prefix('-').unwrap_or(from);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // Below 0 and beyond 2^53 no offset stands, however many digits it is written with.
        let outside = if digits == from { limits::OFFSET_MAX } else { -1 };
        let offset = from.parse().unwrap_or(outside).clamp(-1, limits::OFFSET_MAX);
        return Ok(Position::Offset(offset));
    }
    parse_rfc3339_ms(from)
        .map(Position::Time)
        .ok_or_else(|| invalid("from is earliest, latest, an offset or an RFC 3339 time"))
}

fn limit(limit: Option<u32>) -> Result<u32, Problem> {
    let limit = limit.unwrap_or(limits::READ_MESSAGES_DEFAULT);
    if limit == 0 || limit > limits::READ_MESSAGES_MAX {
        let detail = format!("limit is 1 to {}", limits::READ_MESSAGES_MAX);
        return Err(Problem::new(ErrorCode::Invalid, detail).at("?limit"));
    }
    Ok(limit)
}

fn wait(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    let wait = duration::parse(text)
        .map_err(|why| Problem::new(ErrorCode::Invalid, why.to_string()).at("?wait"))?;
    if wait > limits::READ_WAIT_MAX {
        let longest = duration::format(limits::READ_WAIT_MAX);
        let detail = format!("a read waits at most {longest}");
        return Err(Problem::new(ErrorCode::Invalid, detail).at("?wait"));
    }
    Ok(wait)
}
