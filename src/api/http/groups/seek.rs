//! `POST /v1/groups/{group}/seek`: a group goes on elsewhere, while it runs.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{change_problem, find, invalid, poll_problem};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem, ProblemBody},
        extract::{JsonBody, NoIdempotencyKey, PathParams},
    },
    auth::Principal,
    log::Position,
    model::{GroupId, clock::parse_rfc3339_ms, group::TopicPattern, limits},
    store::groups::Lag,
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
    params(("group" = String, Path, description = "The group's name.")),
    request_body(content = SeekIn, description = "Where to, and which partitions."),
    responses((status = 200, description = "What moved, or would.", body = SeekOut),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn seek_group(
    principal: Principal,
    _: NoIdempotencyKey,
    State(state): State<AppState>,
    PathParams(group): PathParams<String>,
    JsonBody(body): JsonBody<SeekIn>,
) -> Result<Json<SeekOut>, Problem> {
    let topics = topics(body.topics.as_deref())?;
    let (name, id) = find(&state, principal, &group).await?;
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
    let partitions =
        if body.dry_run { targets } else { moved(&state, id, &group, targets).await? };
    let sought = |(lag, offset): (Lag, i64)| SoughtOut {
        topic: lag.topic,
        partition: lag.index,
        committed_offset: lag.committed,
        offset,
    };
    let partitions = partitions.into_iter().map(sought).collect();
    Ok(Json(SeekOut { dry_run: body.dry_run, partitions }))
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

/// Moves, and keeps those that the group still has.
async fn moved(
    state: &AppState,
    id: GroupId,
    group: &str,
    targets: Vec<(Lag, i64)>,
) -> Result<Vec<(Lag, i64)>, Problem> {
    if targets.is_empty() {
        return Ok(targets);
    }
    let to = targets.iter().map(|(lag, offset)| (lag.partition, *offset)).collect();
    let moved = state.groups.seek(id, to).await;
    let moved = moved.map_err(|error| change_problem(error, group))?;
    let has =
        |(lag, _): &(Lag, i64)| moved.iter().any(|(partition, _)| *partition == lag.partition);
    Ok(targets.into_iter().filter(has).collect())
}
