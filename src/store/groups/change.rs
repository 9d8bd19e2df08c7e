//! Changes of a group's members and assignments. Each holds the group's exclusive lock, taken by
//! a statement of its own before anything is looked at.

use std::time::Duration;

use sqlx::{Connection, PgConnection, Row};

use super::{
    Check, check,
    plan::{Plan, replan},
};
use crate::{
    model::{GroupId, Name, PartitionId, TenantId, group::Start},
    store::{StoreError, lock},
};

/// What a member that joins says.
#[derive(Clone, Debug)]
pub struct JoinWish {
    /// Its id.
    pub member: String,
    /// Its generation; none: one above the last.
    pub generation: Option<i64>,
    /// Names and patterns of topics.
    pub patterns: Vec<String>,
    /// For how long it may be silent.
    pub session_timeout: Duration,
    /// Where partitions begin, if this is the group's first join.
    pub start: Start,
    /// How many members the group may have.
    pub members_max: usize,
}

/// How a join went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinOutcome {
    /// A member that was not there.
    New,
    /// The same join again.
    Again,
    /// A later process of a member took over from an older one.
    TakenOver,
    /// Refused: a later generation stands.
    Stale,
    /// Refused: this generation stands with other settings.
    Different,
    /// Refused: the group has as many members as it may have.
    Full,
}

/// The answer to a join.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Which group.
    pub group: GroupId,
    /// How it went.
    pub outcome: JoinOutcome,
    /// The generation that stands.
    pub generation: i64,
    /// What the member has now, unless it was refused.
    pub check: Option<Check>,
    /// The low watermark of each of those partitions.
    pub lows: Vec<i64>,
}

/// What is done to a group beside computing its target anew.
#[derive(Clone, Copy, Debug)]
pub enum Change<'c> {
    /// A member goes; with a generation, only while that one stands.
    Leave(&'c str, Option<i64>),
    /// Silent members go, as a node sees it that has seen the database for so long.
    Expire(Duration),
}

async fn lock_group(conn: &mut PgConnection, group: GroupId) -> Result<(), StoreError> {
    sqlx::query("select set_config('lock_timeout', '2s', true)").execute(&mut *conn).await?;
    lock::transaction(conn, lock::GROUP + group.0).await
}

/// Enters a member and computes the target anew, in one transaction. `plan` says who is to have
/// which partition.
pub async fn join_committed(
    conn: &mut PgConnection,
    tenant: TenantId,
    name: &Name,
    wish: &JoinWish,
    plan: Plan<'_>,
) -> Result<Joined, StoreError> {
    let mut tx = conn.begin().await?;
    let group = sqlx::query_scalar("select postrider.group_open($1, $2, $3)")
        .bind(tenant.0)
        .bind(name.as_str())
        .bind(wish.start.as_str())
        .fetch_one(&mut *tx)
        .await?;
    let group = GroupId(group);
    lock_group(&mut tx, group).await?;
    let row = sqlx::query(
        "select outcome, generation, (select count(*) from postrider.group_members
           where group_id = $1) from postrider.group_join($1, $2, $3, $4, $5, $6)",
    )
    .bind(group.0)
    .bind(&wish.member)
    .bind(wish.generation)
    .bind(&wish.patterns)
    .bind(i64::try_from(wish.session_timeout.as_millis()).unwrap_or(i64::MAX))
    .bind(wish.start.as_str())
    .fetch_one(&mut *tx)
    .await?;
    let count: i64 = row.try_get(2)?;
    let outcome = match row.try_get::<i16, _>(0)? {
        0 if usize::try_from(count).unwrap_or_default() >= wish.members_max => JoinOutcome::Full,
        0 => JoinOutcome::New,
        1 => JoinOutcome::Again,
        2 => JoinOutcome::TakenOver,
        3 => JoinOutcome::Stale,
        4 => JoinOutcome::Different,
        other => return Err(StoreError::Shape(format!("outcome {other} of a join"))),
    };
    let generation = row.try_get(1)?;
    let renewed = match outcome {
        JoinOutcome::New | JoinOutcome::Again => None,
        JoinOutcome::TakenOver => Some(wish.member.as_str()),
        JoinOutcome::Stale | JoinOutcome::Different | JoinOutcome::Full => {
            tx.rollback().await?;
            return Ok(Joined { group, outcome, generation, check: None, lows: Vec::new() });
        }
    };
    if outcome != JoinOutcome::Again {
        replan(&mut tx, group, renewed, plan).await?;
    }
    let check = check(&mut tx, group, &wish.member).await?;
    let ids: Vec<i64> =
        check.iter().flat_map(|check| &check.holdings).map(|held| held.partition.0).collect();
    let lows = sqlx::query_scalar(
        "select postrider.partition_low(u.id)
         from unnest($1::bigint[]) with ordinality u (id, at) order by u.at",
    );
    let lows = lows.bind(ids).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    Ok(Joined { group, outcome, generation, check, lows })
}

