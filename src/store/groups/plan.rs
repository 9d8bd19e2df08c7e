//! What a target is computed from, and what it says.

use sqlx::{PgConnection, Row};

use super::index;
use crate::{
    model::{GroupId, PartitionId, group::TopicPattern},
    store::{StoreError, topics},
};

/// A member and the topics that it asks for.
#[derive(Clone, Debug)]
pub struct PlanMember {
    /// Its id.
    pub member: String,
    /// Names and patterns.
    pub patterns: Vec<TopicPattern>,
}

/// A partition that the group reads or has read.
#[derive(Clone, Debug)]
pub struct PlanPartition {
    /// Which partition.
    pub partition: PartitionId,
    /// Its topic.
    pub topic: String,
    /// Its number in the topic.
    pub index: u32,
    /// Who has it.
    pub owner: Option<String>,
    /// Who is to have it, as was last decided.
    pub target: Option<String>,
}

/// A group under its lock: what a target is computed from.
#[derive(Clone, Debug, Default)]
pub struct PlanInput {
    /// All members, by id.
    pub members: Vec<PlanMember>,
    /// All partitions, by topic and number.
    pub partitions: Vec<PlanPartition>,
    /// A member that has just taken over from an older process of its own: what it had moves to
    /// its successor at once.
    pub renewed: Option<String>,
}

/// What shall be with one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Who is to have it.
    pub target: Option<String>,
    /// Whether that holds at once, without a revoke.
    pub at_once: bool,
}

pub(super) type Plan<'p> = &'p (dyn Fn(&PlanInput) -> Vec<Planned> + Send + Sync);

/// Computes a group's target anew and brings its assignments to it. The caller holds the group's
/// exclusive lock.
pub(super) async fn replan(
    conn: &mut PgConnection,
    group: GroupId,
    renewed: Option<&str>,
    plan: Plan<'_>,
) -> Result<(), StoreError> {
    let members = read_members(conn, group).await?;
    // Before the topics: what changes after this is looked at again.
    let seen = topics::last_change(conn).await?;
    let partitions = read_partitions(conn, group, &members).await?;
    let input = PlanInput { members, partitions, renewed: renewed.map(str::to_owned) };
    let planned = plan(&input);
    if planned.len() != input.partitions.len() {
        return Err(StoreError::Shape("a target without an entry for each partition".to_owned()));
    }
    let partitions = &input.partitions;
    let ids: Vec<i64> = partitions.iter().map(|known| known.partition.0).collect();
    let names: Vec<&str> = partitions.iter().map(|known| known.topic.as_str()).collect();
    let indexes: Vec<i32> =
        partitions.iter().map(|known| i32::try_from(known.index).unwrap_or(i32::MAX)).collect();
    let targets: Vec<Option<&str>> = planned.iter().map(|to| to.target.as_deref()).collect();
    let at_once: Vec<bool> = planned.iter().map(|to| to.at_once).collect();
    sqlx::query("select postrider.group_apply($1, $2, $3, $4, $5, $6, $7)")
        .bind(group.0)
        .bind(ids)
        .bind(names)
        .bind(indexes)
        .bind(targets)
        .bind(at_once)
        .bind(seen)
        .execute(conn)
        .await?;
    Ok(())
}

async fn read_members(
    conn: &mut PgConnection,
    group: GroupId,
) -> Result<Vec<PlanMember>, StoreError> {
    let rows: Vec<(String, Vec<String>)> = sqlx::query_as(
        "select member_id, patterns from postrider.group_members
         where group_id = $1 order by member_id",
    )
    .bind(group.0)
    .fetch_all(conn)
    .await?;
    let member = |(member, patterns): (String, Vec<String>)| {
        let patterns = patterns.iter().map(|text| TopicPattern::parse(text));
        let patterns = patterns.collect::<Result<_, _>>();
        let patterns = patterns.map_err(|why| StoreError::Shape(why.to_string()))?;
        Ok(PlanMember { member, patterns })
    };
    rows.into_iter().map(member).collect()
}

async fn read_partitions(
    conn: &mut PgConnection,
    group: GroupId,
    members: &[PlanMember],
) -> Result<Vec<PlanPartition>, StoreError> {
    let patterns = || members.iter().flat_map(|member| &member.patterns);
    let mut literals: Vec<&str> =
        patterns().filter(|one| one.is_literal()).map(TopicPattern::as_str).collect();
    let mut regexes: Vec<String> =
        patterns().filter(|one| !one.is_literal()).map(TopicPattern::regex).collect();
    literals.sort_unstable();
    literals.dedup();
    regexes.sort_unstable();
    regexes.dedup();
    // Two ways into topics, so that names go by their key.
    let rows = sqlx::query(
        "with asked as (
           select t.topic_id, t.name from postrider.topics t
           where t.tenant_id = (select g.tenant_id from postrider.groups g where g.group_id = $1)
             and t.name = any ($2)
           union
           select t.topic_id, t.name from postrider.topics t
           where cardinality($3::text[]) > 0 and t.name ~ any ($3)
             and t.tenant_id = (select g.tenant_id from postrider.groups g where g.group_id = $1)
         ), meant as (
           select p.partition_id, asked.name, p.index
           from asked join postrider.partitions p on p.owner_id = asked.topic_id
             and p.lane = 0 and p.deleted_at is null
         )
         select coalesce(m.partition_id, a.partition_id), coalesce(m.name, a.topic),
           coalesce(m.index, a.index), a.member_id, a.target_id
         from meant m full join (
           select a.* from postrider.assignments a
           join postrider.partitions p on p.partition_id = a.partition_id and p.deleted_at is null
           where a.group_id = $1) a on a.partition_id = m.partition_id
         order by 2, 3",
    )
    .bind(group.0)
    .bind(literals)
    .bind(regexes)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(PlanPartition {
                partition: PartitionId(row.try_get(0)?),
                topic: row.try_get(1)?,
                index: index(row, 2)?,
                owner: row.try_get(3)?,
                target: row.try_get(4)?,
            })
        })
        .collect()
}
