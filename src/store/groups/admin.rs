//! Groups as resources, and their old offsets.

use std::time::Duration;

use sqlx::{PgConnection, Row};
use time::OffsetDateTime;

use super::{duration, index};
use crate::{
    model::{GroupId, Name, PartitionId, TenantId},
    store::{StoreError, append::unix_ms},
};

/// A group as lists show it.
#[derive(Clone, Debug)]
pub struct GroupSummary {
    /// Which group.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// Whether nothing is delivered.
    pub is_paused: bool,
    /// How many members it has.
    pub members: i64,
    /// Whether a member is told to give something up.
    pub is_rebalancing: bool,
    /// When it was first joined, in ms since 1970.
    pub created_ms: i64,
}

/// The id of a group, also of one that was deleted: it would be the same if it came again.
pub async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    name: &Name,
) -> Result<Option<GroupId>, StoreError> {
    let id: Option<i64> = sqlx::query_scalar(
        "select group_id from postrider.groups where tenant_id = $1 and name = $2",
    )
    .bind(tenant.0)
    .bind(name.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(id.map(GroupId))
}

/// Groups by name, behind `after` and beginning with `prefix`, at most `limit`.
pub async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    prefix: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<GroupSummary>, StoreError> {
    let rows = sqlx::query(
        "select g.group_id, g.name, g.is_paused, (
           select count(*) from postrider.group_members m where m.group_id = g.group_id),
           exists (select from postrider.assignments a
             where a.group_id = g.group_id and a.revoke_deadline is not null), g.created_at
         from postrider.groups g
         where g.tenant_id = $1 and g.deleted_at is null and g.name > $3
           and starts_with(g.name, $2)
         order by g.name limit $4",
    )
    .bind(tenant.0)
    .bind(prefix)
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(GroupSummary {
                group: GroupId(row.try_get(0)?),
                name: row.try_get(1)?,
                is_paused: row.try_get(2)?,
                members: row.try_get(3)?,
                is_rebalancing: row.try_get(4)?,
                created_ms: unix_ms(row.try_get::<OffsetDateTime, _>(5)?),
            })
        })
        .collect()
}

/// Members with what they ask for: id, generation, session timeout, patterns, time since last
/// heard.
pub type MemberSummary = (String, i64, Duration, Vec<String>, Duration);

/// All members of a group, by id.
pub async fn members(
    conn: &mut PgConnection,
    group: GroupId,
) -> Result<Vec<MemberSummary>, StoreError> {
    let rows: Vec<(String, i64, i64, Vec<String>, i64)> = sqlx::query_as(
        "select m.member_id, m.generation, m.session_timeout_ms, m.patterns, greatest(0,
           extract(epoch from clock_timestamp() - h.seen_at) * 1000)::bigint
         from postrider.group_members m
         join postrider.member_heartbeats h on h.member_number = m.member_number
         where m.group_id = $1 order by m.member_id",
    )
    .bind(group.0)
    .fetch_all(conn)
    .await?;
    let ms = |ms: i64| duration(Some(ms)).unwrap_or_default();
    let member = |(member, generation, timeout, patterns, silent)| {
        (member, generation, ms(timeout), patterns, ms(silent))
    };
    Ok(rows.into_iter().map(member).collect())
}

/// How far a group is behind in one partition.
#[derive(Clone, Debug)]
pub struct Lag {
    /// Which partition.
    pub partition: PartitionId,
    /// Its topic.
    pub topic: String,
    /// Its number in the topic.
    pub index: u32,
    /// Who has it.
    pub member: Option<String>,
    /// Its epoch.
    pub epoch: i64,
    /// Whether its owner is told to give it up.
    pub is_revoked: bool,
    /// The next offset to read.
    pub committed: i64,
    /// The first offset that can be read.
    pub low: i64,
    /// The offset of the next message.
    pub high: i64,
    /// How long the first message that is not committed has been there, in ms.
    pub lag_ms: Option<i64>,
}

