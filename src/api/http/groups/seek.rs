//! `POST /v1/groups/{group}/seek`: a group goes on elsewhere, while it runs.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    change_problem, find, invalid,
    once::{Asked, json},
    poll_problem,
};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem, ProblemBody},
        extract::{KeyedJson, PathParams},
    },
    auth::Principal,
    deliver::groups::admin::Moved,
    log::Position,
    model::{PartitionId, clock::parse_rfc3339_ms, group::TopicPattern, limits},
    store::{groups::Lag, once::Once},
};

/// Where to, and which partitions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupSeek)]
pub struct SeekIn {
    /// `"earliest"`, `"latest"`, a time, or offsets.
    to: SeekTo,
    /// Only these topics and patterns; all that the group reads when absent.
    #[schema(required = false)]
    topics: Option<Vec<String>>,
    /// Say what would be, and change nothing.
    #[serde(default)]
    #[schema(required = false, default = false)]
    dry_run: bool,
}

/// Where to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = GroupSeekTo)]
pub enum SeekTo {
    /// `earliest` or `latest`.
    #[schema(example = "earliest")]
    End(String),
    /// The first message appended then or later.
    Time(SeekTime),
    /// An offset for each partition named.
    Offsets(SeekOffsets),
}

/// A time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupSeekTime)]
pub struct SeekTime {
    /// RFC 3339.
    timestamp: String,
}

/// Offsets.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupSeekOffsets)]
pub struct SeekOffsets {
    /// An offset for each partition that is to move.
    offsets: Vec<SeekOffset>,
}

/// An offset of one partition.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupSeekOffset)]
pub struct SeekOffset {
    /// The topic.
    topic: String,
    /// The number of the partition.
    partition: u32,
    /// The next offset to read.
    offset: i64,
}

/// A partition that moves.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupSought)]
pub struct SoughtOut {
    /// The topic.
    topic: String,
    /// The number of the partition.
    partition: u32,
    /// The committed offset before.
    committed_offset: i64,
    /// The offset from which the group goes on.
    offset: i64,
}

/// What moved, or would.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupSeekDone)]
pub struct SeekOut {
    /// Whether nothing was changed.
    dry_run: bool,
    /// The partitions.
    partitions: Vec<SoughtOut>,
}

