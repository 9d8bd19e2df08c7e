//! Groups as resources: described, listed, moved, paused, deleted. Changes go on though the
//! caller vanish.

use std::time::Duration;

use super::{GroupError, Groups};
use crate::{
    log::Position,
    model::{GroupId, PartitionId, TenantId},
    store::{
        self, PooledSession, StoreError,
        claims::{ClaimKey, RequestKey, Standing},
        groups::{GroupSummary, Lag},
        once::{self, Keyed, Once},
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

/// Partition and new epoch of each that moved.
pub type Moved = Vec<(PartitionId, i64)>;

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

    /// What stands under the key of a request, if it came before.
    pub async fn standing(&self, key: RequestKey) -> Result<Option<Standing>, GroupError> {
        let groups = self.clone();
        self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            Ok(store::claims::find(&mut session, &ClaimKey::Request(key)).await?)
        })
        .await
    }

    /// Moves partitions to offsets, while the group runs. Returns partition and new epoch of each
    /// that the group has.
    pub async fn seek(
        &self,
        group: GroupId,
        to: Vec<(PartitionId, i64)>,
        keyed: Option<Keyed<Moved>>,
    ) -> Result<Once<Moved>, GroupError> {
        let groups = self.clone();
        self.detached(async move {
            let mut session = groups.session_for(keyed.is_some()).await?;
            let once = once::committed(&mut session, keyed, async |session| {
                store::groups::seek(session, group, &to).await
            });
            let once = once.await?;
            groups.changed(group);
            Ok(once)
        })
        .await
    }

    /// Pauses a group or lets it go on.
    pub async fn set_paused(
        &self,
        group: GroupId,
        paused: bool,
        keyed: Option<Keyed<()>>,
    ) -> Result<Once<()>, GroupError> {
        let groups = self.clone();
        self.detached(async move {
            let mut session = groups.session_for(keyed.is_some()).await?;
            let once = once::committed(&mut session, keyed, async |session| {
                let done = store::groups::set_paused(session, group, paused).await?;
                if done { Ok(()) } else { Err(GroupError::NoGroup) }
            });
            let once = once.await?;
            groups.changed(group);
            Ok(once)
        })
        .await
    }

    /// A session for one statement, which a key makes a transaction of several.
    async fn session_for(&self, is_keyed: bool) -> Result<PooledSession, StoreError> {
        let database = &self.shared.database;
        if is_keyed { database.acquire_for_change().await } else { database.acquire().await }
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