/// A member goes and the target is computed anew. With a generation it goes only while that one
/// stands. False: there is no such member.
pub async fn leave_committed(
    conn: &mut PgConnection,
    group: GroupId,
    (member, generation): (&str, Option<i64>),
    plan: Plan<'_>,
) -> Result<bool, StoreError> {
    change_committed(conn, group, Change::Leave(member, generation), plan).await
}

/// Silent members go, partitions that were not given up in time move, and whatever else is not as
/// it should be is repaired. False: there was nothing to be done.
pub async fn settle_committed(
    conn: &mut PgConnection,
    group: GroupId,
    alive: Duration,
    plan: Plan<'_>,
) -> Result<bool, StoreError> {
    change_committed(conn, group, Change::Expire(alive), plan).await
}

async fn change_committed(
    conn: &mut PgConnection,
    group: GroupId,
    change: Change<'_>,
    plan: Plan<'_>,
) -> Result<bool, StoreError> {
    let mut tx = conn.begin().await?;
    lock_group(&mut tx, group).await?;
    match change {
        Change::Leave(member, generation) => {
            let left = sqlx::query_scalar(
                "select postrider.group_leave($1, $2) where not exists (
                   select from postrider.group_members
                   where group_id = $1 and member_id = $2 and generation <> $3)",
            );
            let left = left.bind(group.0).bind(member).bind(generation);
            let left: Option<bool> = left.fetch_optional(&mut *tx).await?;
            if left != Some(true) {
                tx.rollback().await?;
                return Ok(false);
            }
        }
        Change::Expire(alive) => {
            let is_due: bool = sqlx::query_scalar("select postrider.group_expire($1, $2)")
                .bind(group.0)
                .bind(i64::try_from(alive.as_millis()).unwrap_or(i64::MAX))
                .fetch_one(&mut *tx)
                .await?;
            if !is_due {
                tx.rollback().await?;
                return Ok(false);
            }
        }
    }
    replan(&mut tx, group, None, plan).await?;
    tx.commit().await?;
    Ok(true)
}

/// A member gives up partitions that it was told to, each under its epoch. Returns how many moved
/// to their successors.
pub async fn confirm(
    conn: &mut PgConnection,
    group: GroupId,
    member: &str,
    generation: i64,
    given: &[(PartitionId, i64)],
) -> Result<i64, StoreError> {
    let (ids, epochs): (Vec<i64>, Vec<i64>) =
        given.iter().map(|(partition, epoch)| (partition.0, *epoch)).unzip();
    let moved = sqlx::query_scalar("select postrider.group_confirm($1, $2, $3, $4, $5)")
        .bind(group.0)
        .bind(member)
        .bind(generation)
        .bind(ids)
        .bind(epochs)
        .fetch_one(conn)
        .await?;
    Ok(moved)
}

/// Gives every assignment of another incarnation of the log a new epoch at its committed offset.
/// Returns how many there were.
pub async fn renew(conn: &mut PgConnection, group: GroupId) -> Result<i64, StoreError> {
    let renewed = sqlx::query_scalar("select postrider.group_renew($1)").bind(group.0);
    Ok(renewed.fetch_one(conn).await?)
}

/// Partitions of a topic that is being deleted leave every group.
pub async fn drop_partitions(
    conn: &mut PgConnection,
    partitions: &[PartitionId],
) -> Result<(), StoreError> {
    let ids: Vec<i64> = partitions.iter().map(|partition| partition.0).collect();
    sqlx::query("select postrider.group_drop_partitions($1)").bind(ids).execute(conn).await?;
    Ok(())
}
