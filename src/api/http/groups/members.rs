//! Members come and go: `POST /v1/groups/{group}/members`, `DELETE …/members/{id}`.

use std::time::Duration;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    change_problem, find, invalid, member_id,
    once::{Asked, json},
};
use crate::{
    api::{
        AppState,
        error::{Problem, ProblemBody},
        extract::{KeyedJson, PathParams},
        http::topics::name,
    },
    auth::{Principal, random_id},
    deliver::groups::Entered,
    model::{
        duration,
        group::{Start, TopicPattern},
        limits,
    },
    store::{groups::JoinWish, once::Once},
    telemetry::metrics::GROUPS,
};

/// No generation reaches this: JSON readers keep whole numbers below it exact.
const GENERATION_MAX: i64 = 1 << 53;

/// What a member says when it joins.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupJoin)]
pub struct JoinIn {
    /// Names and patterns of topics: `*` stands for one segment between dots, a last `**` for all
    /// that follow. A topic that does not exist yet is read once it does.
    #[schema(example = json!(["orders", "audit.*"]))]
    pub topics: Vec<String>,
    /// Where the group begins in partitions that exist at its first join: `earliest` or `latest`.
    #[schema(required = false, default = "earliest")]
    pub start: Option<String>,
    /// For how long the member may be silent, `3s` to `10m`.
    #[schema(required = false, default = "30s")]
    pub session_timeout: Option<String>,
    /// The member's own id, which it keeps when it comes back; one is made when it has none.
    #[schema(required = false)]
    pub member_id: Option<String>,
    /// Rises with every join of a member id: a clock in ms, or the last one + 1.
    #[schema(required = false, minimum = 0)]
    pub generation: Option<i64>,
}

/// A partition that a member has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupAssignment)]
pub struct AssignmentOut {
    /// The topic.
    pub topic: String,
    /// The number of the partition.
    pub partition: u32,
    /// The epoch of this assignment, which goes with every commit.
    pub epoch: i64,
    /// The offset of the next message to be delivered.
    pub offset: i64,
    /// How many messages retention took before they were delivered; absent when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub gap: Option<i64>,
}

/// A member that joined.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupJoined)]
pub struct JoinOut {
    /// The member's id.
    member_id: String,
    /// Its generation.
    generation: i64,
    /// Goes into its first poll.
    cursor: String,
    /// What it has now; more may come with a poll.
    assignments: Vec<AssignmentOut>,
}