/// How far a group is behind, by topic and partition.
pub async fn lags(conn: &mut PgConnection, group: GroupId) -> Result<Vec<Lag>, StoreError> {
    let rows =
        sqlx::query("select * from postrider.group_lag($1)").bind(group.0).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(Lag {
                partition: PartitionId(row.try_get(0)?),
                topic: row.try_get(1)?,
                index: index(row, 2)?,
                member: row.try_get(3)?,
                epoch: row.try_get(4)?,
                is_revoked: row.try_get(5)?,
                committed: row.try_get::<Option<i64>, _>(6)?.unwrap_or_default(),
                low: row.try_get(7)?,
                high: row.try_get(8)?,
                lag_ms: row.try_get(9)?,
            })
        })
        .collect()
}

/// Moves partitions of a group to offsets, under new epochs. Returns partition and epoch of those
/// that the group has.
pub async fn seek(
    conn: &mut PgConnection,
    group: GroupId,
    to: &[(PartitionId, i64)],
) -> Result<Vec<(PartitionId, i64)>, StoreError> {
    let (ids, nexts): (Vec<i64>, Vec<i64>) =
        to.iter().map(|(partition, next)| (partition.0, *next)).unzip();
    let moved: Vec<(i64, i64)> =
        sqlx::query_as("select partition_id, epoch from postrider.group_seek($1, $2, $3)")
            .bind(group.0)
            .bind(ids)
            .bind(nexts)
            .fetch_all(conn)
            .await?;
    Ok(moved.into_iter().map(|(partition, epoch)| (PartitionId(partition), epoch)).collect())
}

/// Pauses a group or lets it go on. False: there is no such group.
pub async fn set_paused(
    conn: &mut PgConnection,
    group: GroupId,
    paused: bool,
) -> Result<bool, StoreError> {
    let done = sqlx::query_scalar("select postrider.group_set_paused($1, $2)");
    Ok(done.bind(group.0).bind(paused).fetch_one(conn).await?)
}

/// Deletes a group. False: there is no such group.
pub async fn delete(conn: &mut PgConnection, group: GroupId) -> Result<bool, StoreError> {
    let done = sqlx::query_scalar("select postrider.group_delete($1)");
    Ok(done.bind(group.0).fetch_one(conn).await?)
}

/// The newest offset of a partition in a group: partition, group, epoch, next offset.
pub type Newest = (i64, i64, i64, i64);

/// The newest offset of every partition in every group; none while a snapshot that is older than
/// a minute stands: what is deleted then only makes indexes longer.
pub async fn newest_offsets(conn: &mut PgConnection) -> Result<Option<Vec<Newest>>, StoreError> {
    let held: bool = sqlx::query_scalar(
        "select exists (select from pg_stat_activity where backend_xmin is not null
           and xact_start < clock_timestamp() - interval '1 minute')",
    )
    .fetch_one(&mut *conn)
    .await?;
    if held {
        return Ok(None);
    }
    let newest = sqlx::query_as(
        "select a.partition_id, a.group_id, o.epoch, o.next_offset
         from postrider.assignments a cross join lateral (
           select o.epoch, o.next_offset from postrider.group_offsets o
           where o.partition_id = a.partition_id and o.group_id = a.group_id
           order by o.epoch desc, o.next_offset desc limit 1) o",
    );
    Ok(Some(newest.fetch_all(conn).await?))
}

/// Removes what is older than offsets that were the newest a while ago.
pub async fn prune(conn: &mut PgConnection, bounds: &[Newest]) -> Result<i64, StoreError> {
    let column = |of: fn(&Newest) -> i64| bounds.iter().map(of).collect::<Vec<i64>>();
    let pruned = sqlx::query_scalar("select postrider.group_prune($1, $2, $3, $4)")
        .bind(column(|bound| bound.0))
        .bind(column(|bound| bound.1))
        .bind(column(|bound| bound.2))
        .bind(column(|bound| bound.3))
        .fetch_one(conn)
        .await?;
    Ok(pruned)
}
