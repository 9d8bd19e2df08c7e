//! Consumer groups: members, assignments, committed offsets. A group's advisory lock orders its
//! changes; polls never take it.

mod admin;
mod change;
mod plan;

use std::time::Duration;

use sqlx::{PgConnection, Row, postgres::PgRow};

pub use admin::{
    GroupSummary, Lag, Newest, delete, find, lags, list, members, newest_offsets, prune, seek,
    set_paused,
};
pub use change::{
    Change, JoinOutcome, JoinWish, Joined, confirm, drop_partitions, join_committed,
    leave_committed, renew, settle_committed,
};
pub use plan::{PlanInput, PlanMember, PlanPartition, Planned};

use super::StoreError;
use crate::model::{GroupId, PartitionId};

/// A partition that a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Which partition.
    pub partition: PartitionId,
    /// Its topic.
    pub topic: String,
    /// Its number in the topic.
    pub index: u32,
    /// The epoch under which the member has it.
    pub epoch: i64,
    /// How long the member may still take to give it up; none when it keeps it.
    pub revoke: Option<Duration>,
    /// The committed offset: the next one to read.
    pub committed: i64,
    /// Whether the epoch was made in this incarnation of the log.
    pub is_current: bool,
}

/// A group and one of its members, as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The member's generation; none when it is no member.
    pub generation: Option<i64>,
    /// Rises with every change of the group.
    pub version: i64,
    /// Whether nothing is delivered.
    pub is_paused: bool,
    /// What the member has, by topic and number.
    pub holdings: Vec<Holding>,
}

fn duration(ms: Option<i64>) -> Option<Duration> {
    ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()))
}

fn index(row: &PgRow, at: usize) -> Result<u32, StoreError> {
    let index: i32 = row.try_get(at)?;
    u32::try_from(index).map_err(|_| StoreError::Shape("number of a partition".to_owned()))
}

/// What a member has now; none when there is no such group. One snapshot.
pub async fn check(
    conn: &mut PgConnection,
    group: GroupId,
    member: &str,
) -> Result<Option<Check>, StoreError> {
    let rows = sqlx::query("select * from postrider.group_check($1, $2)")
        .bind(group.0)
        .bind(member)
        .fetch_all(conn)
        .await?;
    let Some((head, rows)) = rows.split_first() else { return Ok(None) };
    let mut check = Check {
        generation: head.try_get(3)?,
        version: head.try_get(5)?,
        is_paused: head.try_get(6)?,
        holdings: Vec::with_capacity(rows.len()),
    };
    for row in rows {
        check.holdings.push(Holding {
            partition: PartitionId(row.try_get(0)?),
            topic: row.try_get(1)?,
            index: index(row, 2)?,
            epoch: row.try_get(3)?,
            revoke: duration(row.try_get(4)?),
            committed: row.try_get::<Option<i64>, _>(5)?.unwrap_or_default(),
            is_current: row.try_get(6)?,
        });
    }
    Ok(Some(check))
}

/// A member as every node may know it.
#[derive(Clone, Debug)]
pub struct MemberRow {
    /// Its id.
    pub member: String,
    /// Its number under this generation.
    pub number: i64,
    /// Its generation.
    pub generation: i64,
    /// For how long it may be silent.
    pub session_timeout: Duration,
}

/// An assignment as every node may know it.
#[derive(Clone, Debug)]
pub struct AssignmentRow {
    /// Whose it is.
    pub member: String,
    /// Which partition.
    pub partition: PartitionId,
    /// Its topic.
    pub topic: String,
    /// Its number in the topic.
    pub index: u32,
    /// Its epoch.
    pub epoch: i64,
    /// How long the member may still take to give it up.
    pub revoke: Option<Duration>,
}

/// A whole group at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Rises with every change of the group.
    pub version: i64,
    /// Whether nothing is delivered.
    pub is_paused: bool,
    /// All members.
    pub members: Vec<MemberRow>,
    /// What they have, by topic and number.
    pub assignments: Vec<AssignmentRow>,
}

/// A whole group; none when there is none.
pub async fn view(conn: &mut PgConnection, group: GroupId) -> Result<Option<View>, StoreError> {
    let rows =
        sqlx::query("select * from postrider.group_view($1)").bind(group.0).fetch_all(conn).await?;
    let Some((head, rows)) = rows.split_first() else { return Ok(None) };
    let (version, is_paused) = (head.try_get(5)?, head.try_get(7)?);
    let mut view = View { version, is_paused, ..View::default() };
    for row in rows {
        let (member, ms): (String, Option<i64>) = (row.try_get(0)?, row.try_get(6)?);
        match row.try_get(2)? {
            None => view.members.push(MemberRow {
                member,
                number: row.try_get(1)?,
                generation: row.try_get(5)?,
                session_timeout: duration(ms).unwrap_or_default(),
            }),
            Some(partition) => view.assignments.push(AssignmentRow {
                member,
                partition: PartitionId(partition),
                topic: row.try_get(3)?,
                index: index(row, 4)?,
                epoch: row.try_get(5)?,
                revoke: duration(ms),
            }),
        }
    }
    Ok(Some(view))
}

