//! `POST /v1/groups/{group}/members/{id}/poll`: commit, confirm, read, in this order.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    find, invalid,
    members::{AssignmentOut, MemberPath},
    offsets::{CommitErrorOut, CommitIn, check, commit, meant},
    poll_problem,
};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem, ProblemBody},
        extract::{JsonBody, PathParams},
        message::{MessageSchema, write_messages},
    },
    auth::Principal,
    deliver::groups::{PollRequest, Polled},
    model::{GroupId, duration, limits},
    record::Corrupt,
};

/// What a member polls with. Every field is optional.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupPoll)]
pub struct PollIn {
    /// Where the member stands: that of its last answer, or of its join. Without one it goes on at
    /// the committed offsets.
    #[schema(required = false)]
    cursor: Option<String>,
    /// How many messages at the most; 0 is a heartbeat, which does not wait.
    #[schema(required = false, default = 500, minimum = 0, maximum = 10000)]
    max: Option<u32>,
    /// How long to wait, up to `30s` and a third of the session timeout.
    #[schema(required = false, default = "20s")]
    wait: Option<String>,
    /// Offsets to be committed first.
    #[serde(default)]
    #[schema(required = false)]
    commit: Vec<CommitIn>,
    /// Partitions that the member gives up, as it was told to; after the commit.
    #[serde(default)]
    #[schema(required = false)]
    revoked: Vec<RevokedIn>,
}

/// A partition that a member gives up.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupRevoked)]
pub struct RevokedIn {
    /// The topic.
    topic: String,
    /// The number of the partition.
    partition: u32,
    /// The epoch under which the member had it.
    epoch: i64,
}

/// A partition that the member is to give up.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupRevoke)]
pub struct RevokeOut {
    /// The topic.
    topic: String,
    /// The number of the partition.
    partition: u32,
    /// The epoch under which the member has it.
    epoch: i64,
    /// After which time it is taken, unless it is confirmed in the next `revoked`.
    #[schema(example = "5s")]
    deadline: String,
}

/// The answer to a poll, for the description of the interface.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupPolled)]
pub struct PollOut {
    /// Messages, in order within each partition.
    messages: Vec<MessageSchema>,
    /// Goes into the next poll, through any node.
    cursor: String,
    /// Everything the member has.
    assignments: Vec<AssignmentOut>,
    /// What of that it is to give up.
    revoke: Vec<RevokeOut>,
    /// Offsets that were not committed.
    commit_errors: Vec<CommitErrorOut>,
}

