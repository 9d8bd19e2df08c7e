//! Offsets that members commit: with a poll, or by `POST /v1/groups/{group}/offsets`.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    find, invalid,
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
    model::{GroupId, Name, PartitionId, limits},
    store::{
        groups::{Commit, Committed},
        once::Once,
    },
};

/// No offset reaches this: JSON readers keep whole numbers below it exact.
const OFFSET_MAX: i64 = 1 << 53;

/// An offset to be committed: the next one to read.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupCommit)]
pub struct CommitIn {
    /// The topic.
    pub(super) topic: String,
    /// The number of the partition.
    pub(super) partition: u32,
    /// The next offset to read.
    #[schema(minimum = 0)]
    pub(super) offset: i64,
    /// The epoch that the messages were delivered under.
    pub(super) epoch: i64,
}

/// An offset that was not committed.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = GroupCommitError)]
pub struct CommitErrorOut {
    /// The topic.
    topic: String,
    /// The number of the partition.
    partition: u32,
    /// The offset.
    offset: i64,
    /// The epoch.
    epoch: i64,
    /// `stale_epoch`: the assignment has moved, or never was. `offset_out_of_range`: above the
    /// end of the partition.
    #[schema(example = "stale_epoch")]
    code: &'static str,
    /// What happened, for a person.
    detail: String,
    /// The end of the partition, with `offset_out_of_range`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    high_watermark: Option<i64>,
}

impl CommitErrorOut {
    /// What is told where no entry could be committed.
    pub fn problem(errors: &[Self]) -> Problem {
        let is_stale = errors.iter().any(|one| one.code == ErrorCode::StaleEpoch.as_str());
        let code = if is_stale { ErrorCode::StaleEpoch } else { ErrorCode::OffsetOutOfRange };
        let detail = errors.first().map_or("nothing was committed", |first| &first.detail);
        let errors = serde_json::to_value(errors).unwrap_or_default();
        Problem::new(code, detail).fact("commit_errors", errors)
    }
}

/// Offsets to be committed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupOffsets)]
pub struct OffsetsIn {
    /// The offsets, each under its epoch.
    offsets: Vec<CommitIn>,
}

/// What became of a commit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupOffsetsCommitted)]
pub struct OffsetsOut {
    /// The entries that were not committed; all others stand.
    commit_errors: Vec<CommitErrorOut>,
}

/// Commit offsets
///
/// An entry that cannot be committed is told in `commit_errors` and fails nothing else. One that
/// already stands under its epoch is no error, so that a commit may be repeated.
#[utoipa::path(post, path = "/v1/groups/{group}/offsets", operation_id = "commit_offsets",
    tag = "groups",
    params(("group" = String, Path, description = "The group's name."),
        ("Idempotency-Key" = Option<String>, Header,
            description = "The request is carried out once; a repeat gets the first answer.")),
    request_body(content = OffsetsIn, description = "Offsets with their epochs."),
    responses((status = 200, description = "What was not committed.", body = OffsetsOut,
            headers(("Idempotency-Replayed" = Option<String>,
                description = "`true` where the request came before with its key."))),
        (status = 409, description = "A request with the key is running.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn commit_offsets(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(group): PathParams<String>,
    KeyedJson { body, key }: KeyedJson<OffsetsIn>,
) -> Result<Response, Problem> {
    check(&body.offsets, "/offsets")?;
    let (name, id) = find(&state, principal, &group).await?;
    let asked = Asked::new(&state, (principal.tenant, &name), "offsets", key)?;
    let located = Located::find(&state, principal, (id, &group), body.offsets).await?;
    let nobody = |_: PartitionId, _: i64, _: i64| false;
    let commits = located.commits(nobody);
    let told = move |done: &Vec<Committed>| {
        json(StatusCode::OK, &OffsetsOut { commit_errors: located.errors(done) })
    };
    let once = state.offsets.commit(id, commits, asked.keyed(told.clone())).await;
    let once = once.map_err(|error| asked.problem(Problem::of_store(&error)))?;
    if let Once::Done(done) = &once {
        forget_if_stale(&state, id, done);
    }
    asked.answer(once, told)
}

/// Refuses entries that no partition can have.
pub fn check(entries: &[CommitIn], pointer: &str) -> Result<(), Problem> {
    if entries.len() > limits::GROUP_OFFSETS_MAX {
        let detail = format!("at most {} offsets are committed at once", limits::GROUP_OFFSETS_MAX);
        return Err(invalid(pointer, detail));
    }
    match entries.iter().position(|entry| !(0..OFFSET_MAX).contains(&entry.offset)) {
        Some(at) => Err(invalid(&format!("{pointer}/{at}/offset"), "an offset is 0 to 2^53 - 1")),
        None => Ok(()),
    }
}

/// Commits, and returns what was not. `vouches` says whether messages of a partition were
/// delivered under an epoch up to an offset.
pub async fn commit(
    state: &AppState,
    principal: Principal,
    (id, group): (GroupId, &str),
    entries: Vec<CommitIn>,
    vouches: impl Fn(PartitionId, i64, i64) -> bool,
) -> Result<Vec<CommitErrorOut>, Problem> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let located = Located::find(state, principal, (id, group), entries).await?;
    let once = state.offsets.commit(id, located.commits(vouches), None).await;
    let once = once.map_err(|error| Problem::of_store(&error))?;
    let done = once.done().expect("nothing stands without a key");
    forget_if_stale(state, id, &done);
    Ok(located.errors(&done))
}