/// What a node learns about the groups that it knows.
#[derive(Clone, Debug)]
pub struct Versions {
    /// Groups that changed or are gone.
    pub changed: Vec<GroupId>,
    /// Which life of the log this is.
    pub log_incarnation: String,
}

/// Which of these groups are not as the caller knows them, by id and version.
pub async fn versions(
    conn: &mut PgConnection,
    known: impl Iterator<Item = (GroupId, i64)>,
) -> Result<Versions, StoreError> {
    let (ids, versions): (Vec<i64>, Vec<i64>) =
        known.map(|(group, version)| (group.0, version)).unzip();
    let rows =
        sqlx::query("select group_id, log_incarnation from postrider.group_versions($1, $2)")
            .bind(ids)
            .bind(versions)
            .fetch_all(conn)
            .await?;
    let mut found = Versions { changed: Vec::new(), log_incarnation: String::new() };
    for row in &rows {
        match row.try_get(0)? {
            Some(group) => found.changed.push(GroupId(group)),
            None => found.log_incarnation = row.try_get(1)?,
        }
    }
    Ok(found)
}

/// What the sweep found.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// Groups that have something to be repaired.
    pub groups: Vec<GroupId>,
    /// When the next one will, as far as anybody knows.
    pub next: Option<Duration>,
}

/// Which groups have something to be repaired, for a node that has seen the database for `alive`.
pub async fn due(conn: &mut PgConnection, alive: Duration) -> Result<Due, StoreError> {
    let rows = sqlx::query("select group_id, next_ms from postrider.groups_due($1)")
        .bind(i64::try_from(alive.as_millis()).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    let mut due = Due::default();
    for row in &rows {
        match row.try_get(0)? {
            Some(group) if due.groups.contains(&GroupId(group)) => {}
            Some(group) => due.groups.push(GroupId(group)),
            None => due.next = duration(row.try_get(1)?),
        }
    }
    Ok(due)
}

/// Says that members were heard, each so long ago. Returns the numbers of those that are no
/// members any more.
pub async fn beat(
    conn: &mut PgConnection,
    heard: &[(i64, Duration)],
) -> Result<Vec<i64>, StoreError> {
    let age = |age: &Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    let (numbers, ages): (Vec<i64>, Vec<i64>) =
        heard.iter().map(|(number, since)| (*number, age(since))).unzip();
    let gone = sqlx::query_scalar("select * from postrider.group_beat($1, $2)");
    Ok(gone.bind(numbers).bind(ages).fetch_all(conn).await?)
}

/// One offset to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Which partition.
    pub partition: PartitionId,
    /// The epoch its messages were delivered under.
    pub epoch: i64,
    /// The next offset to read.
    pub next_offset: i64,
    /// Whether messages up to it were delivered under this epoch: then it is not above the end.
    pub is_vouched: bool,
}

/// What became of a commit's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It stands.
    Stands,
    /// The epoch has moved, or the partition is not assigned.
    Stale,
    /// It is above the end of the partition.
    AboveEnd {
        /// Where that is.
        high: i64,
    },
    /// The log has another incarnation: the epoch is to be renewed.
    OtherLog,
}

/// Commits offsets, and says what became of each.
pub async fn commit(
    conn: &mut PgConnection,
    group: GroupId,
    entries: &[Commit],
) -> Result<Vec<Committed>, StoreError> {
    let column = |of: fn(&Commit) -> i64| entries.iter().map(of).collect::<Vec<i64>>();
    let vouched: Vec<bool> = entries.iter().map(|entry| entry.is_vouched).collect();
    let rows = sqlx::query("select outcome, high from postrider.group_commit($1, $2, $3, $4, $5)")
        .bind(group.0)
        .bind(column(|entry| entry.partition.0))
        .bind(column(|entry| entry.epoch))
        .bind(column(|entry| entry.next_offset))
        .bind(vouched)
        .fetch_all(conn)
        .await?;
    let outcome = |row: &PgRow| {
        Ok(match row.try_get::<i16, _>(0)? {
            0 => Committed::Stands,
            1 => Committed::Stale,
            2 => Committed::AboveEnd { high: row.try_get::<Option<_>, _>(1)?.unwrap_or_default() },
            3 => Committed::OtherLog,
            other => return Err(StoreError::Shape(format!("outcome {other} of a commit"))),
        })
    };
    rows.iter().map(outcome).collect()
}

/// The key with which nodes sign cursors.
pub async fn cursor_key(conn: &mut PgConnection) -> Result<Vec<u8>, StoreError> {
    let key = sqlx::query_scalar("select key from postrider.node_keys where purpose = 'cursor'");
    Ok(key.fetch_one(conn).await?)
}