/// Poll for messages
///
/// Done in the order commit, revoked, read. A poll is a pure read of its cursor, one at a time: of
/// two polls of a member the older one ends with `concurrent_poll`. It answers as soon as there is
/// a message, a partition to be given up or another assignment.
#[utoipa::path(post, path = "/v1/groups/{group}/members/{member_id}/poll",
    operation_id = "poll_group", tag = "groups",
    params(("group" = String, Path, description = "The group's name."),
        ("member_id" = String, Path, description = "The member's id.")),
    request_body(content = PollIn, description = "Where the member stands and what it did."),
    responses((status = 200, description = "Messages and assignments.", body = PollOut),
        (status = 409, description = "A later process of the member has joined, or polled.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "Offsets may be committed: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn poll_group(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(path): PathParams<MemberPath>,
    JsonBody(body): JsonBody<PollIn>,
) -> Result<Response, Problem> {
    let request = request(&body)?;
    check(&body.commit, "/commit")?;
    if body.revoked.len() > limits::GROUP_OFFSETS_MAX {
        let detail = format!("at most {} partitions at once", limits::GROUP_OFFSETS_MAX);
        return Err(invalid("/revoked", detail));
    }
    let group = path.group.as_str();
    let (_, id) = find(&state, principal, group).await?;
    let arrived = state.groups.arrive(id, &path.member_id, body.cursor.as_deref()).await;
    let arrival = arrived.map_err(|error| poll_problem(error, group))?;
    let vouches = |partition, epoch, offset| arrival.vouches(partition, epoch, offset);
    let commit_errors =
        Box::pin(commit(&state, principal, (id, group), body.commit, vouches)).await?;
    let member = (arrival.member(), arrival.generation());
    confirm(&state, principal, (id, group), member, &body.revoked).await?;
    let polled = Box::pin(state.groups.poll(arrival, request)).await;
    let polled = polled.map_err(|error| poll_problem(error, group))?;
    let cursor = state.groups.sealed(&polled.cursor, &path.member_id).await;
    let cursor = cursor.map_err(|error| poll_problem(error, group))?;
    let body = written(&polled, &cursor, commit_errors).map_err(|corrupt| {
        tracing::error!(group, %corrupt, "stored messages cannot be read");
        Problem::new(ErrorCode::Internal, "stored messages cannot be read")
    })?;
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

fn request(body: &PollIn) -> Result<PollRequest, Problem> {
    let max = body.max.unwrap_or(limits::READ_MESSAGES_DEFAULT);
    if max > limits::READ_MESSAGES_MAX {
        return Err(invalid("/max", format!("max is 0 to {}", limits::READ_MESSAGES_MAX)));
    }
    let wait = match body.wait.as_deref() {
        Some(text) => duration::parse(text).map_err(|why| invalid("/wait", why.to_string()))?,
        None => limits::POLL_WAIT_DEFAULT,
    };
    if wait > limits::READ_WAIT_MAX {
        let longest = duration::format(limits::READ_WAIT_MAX);
        return Err(invalid("/wait", format!("a poll waits at most {longest}")));
    }
    // A heartbeat is answered at once.
    Ok(PollRequest { max, wait: if max == 0 { Duration::ZERO } else { wait } })
}

/// Confirms what a member of some generation gives up.
pub async fn confirm(
    state: &AppState,
    principal: Principal,
    (id, group): (GroupId, &str),
    member: (&str, i64),
    revoked: &[RevokedIn],
) -> Result<(), Problem> {
    if revoked.is_empty() {
        return Ok(());
    }
    let wanted: Vec<(&str, u32, i64)> =
        revoked.iter().map(|entry| (&*entry.topic, entry.partition, entry.epoch)).collect();
    let found = meant(state, principal, (id, group), &wanted).await?;
    // What nobody has under that epoch any more was given up or taken before.
    let given = found.iter().zip(revoked);
    let given = given.filter_map(|(partition, entry)| Some(((*partition)?, entry.epoch)));
    let given: Vec<_> = given.collect();
    if given.is_empty() {
        return Ok(());
    }
    let confirmed = state.groups.confirm(id, member, given).await;
    confirmed.map_err(|error| poll_problem(error, group))
}

/// The answer as a [`PollOut`].
fn written(
    polled: &Polled,
    cursor: &str,
    commit_errors: Vec<CommitErrorOut>,
) -> Result<Vec<u8>, Corrupt> {
    let batches = polled.deliveries.iter().flat_map(|delivery| &delivery.batches);
    let bytes: usize = batches.map(|batch| batch.records.len()).sum();
    let mut out = Vec::with_capacity(512 + cursor.len() + bytes * 2);
    out.extend_from_slice(b"{\"messages\":[");
    for delivery in &polled.deliveries {
        let range = (delivery.from, delivery.until);
        write_messages(&mut out, &delivery.topic, delivery.index, range, &delivery.batches)?;
    }
    if out.last() == Some(&b',') {
        out.pop();
    }
    let assignments: Vec<AssignmentOut> = polled.assignments.iter().map(assignment).collect();
    let revoke = polled.revokes.iter().map(|revoked| RevokeOut {
        topic: revoked.topic.to_string(),
        partition: revoked.index,
        epoch: revoked.epoch,
        deadline: duration::format(revoked.deadline),
    });
    let revoke: Vec<RevokeOut> = revoke.collect();
    out.extend_from_slice(b"],\"cursor\":");
    put(&mut out, &cursor);
    out.extend_from_slice(b",\"assignments\":");
    put(&mut out, &assignments);
    out.extend_from_slice(b",\"revoke\":");
    put(&mut out, &revoke);
    out.extend_from_slice(b",\"commit_errors\":");
    put(&mut out, &commit_errors);
    out.push(b'}');
    Ok(out)
}

/// A partition of a member, as it is told.
pub fn assignment(standing: &crate::deliver::groups::Standing) -> AssignmentOut {
    AssignmentOut {
        topic: standing.topic.to_string(),
        partition: standing.index,
        epoch: standing.epoch,
        offset: standing.offset,
        gap: Some(standing.gap).filter(|gap| *gap > 0),
    }
}

fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("plain JSON, and a Vec takes every byte");
}
