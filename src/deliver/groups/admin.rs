//! Groups as resources: described, listed, moved, paused, deleted. Changes go on though the
//! caller vanish.

use std::time::Duration;

use super::{GroupError, Groups};
use crate::{
    log::Position,
    model::{GroupId, PartitionId, TenantId},
    store::{
        self,
        groups::{GroupSummary, Lag},
    },
};

/// A group with all there is to see of it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The group itself.
    pub summary: GroupSummary,
    /// Its members: id, generation, session timeout, topics, time since last heard.
    pub members: Vec<(String, i64, Duration, Vec<String>, Duration)>,
    /// How far it is behind.
    pub partitions: Vec<Lag>,
}

impl Groups {
    /// A group with its members and how far it is behind.
    pub async fn describe(
        &self,
        tenant: TenantId,
        name: &crate::model::Name,
    ) -> Result<Described, GroupError> {
        let (groups, name) = (self.clone(), name.clone());
        self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            let listed = store::groups::list(&mut session, tenant, name.as_str(), "", 1).await?;
            let is_it = |summary: &GroupSummary| summary.name == name.as_str();
            let summary = listed.into_iter().find(is_it).ok_or(GroupError::NoGroup)?;
            let members = store::groups::members(&mut session, summary.group).await?;
            let partitions = store::groups::lags(&mut session, summary.group).await?;
            Ok(Described { summary, members, partitions })
        })
        .await
    }

    /// Groups by name, behind `after` and beginning with `prefix`.
    pub async fn list(
        &self,
        tenant: TenantId,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<GroupSummary>, GroupError> {
        let (groups, prefix, after) = (self.clone(), prefix.to_owned(), after.to_owned());
        self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            Ok(store::groups::list(&mut session, tenant, &prefix, &after, limit).await?)
        })
        .await
    }

    /// The partitions of a group, with how far it is behind.
    pub async fn partitions(&self, group: GroupId) -> Result<Vec<Lag>, GroupError> {
        let groups = self.clone();
        self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            Ok(store::groups::lags(&mut session, group).await?)
        })
        .await
    }

    /// The offset of a position in a partition.
    pub async fn resolve(
        &self,
        partition: PartitionId,
        position: Position,
    ) -> Result<i64, GroupError> {
        let log = self.shared.log.clone();
        self.detached(async move { Ok(log.resolve(partition, position).await?) }).await
    }

    /// Moves partitions to offsets, while the group runs. Returns partition and new epoch of each
    /// that the group has.
    pub async fn seek(
        &self,
        group: GroupId,
        to: Vec<(PartitionId, i64)>,
    ) -> Result<Vec<(PartitionId, i64)>, GroupError> {
        let groups = self.clone();
        self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            let moved = store::groups::seek(&mut session, group, &to).await?;
            groups.changed(group);
            Ok(moved)
        })
        .await
    }

    /// Pauses a group or lets it go on.
    pub async fn set_paused(&self, group: GroupId, paused: bool) -> Result<(), GroupError> {
        let groups = self.clone();
        self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            let done = store::groups::set_paused(&mut session, group, paused).await?;
            groups.changed(group);
            if done { Ok(()) } else { Err(GroupError::NoGroup) }
        })
        .await
    }

    /// Deletes a group. Whoever polls is told.
    pub async fn delete(&self, group: GroupId) -> Result<(), GroupError> {
        let groups = self.clone();
        self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            let done = store::groups::delete(&mut session, group).await?;
            groups.changed(group);
            if done { Ok(()) } else { Err(GroupError::NoGroup) }
        })
        .await
    }
}