/// Whose epoch has moved learns what it has instead.
fn forget_if_stale(state: &AppState, id: GroupId, done: &[Committed]) {
    if done.iter().any(|done| matches!(done, Committed::Stale | Committed::OtherLog)) {
        state.groups.forget(id);
    }
}

/// Entries of a commit, and the partition that each means.
#[derive(Clone)]
struct Located {
    entries: Vec<CommitIn>,
    partitions: Vec<Option<PartitionId>>,
}

impl Located {
    async fn find(
        state: &AppState,
        principal: Principal,
        (id, group): (GroupId, &str),
        entries: Vec<CommitIn>,
    ) -> Result<Self, Problem> {
        let wanted: Vec<(&str, u32, i64)> =
            entries.iter().map(|entry| (&*entry.topic, entry.partition, entry.epoch)).collect();
        let partitions = meant(state, principal, (id, group), &wanted).await?;
        Ok(Self { entries, partitions })
    }

    /// What is to be committed of partitions that are there.
    fn commits(&self, vouches: impl Fn(PartitionId, i64, i64) -> bool) -> Vec<Commit> {
        let known = self.entries.iter().zip(&self.partitions).filter_map(|(entry, partition)| {
            let partition = (*partition)?;
            let (epoch, next_offset) = (entry.epoch, entry.offset);
            let is_vouched = vouches(partition, epoch, next_offset);
            Some(Commit { partition, epoch, next_offset, is_vouched })
        });
        known.collect()
    }

    /// What was not committed.
    fn errors(&self, done: &[Committed]) -> Vec<CommitErrorOut> {
        let mut done = done.iter().copied();
        let mut errors = Vec::new();
        for (entry, partition) in self.entries.iter().zip(&self.partitions) {
            let outcome = partition.and_then(|_| done.next()).unwrap_or(Committed::Stale);
            let (code, detail, high_watermark) = match outcome {
                Committed::Stands => continue,
                Committed::Stale | Committed::OtherLog => {
                    let detail = "the partition is not assigned under this epoch".to_owned();
                    (ErrorCode::StaleEpoch, detail, None)
                }
                Committed::AboveEnd { high } => {
                    let detail = format!("the partition ends at {high}");
                    (ErrorCode::OffsetOutOfRange, detail, Some(high))
                }
            };
            let CommitIn { topic, partition, offset, epoch } = entry.clone();
            let code = code.as_str();
            errors.push(CommitErrorOut {
                topic,
                partition,
                offset,
                epoch,
                code,
                detail,
                high_watermark,
            });
        }
        errors
    }
}

/// The partitions that are meant by topic, number and epoch: those of standing assignments, else
/// those of the topic as it is.
pub(super) async fn meant(
    state: &AppState,
    principal: Principal,
    (id, group): (GroupId, &str),
    wanted: &[(&str, u32, i64)],
) -> Result<Vec<Option<PartitionId>>, Problem> {
    let found = state.groups.locate(id, wanted).await;
    let mut found = found.map_err(|error| poll_problem(error, group))?;
    for ((topic, index, _), found) in wanted.iter().zip(&mut found) {
        let Ok(name) = Name::parse(topic) else { continue };
        if found.is_none()
            && let Ok(topic) = state.catalog.topic(principal.tenant, &name).await
        {
            *found = topic.partitions.get(*index as usize).copied();
        }
    }
    Ok(found)
}
