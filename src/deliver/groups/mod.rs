//! Consumer groups. The database decides who has what, under the group's lock; a node only keeps
//! a view of the groups that are polled here, so that a poll that waits costs nothing. Whatever
//! is delivered was checked in the database after it was read.

pub mod admin;
mod answer;
mod beats;
mod cursor;
mod poll;
mod reading;
mod sweep;
mod target;
mod view;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

pub use answer::{Delivery, Polled, Revoked, Standing};
use beats::Beats;
use cursor::CursorKey;
pub use cursor::{BadCursor, Cursor, Place};
pub use poll::{Arrival, PollRequest};
use tokio::time::timeout;
use view::Watched;

use crate::{
    lifecycle::Lifecycle,
    log::{Log, News, ReadError},
    model::{GroupId, Name, PartitionId, TenantId, limits},
    store::{
        self, Database, StoreError,
        groups::{JoinOutcome, JoinWish, Joined},
        once::{self, Keyed, Once},
    },
};

/// Why a group could not be read, changed or polled.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// There is none of that name.
    #[error("there is no such group")]
    NoGroup,
    /// The member never joined, left, or was silent for too long.
    #[error("there is no such member in the group")]
    UnknownMember,
    /// A later process of the member has joined.
    #[error("a later generation of this member stands: {generation}")]
    Stale {
        /// The generation that stands.
        generation: i64,
    },
    /// The same generation joined with other settings.
    #[error("this generation of the member stands with other settings")]
    Different,
    /// The group has as many members as it may have.
    #[error("the group has as many members as it may have")]
    Full,
    /// The cursor was not made for this member of this group.
    #[error(transparent)]
    Cursor(#[from] BadCursor),
    /// Another poll of the same member came while this one waited.
    #[error("another poll of this member came")]
    Superseded,
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database did not answer as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change was begun and its task ended without a word.
    #[error("the change was not finished")]
    Unfinished,
}

/// A member that joined.
#[derive(Clone, Debug)]
pub struct Entered {
    /// What it has.
    pub joined: Joined,
    /// The cursor of its first poll.
    pub cursor: Cursor,
    /// The same as text.
    pub sealed: String,
}

/// Groups as one node sees them. Clones share it.
#[derive(Clone, Debug)]
pub struct Groups {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    lifecycle: Lifecycle,
    log: Log,
    key: OnceLock<CursorKey>,
    names: Mutex<HashMap<(TenantId, Name), GroupId>>,
    watched: Mutex<HashMap<GroupId, Arc<Watched>>>,
    beats: Beats,
}