/// Move a group
///
/// Works while the group runs: each partition goes on from the new offset under a new epoch, so
/// commits of what was delivered before are stale. A time that no message has reached yet is the
/// end. `dry_run` only says what would be.
#[utoipa::path(post, path = "/v1/groups/{group}/seek", operation_id = "seek_group",
    tag = "groups",
    params(("group" = String, Path, description = "The group's name."),
        ("Idempotency-Key" = Option<String>, Header,
            description = "The request is carried out once; a repeat gets the first answer.")),
    request_body(content = SeekIn, description = "Where to, and which partitions."),
    responses((status = 200, description = "What moved, or would.", body = SeekOut,
            headers(("Idempotency-Replayed" = Option<String>,
                description = "`true` where the request came before with its key."))),
        (status = 409, description = "A request with the key is running.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn seek_group(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(group): PathParams<String>,
    KeyedJson { body, key }: KeyedJson<SeekIn>,
) -> Result<Response, Problem> {
    let topics = topics(body.topics.as_deref())?;
    let (name, id) = find(&state, principal, &group).await?;
    // What changes nothing has nothing to replay.
    let key = key.filter(|_| !body.dry_run);
    let asked = Asked::new(&state, (principal.tenant, &name), "seek", key)?;
    if let Some(replayed) = asked.replayed(&state).await? {
        return Ok(replayed);
    }
    // Also tells whether the group still stands.
    let described = state.groups.describe(principal.tenant, &name).await;
    let standing = described.map_err(|error| poll_problem(error, &group))?.partitions;
    let targets = match &body.to {
        SeekTo::Offsets(SeekOffsets { offsets }) => named(offsets, &topics, standing)?,
        SeekTo::End(word) => {
            let position = match word.as_str() {
                "earliest" => Position::Earliest,
                "latest" => Position::Latest,
                _ => return Err(invalid("/to", "to is earliest, latest, a time or offsets")),
            };
            resolved(&state, &group, position, among(standing, &topics)).await?
        }
        SeekTo::Time(SeekTime { timestamp }) => {
            let at = parse_rfc3339_ms(timestamp)
                .ok_or_else(|| invalid("/to/timestamp", "this is no RFC 3339 time"))?;
            resolved(&state, &group, Position::Time(at), among(standing, &topics)).await?
        }
    };
    let to: Vec<(PartitionId, i64)> =
        targets.iter().map(|(lag, offset)| (lag.partition, *offset)).collect();
    let dry_run = body.dry_run;
    // Of the targets those that the group still has.
    let told = move |moved: &Moved| {
        let has = |lag: &Lag| moved.iter().any(|(partition, _)| *partition == lag.partition);
        let moved = targets.iter().filter(|(lag, _)| dry_run || has(lag));
        json(StatusCode::OK, &SeekOut { dry_run, partitions: moved.map(SoughtOut::from).collect() })
    };
    if dry_run || to.is_empty() {
        return asked.answer(Once::Done(Moved::new()), told);
    }
    let once = state.groups.seek(id, to, asked.keyed(told.clone())).await;
    let once = once.map_err(|error| asked.problem(change_problem(error, &group)))?;
    asked.answer(once, told)
}

impl From<&(Lag, i64)> for SoughtOut {
    fn from((lag, offset): &(Lag, i64)) -> Self {
        Self {
            topic: lag.topic.clone(),
            partition: lag.index,
            committed_offset: lag.committed,
            offset: *offset,
        }
    }
}

fn topics(texts: Option<&[String]>) -> Result<Option<Vec<TopicPattern>>, Problem> {
    let Some(texts) = texts else { return Ok(None) };
    if texts.is_empty() || texts.len() > limits::GROUP_TOPICS_MAX {
        let detail = format!("topics are 1 to {}", limits::GROUP_TOPICS_MAX);
        return Err(invalid("/topics", detail));
    }
    let pattern = |(at, text): (usize, &String)| {
        TopicPattern::parse(text).map_err(|why| invalid(&format!("/topics/{at}"), why.to_string()))
    };
    texts.iter().enumerate().map(pattern).collect::<Result<_, _>>().map(Some)
}

fn among(standing: Vec<Lag>, topics: &Option<Vec<TopicPattern>>) -> Vec<Lag> {
    let is_meant = |lag: &Lag| match topics {
        Some(topics) => topics.iter().any(|pattern| pattern.matches(&lag.topic)),
        None => true,
    };
    standing.into_iter().filter(is_meant).collect()
}

/// The partitions that are named, each with its offset.
fn named(
    offsets: &[SeekOffset],
    topics: &Option<Vec<TopicPattern>>,
    standing: Vec<Lag>,
) -> Result<Vec<(Lag, i64)>, Problem> {
    if topics.is_some() {
        return Err(invalid("/topics", "offsets name their topics themselves"));
    }
    if offsets.is_empty() || offsets.len() > limits::GROUP_OFFSETS_MAX {
        let detail = format!("offsets are 1 to {}", limits::GROUP_OFFSETS_MAX);
        return Err(invalid("/to/offsets", detail));
    }
    let mut found: Vec<(Lag, i64)> = Vec::with_capacity(offsets.len());
    for (at, wanted) in offsets.iter().enumerate() {
        let pointer = format!("/to/offsets/{at}");
        let is_it = |lag: &Lag| lag.topic == wanted.topic && lag.index == wanted.partition;
        if found.iter().any(|(lag, _)| is_it(lag)) {
            return Err(invalid(&pointer, "this partition is named twice"));
        }
        let Some(lag) = standing.iter().find(|lag| is_it(lag)) else {
            return Err(invalid(&pointer, "the group does not read this partition"));
        };
        if wanted.offset < lag.low || wanted.offset > lag.high {
            let detail = format!("offsets {} to {} can be read from", lag.low, lag.high);
            return Err(Problem::new(ErrorCode::OffsetOutOfRange, detail)
                .at(format!("{pointer}/offset"))
                .fact("low_watermark", lag.low)
                .fact("high_watermark", lag.high));
        }
        found.push((lag.clone(), wanted.offset));
    }
    Ok(found)
}

async fn resolved(
    state: &AppState,
    group: &str,
    position: Position,
    partitions: Vec<Lag>,
) -> Result<Vec<(Lag, i64)>, Problem> {
    let mut found = Vec::with_capacity(partitions.len());
    for lag in partitions {
        let offset = match position {
            Position::Earliest => lag.low,
            Position::Latest => lag.high,
            Position::Offset(_) | Position::Time(_) => {
                let offset = state.groups.resolve(lag.partition, position).await;
                offset.map_err(|error| poll_problem(error, group))?
            }
        };
        found.push((lag, offset));
    }
    Ok(found)
}
