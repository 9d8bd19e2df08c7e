//! Groups as resources: seen, listed, paused, deleted.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    change_problem, find,
    once::{Asked, no_content},
    poll_problem,
};
use crate::{
    api::{
        AppState,
        error::{Problem, ProblemBody},
        extract::{BareKey, IdempotencyKey, PathParams, QueryParams},
        http::topics::{ListParams, name},
    },
    auth::Principal,
    deliver::groups::admin::Described,
    model::{clock::format_ms, duration},
    store::groups::{GroupSummary, Lag},
};

/// A group as lists show it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupSummary)]
pub struct GroupSummaryOut {
    /// Its name.
    name: String,
    /// `empty` without members, `rebalancing` while a member is told to give something up, else
    /// `stable`.
    #[schema(example = "stable")]
    state: &'static str,
    /// Whether nothing is delivered until it is resumed.
    paused: bool,
    /// How many members it has.
    member_count: i64,
    /// When it was first joined.
    #[schema(example = "2026-11-24T10:38:00.000Z")]
    created_at: String,
}

impl From<&GroupSummary> for GroupSummaryOut {
    fn from(summary: &GroupSummary) -> Self {
        Self {
            name: summary.name.clone(),
            state: state(summary),
            paused: summary.is_paused,
            member_count: summary.members,
            created_at: format_ms(summary.created_ms),
        }
    }
}

fn state(summary: &GroupSummary) -> &'static str {
    match (summary.members, summary.is_rebalancing) {
        (0, _) => "empty",
        (_, true) => "rebalancing",
        (_, false) => "stable",
    }
}

/// A page of groups.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupList {
    /// Groups by name.
    items: Vec<GroupSummaryOut>,
    /// Where the next page begins, or `null` at the end.
    next_page_token: Option<String>,
}

/// A member of a group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupMember)]
pub struct MemberOut {
    /// Its id.
    member_id: String,
    /// Its generation.
    generation: i64,
    /// Topics and patterns that it asks for.
    topics: Vec<String>,
    /// For how long it may be silent.
    #[schema(example = "30s")]
    session_timeout: String,
    /// How long it has been silent, in ms.
    silent_ms: u64,
    /// How many partitions it has.
    partition_count: usize,
}

/// How far a group is in one partition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupPartition)]
pub struct PartitionOut {
    /// The topic.
    topic: String,
    /// The number of the partition.
    partition: u32,
    /// The next offset to read.
    committed_offset: i64,
    /// The offset of the next message to be appended.
    high_watermark: i64,
    /// The first offset that can be read.
    low_watermark: i64,
    /// Messages that are there and not committed.
    lag: i64,
    /// For how long the first of them has been there, in ms; 0 when there is none.
    lag_ms: i64,
    /// Who reads it; `null` when nobody does.
    member_id: Option<String>,
    /// The epoch of the assignment.
    epoch: i64,
}

impl From<&Lag> for PartitionOut {
    fn from(lag: &Lag) -> Self {
        Self {
            topic: lag.topic.clone(),
            partition: lag.index,
            committed_offset: lag.committed,
            high_watermark: lag.high,
            low_watermark: lag.low,
            lag: (lag.high - lag.committed.max(lag.low)).max(0),
            lag_ms: lag.lag_ms.unwrap_or_default(),
            member_id: lag.member.clone(),
            epoch: lag.epoch,
        }
    }
}

/// A group with its members and how far it is behind.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Group)]
pub struct GroupOut {
    /// Its name.
    name: String,
    /// `empty` without members, `rebalancing` while a member is told to give something up, else
    /// `stable`.
    #[schema(example = "stable")]
    state: &'static str,
    /// Whether nothing is delivered until it is resumed.
    paused: bool,
    /// When it was first joined.
    #[schema(example = "2026-11-24T10:38:00.000Z")]
    created_at: String,
    /// Its members.
    members: Vec<MemberOut>,
    /// How far it is in each partition.
    partitions: Vec<PartitionOut>,
    /// Messages that are there and not committed, over all partitions.
    lag: i64,
}

impl From<&Described> for GroupOut {
    fn from(described: &Described) -> Self {
        let Described { summary, members, partitions } = described;
        let member = |(id, generation, timeout, topics, silent): &(_, _, _, Vec<String>, _)| {
            let of_it = |lag: &&Lag| lag.member.as_ref() == Some(id);
            MemberOut {
                member_id: String::clone(id),
                generation: *generation,
                topics: topics.clone(),
                session_timeout: duration::format(*timeout),
                silent_ms: u64::try_from(std::time::Duration::as_millis(silent))
                    .unwrap_or(u64::MAX),
                partition_count: partitions.iter().filter(of_it).count(),
            }
        };
        let partitions: Vec<PartitionOut> = partitions.iter().map(PartitionOut::from).collect();
        Self {
            name: summary.name.clone(),
            state: state(summary),
            paused: summary.is_paused,
            created_at: format_ms(summary.created_ms),
            members: members.iter().map(member).collect(),
            lag: partitions.iter().map(|partition| partition.lag).sum(),
            partitions,
        }
    }
}

