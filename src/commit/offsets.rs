//! Offset commits of consumer groups. Each is one call of one SQL function: the group's shared
//! lock first, and only in later statements the epoch and the insert. They are always synchronous.

use tokio::time::timeout;

use crate::{
    lifecycle::Lifecycle,
    model::{GroupId, limits},
    store::{
        self, Database, StoreError,
        groups::{Commit, Committed},
        once::{self, Keyed, Once},
    },
    telemetry::metrics::GROUPS,
};

/// Commits offsets. Clones share it.
#[derive(Clone, Debug)]
pub struct Offsets {
    database: Database,
    lifecycle: Lifecycle,
}

impl Offsets {
    /// Commits into `database`.
    pub fn new(database: Database, lifecycle: Lifecycle) -> Self {
        Self { database, lifecycle }
    }

    /// Commits offsets of a group, each under its epoch, and says what became of each. The commit
    /// goes on though the caller vanish.
    ///
    /// # Errors
    /// The database did not answer as it should. [`StoreError::Lost`] leaves open whether it was
    /// committed; to commit the same again is harmless.
    pub async fn commit(
        &self,
        group: GroupId,
        entries: Vec<Commit>,
        keyed: Option<Keyed<Vec<Committed>>>,
    ) -> Result<Once<Vec<Committed>>, StoreError> {
        if entries.is_empty() && keyed.is_none() {
            return Ok(Once::Done(Vec::new()));
        }
        let database = self.database.clone();
        let work = self.lifecycle.spawn(async move {
            // A key makes a transaction of it.
            let mut session = match &keyed {
                Some(_) => database.acquire_for_change().await?,
                None => database.acquire().await?,
            };
            let once = once::committed(&mut session, keyed, async |session| {
                store::groups::commit(session, group, &entries).await
            });
            let once = once.await?;
            if matches!(&once, Once::Done(done) if done.contains(&Committed::OtherLog)) {
                store::groups::renew(&mut session, group).await?;
            }
            Ok(once)
        });
        let lost = |why: &str| StoreError::Lost(why.to_owned());
        let once = match timeout(limits::DATABASE_ANSWER_TIMEOUT, work).await {
            Ok(once) => once.unwrap_or_else(|_| Err(lost("the commit was cut short")))?,
            Err(_) => return Err(lost("no answer")),
        };
        if let Once::Done(done) = &once {
            let stands = done.iter().filter(|one| **one == Committed::Stands).count();
            GROUPS.commits.increment(stands as u64);
            GROUPS.commits_refused.increment((done.len() - stands) as u64);
        }
        Ok(once)
    }
}