/// Join a group
///
/// The group is made by its first join. The same generation again is a retry and gets the same
/// answer; a higher one takes over at once from an older process of the member, under new epochs;
/// a lower one is `stale_epoch`.
#[utoipa::path(post, path = "/v1/groups/{group}/members", operation_id = "join_group",
    tag = "groups",
    params(("group" = String, Path, description = "The group's name."),
        ("Idempotency-Key" = Option<String>, Header,
            description = "The request is carried out once; a repeat gets the first answer.")),
    request_body(content = JoinIn, description = "What the member reads."),
    responses((status = 201, description = "The member is in.", body = JoinOut,
            headers(("Idempotency-Replayed" = Option<String>,
                description = "`true` where the request came before with its key."))),
        (status = 409,
            description = "A later process of the member has joined, or its key is running.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn join_group(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(group): PathParams<String>,
    KeyedJson { body, key }: KeyedJson<JoinIn>,
) -> Result<Response, Problem> {
    let name = name(&group)?;
    let wish = wish(body)?;
    let member = wish.member.clone();
    let joined =
        move |entered: &Entered| json(StatusCode::CREATED, &JoinOut::new(&member, entered));
    let asked = Asked::new(&state, (principal.tenant, &name), "members", key)?;
    let once = state.groups.join(principal.tenant, name, wish, asked.keyed(joined.clone())).await;
    let once = once.map_err(|error| asked.problem(change_problem(error, &group)))?;
    if matches!(once, Once::Done(_)) {
        GROUPS.joins.increment(1);
    }
    asked.answer(once, joined)
}

impl JoinOut {
    fn new(member: &str, entered: &Entered) -> Self {
        let (member_id, cursor) = (member.to_owned(), entered.sealed.clone());
        let (generation, assignments) = (entered.joined.generation, first_assignments(entered));
        Self { member_id, generation, cursor, assignments }
    }
}

/// What a member has as it joins.
pub fn first_assignments(Entered { joined, .. }: &Entered) -> Vec<AssignmentOut> {
    let holdings = joined.check.iter().flat_map(|check| &check.holdings);
    let assignments = holdings.zip(&joined.lows).map(|(held, low)| AssignmentOut {
        topic: held.topic.clone(),
        partition: held.index,
        epoch: held.epoch,
        offset: held.committed.max(*low),
        gap: Some(low - held.committed).filter(|gap| *gap > 0),
    });
    assignments.collect()
}

/// What a member wishes, once all of it is ruled to be possible.
pub fn wish(body: JoinIn) -> Result<JoinWish, Problem> {
    if body.topics.is_empty() || body.topics.len() > limits::GROUP_TOPICS_MAX {
        let detail = format!("a member names 1 to {} topics", limits::GROUP_TOPICS_MAX);
        return Err(invalid("/topics", detail));
    }
    let mut patterns = Vec::with_capacity(body.topics.len());
    for (at, text) in body.topics.iter().enumerate() {
        let pattern = TopicPattern::parse(text)
            .map_err(|why| invalid(&format!("/topics/{at}"), why.to_string()))?;
        patterns.push(pattern.as_str().to_owned());
    }
    patterns.sort_unstable();
    patterns.dedup();
    let start = body.start.as_deref().map_or(Some(Start::Earliest), Start::parse);
    let start = start.ok_or_else(|| invalid("/start", "start is earliest or latest"))?;
    let member = match &body.member_id {
        Some(text) => member_id(text, "/member_id")?,
        None => random_id(),
    };
    if body.generation.is_some_and(|number| !(0..GENERATION_MAX).contains(&number)) {
        return Err(invalid("/generation", "a generation is 0 to 2^53 - 1"));
    }
    let session_timeout = session_timeout(body.session_timeout.as_deref())?;
    let members_max = limits::GROUP_MEMBERS_MAX;
    let generation = body.generation;
    Ok(JoinWish { member, generation, patterns, session_timeout, start, members_max })
}

fn session_timeout(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(limits::SESSION_TIMEOUT_DEFAULT) };
    let wanted =
        duration::parse(text).map_err(|why| invalid("/session_timeout", why.to_string()))?;
    let bounds = limits::SESSION_TIMEOUT_MIN..=limits::SESSION_TIMEOUT_MAX;
    if !bounds.contains(&wanted) {
        let [least, most] = [bounds.start(), bounds.end()].map(|bound| duration::format(*bound));
        return Err(invalid("/session_timeout", format!("a session timeout is {least} to {most}")));
    }
    Ok(wanted)
}

/// Which member of which group.
#[derive(Debug, Deserialize)]
pub struct MemberPath {
    pub(super) group: String,
    pub(super) member_id: String,
}

/// Leave a group
///
/// What the member had goes to the others at once, from the committed offsets on.
#[utoipa::path(delete, path = "/v1/groups/{group}/members/{member_id}",
    operation_id = "leave_group", tag = "groups",
    params(("group" = String, Path, description = "The group's name."),
        ("member_id" = String, Path, description = "The member's id.")),
    responses((status = 204, description = "The member is gone."),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn leave_group(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(path): PathParams<MemberPath>,
) -> Result<StatusCode, Problem> {
    let (_, group) = find(&state, principal, &path.group).await?;
    let left = state.groups.leave(group, &path.member_id, None).await;
    left.map_err(|error| change_problem(error, &path.group))?;
    Ok(StatusCode::NO_CONTENT)
}