/// Read a group
///
/// Its members, and how far it is in each partition: in messages, and in time by the first message
/// that is not committed.
#[utoipa::path(get, path = "/v1/groups/{group}", operation_id = "get_group", tag = "groups",
    params(("group" = String, Path, description = "The group's name.")),
    responses((status = 200, description = "The group.", body = GroupOut)))]
pub async fn get_group(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(group): PathParams<String>,
) -> Result<Json<GroupOut>, Problem> {
    let described = state.groups.describe(principal.tenant, &name(&group)?).await;
    let described = described.map_err(|error| poll_problem(error, &group))?;
    Ok(Json(GroupOut::from(&described)))
}

/// List groups
#[utoipa::path(get, path = "/v1/groups", operation_id = "list_groups", tag = "groups",
    params(ListParams),
    responses((status = 200, description = "A page of groups.", body = GroupList)))]
pub async fn list_groups(
    principal: Principal,
    State(state): State<AppState>,
    QueryParams(params): QueryParams<ListParams>,
) -> Result<Json<GroupList>, Problem> {
    let page = params.page()?;
    let (prefix, after) = (&page.prefix, &page.after);
    let listed = state.groups.list(principal.tenant, prefix, after, page.wanted()).await;
    let groups = listed.map_err(|error| poll_problem(error, ""))?;
    let (groups, next_page_token) = page.cut(groups, |group| group.name.clone());
    let items = groups.iter().map(GroupSummaryOut::from).collect();
    Ok(Json(GroupList { items, next_page_token }))
}

/// Delete a group
///
/// Its offsets are forgotten and its members are told. A group made again under the name begins
/// anew, under higher epochs.
#[utoipa::path(delete, path = "/v1/groups/{group}", operation_id = "delete_group",
    tag = "groups",
    params(("group" = String, Path, description = "The group's name.")),
    responses((status = 204, description = "The group is gone."),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn delete_group(
    principal: Principal,
    State(state): State<AppState>,
    PathParams(group): PathParams<String>,
) -> Result<StatusCode, Problem> {
    let (_, id) = find(&state, principal, &group).await?;
    let deleted = state.groups.delete(id).await;
    deleted.map_err(|error| change_problem(error, &group))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a group
///
/// Nothing is delivered to its members until it is resumed; they stay members, and may commit.
#[utoipa::path(post, path = "/v1/groups/{group}/pause", operation_id = "pause_group",
    tag = "groups",
    params(("group" = String, Path, description = "The group's name."),
        ("Idempotency-Key" = Option<String>, Header,
            description = "The request is carried out once; a repeat gets the first answer.")),
    responses((status = 204, description = "The group is paused.",
            headers(("Idempotency-Replayed" = Option<String>,
                description = "`true` where the request came before with its key."))),
        (status = 409, description = "A request with the key is running.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn pause_group(
    principal: Principal,
    BareKey(key): BareKey,
    State(state): State<AppState>,
    PathParams(group): PathParams<String>,
) -> Result<Response, Problem> {
    set_paused(&state, principal, &group, (true, key)).await
}

/// Resume a group
#[utoipa::path(post, path = "/v1/groups/{group}/resume", operation_id = "resume_group",
    tag = "groups",
    params(("group" = String, Path, description = "The group's name."),
        ("Idempotency-Key" = Option<String>, Header,
            description = "The request is carried out once; a repeat gets the first answer.")),
    responses((status = 204, description = "The group goes on.",
            headers(("Idempotency-Replayed" = Option<String>,
                description = "`true` where the request came before with its key."))),
        (status = 409, description = "A request with the key is running.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "It may have happened: the database did not say.",
            body = ProblemBody, content_type = "application/problem+json")))]
pub async fn resume_group(
    principal: Principal,
    BareKey(key): BareKey,
    State(state): State<AppState>,
    PathParams(group): PathParams<String>,
) -> Result<Response, Problem> {
    set_paused(&state, principal, &group, (false, key)).await
}

async fn set_paused(
    state: &AppState,
    principal: Principal,
    group: &str,
    (paused, key): (bool, Option<IdempotencyKey>),
) -> Result<Response, Problem> {
    let (name, id) = find(state, principal, group).await?;
    let route = if paused { "pause" } else { "resume" };
    let asked = Asked::new(state, (principal.tenant, &name), route, key)?;
    let once = state.groups.set_paused(id, paused, asked.keyed(no_content)).await;
    let once = once.map_err(|error| asked.problem(change_problem(error, group)))?;
    asked.answer(once, no_content)
}