fn unlocked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these, and each is whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Groups {
    /// The groups in the database of `log`.
    pub fn new(log: Log, lifecycle: Lifecycle) -> Self {
        let shared = Shared {
            database: log.database().clone(),
            lifecycle,
            log,
            key: OnceLock::new(),
            names: Mutex::default(),
            watched: Mutex::default(),
            beats: Beats::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Keeps views, heartbeats and assignments as they should be, until the node stops.
    pub async fn run(self) {
        tokio::join!(self.follow_versions(), self.beat(), self.sweep());
    }

    /// Runs work in the database in a task that goes on though whoever asked may vanish.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, GroupError>> + Send + 'static,
    ) -> Result<T, GroupError> {
        let work = self.shared.lifecycle.spawn(Box::pin(work));
        match timeout(limits::DATABASE_ANSWER_TIMEOUT, work).await {
            Ok(done) => done.unwrap_or(Err(GroupError::Unfinished)),
            Err(_) => Err(StoreError::Lost("no answer".to_owned()).into()),
        }
    }

    /// The id of a group, which never changes.
    pub async fn id(&self, tenant: TenantId, name: &Name) -> Result<GroupId, GroupError> {
        let known = (tenant, name.clone());
        if let Some(group) = unlocked(&self.shared.names).get(&known) {
            return Ok(*group);
        }
        let (groups, wanted) = (self.clone(), known.clone());
        let found = self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            Ok(store::groups::find(&mut session, wanted.0, &wanted.1).await?)
        });
        let group = found.await?.ok_or(GroupError::NoGroup)?;
        self.remember(known, group);
        Ok(group)
    }

    fn remember(&self, known: (TenantId, Name), group: GroupId) {
        let mut names = unlocked(&self.shared.names);
        if names.len() >= limits::CACHED_TOPICS_MAX {
            names.clear();
        }
        names.insert(known, group);
    }

    async fn key(&self) -> Result<&CursorKey, GroupError> {
        if let Some(key) = self.shared.key.get() {
            return Ok(key);
        }
        let groups = self.clone();
        let key = self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            Ok(store::groups::cursor_key(&mut session).await?)
        });
        let key = CursorKey::new(&key.await?);
        Ok(self.shared.key.get_or_init(|| key))
    }

    /// Enters a member, and says what it has. The join goes on though the caller vanish.
    pub async fn join(
        &self,
        tenant: TenantId,
        name: Name,
        wish: JoinWish,
        keyed: Option<Keyed<Entered>>,
    ) -> Result<Once<Entered>, GroupError> {
        let key = self.key().await?.clone();
        let (groups, wanted) = (self.clone(), name.clone());
        let entered = self.detached(async move {
            let mut session = groups.shared.database.acquire_for_change().await?;
            let once = once::committed(&mut session, keyed, async |session| {
                let plan = &target::target;
                let joined =
                    store::groups::join_committed(session, tenant, &wanted, &wish, plan).await?;
                entered(joined, &wish.member, &key)
            });
            let once = once.await?;
            if let Once::Done(entered) = &once {
                groups.changed(entered.joined.group);
            }
            Ok(once)
        });
        let entered = entered.await?;
        if let Once::Done(entered) = &entered {
            self.remember((tenant, name), entered.joined.group);
        }
        Ok(entered)
    }

    /// A cursor as text, for `member` alone.
    pub async fn sealed(&self, cursor: &Cursor, member: &str) -> Result<String, GroupError> {
        Ok(cursor.write(self.key().await?, member))
    }

    /// A member goes; with a generation, only while that one stands. The change goes on though
    /// the caller vanish.
    pub async fn leave(
        &self,
        group: GroupId,
        member: &str,
        generation: Option<i64>,
    ) -> Result<(), GroupError> {
        let (groups, member) = (self.clone(), member.to_owned());
        self.detached(async move {
            let mut session = groups.shared.database.acquire_for_change().await?;
            let who = (&*member, generation);
            let left = store::groups::leave_committed(&mut session, group, who, &target::target);
            let left = left.await?;
            groups.changed(group);
            if left { Ok(()) } else { Err(GroupError::UnknownMember) }
        })
        .await
    }

    /// Which partitions are meant by topic, number and epoch, as far as they are anybody's now.
    pub async fn locate(
        &self,
        group: GroupId,
        wanted: &[(&str, u32, i64)],
    ) -> Result<Vec<Option<PartitionId>>, GroupError> {
        let mut places: HashMap<(&str, u32, i64), Vec<usize>> = HashMap::new();
        for (at, wanted) in wanted.iter().enumerate() {
            places.entry(*wanted).or_default().push(at);
        }
        let mut found = vec![None; wanted.len()];
        let view = self.view(group, &self.watched(group)).await?;
        for held in view.members.values().flat_map(|member| &member.held) {
            for at in places.get(&(&*held.topic, held.index, held.epoch)).into_iter().flatten() {
                found[*at] = Some(held.partition);
            }
        }
        Ok(found)
    }

    /// What this node knows of a group may be stale: whoever asks looks again.
    pub fn forget(&self, group: GroupId) {
        let watched = unlocked(&self.shared.watched).get(&group).cloned();
        if let Some(watched) = watched {
            watched.forget();
        }
    }

    /// Something of a group changed here: whoever waits looks again, here and elsewhere.
    pub fn changed(&self, group: GroupId) {
        self.shared.log.tell(News::Groups);
        let watched = unlocked(&self.shared.watched).get(&group).cloned();
        if let Some(watched) = watched {
            watched.invalidate();
        }
    }
}

/// What a join came to, unless it was refused.
fn entered(joined: Joined, member: &str, key: &CursorKey) -> Result<Entered, GroupError> {
    match joined.outcome {
        JoinOutcome::New | JoinOutcome::Again | JoinOutcome::TakenOver => {}
        JoinOutcome::Stale => return Err(GroupError::Stale { generation: joined.generation }),
        JoinOutcome::Different => return Err(GroupError::Different),
        JoinOutcome::Full => return Err(GroupError::Full),
    }
    let holdings = joined.check.iter().flat_map(|check| &check.holdings);
    let places = holdings.zip(&joined.lows).map(|(held, low)| Place {
        partition: held.partition,
        epoch: held.epoch,
        position: held.committed.max(*low),
        is_told: false,
    });
    let (group, generation) = (joined.group, joined.generation);
    let cursor = Cursor { group, generation, turn: 0, places: places.collect() };
    let sealed = cursor.write(key, member);
    Ok(Entered { joined, cursor, sealed })
}

/// How long a poll waits that asks for `wait`, of a member that may be silent for `timeout`.
fn cut(wait: Duration, timeout: Duration) -> Duration {
    wait.min(timeout / 3)
}
