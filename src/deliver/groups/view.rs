//! What a node knows of the groups that are polled here. A view may be stale for as long as other
//! nodes' changes take to be seen; nothing is delivered by it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{GroupError, Groups, unlocked};
use crate::{
    log::News,
    model::{GroupId, PartitionId, limits},
    store::{self, StoreError},
};

/// A view that was not compared with the database for longer is read again by whoever needs it.
const FRESH: Duration = Duration::from_secs(2);
/// How long a look at the versions may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);
/// Looks between two at what nobody polls any more.
const FORGET_EVERY: u32 = 240;

/// Polls that ever came to this node.
static ENTERED: AtomicU64 = AtomicU64::new(0);

/// A partition of a member, as a view has it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) partition: PartitionId,
    pub(super) topic: Arc<str>,
    pub(super) index: u32,
    pub(super) epoch: i64,
    /// Until when the member is to give it up; none when it keeps it.
    pub(super) revoke: Option<Instant>,
}

/// A member, as a view has it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) number: i64,
    pub(super) generation: i64,
    pub(super) session_timeout: Duration,
    pub(super) held: Vec<Held>,
}

/// A group at one moment.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) version: i64,
    pub(super) is_paused: bool,
    pub(super) members: HashMap<String, Member>,
}

impl View {
    fn new(rows: store::groups::View) -> Self {
        let now = Instant::now();
        let mut members: HashMap<String, Member> = HashMap::with_capacity(rows.members.len());
        for row in rows.members {
            let (number, generation) = (row.number, row.generation);
            let session_timeout = row.session_timeout;
            let member = Member { number, generation, session_timeout, held: Vec::new() };
            members.insert(row.member, member);
        }
        let mut topic: Arc<str> = Arc::from("");
        for row in rows.assignments {
            if *topic != *row.topic {
                topic = Arc::from(row.topic);
            }
            if let Some(member) = members.get_mut(&row.member) {
                member.held.push(Held {
                    partition: row.partition,
                    topic: Arc::clone(&topic),
                    index: row.index,
                    epoch: row.epoch,
                    revoke: row.revoke.map(|left| now + left),
                });
            }
        }
        Self { version: rows.version, is_paused: rows.is_paused, members }
    }
}

/// A group that is polled here.
#[derive(Debug)]
pub(super) struct Watched {
    state: Mutex<State>,
    /// Rises with everything that those who wait should look at.
    changes: watch::Sender<u64>,
    /// One loads the view, the others wait for it.
    loading: Turn<()>,
    polls: Mutex<HashMap<String, (u64, CancellationToken)>>,
    used: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    view: Option<Arc<View>>,
    /// The version of the last view, kept when that does not count any more: those who wait are
    /// woken when the group's is another.
    version: Option<i64>,
    /// When a look at the database began that found it as it is.
    seen: Option<Instant>,
    /// How often it was invalidated: what was read before does not count after.
    changes: u64,
}

impl Watched {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            loading: Turn::default(),
            polls: Mutex::default(),
            used: AtomicBool::new(true),
        }
    }

    /// What is known does not count any more.
    pub(super) fn invalidate(&self) {
        let mut state = unlocked(&self.state);
        state.view = None;
        state.changes += 1;
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// What is known does not count any more for whoever asks; nobody is told.
    pub(super) fn forget(&self) {
        let mut state = unlocked(&self.state);
        state.view = None;
        state.changes += 1;
    }

    /// Told of every change from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn fresh(&self) -> Option<Arc<View>> {
        let state = unlocked(&self.state);
        let is_fresh = state.seen.is_some_and(|seen| seen.elapsed() < FRESH);
        state.view.clone().filter(|_| is_fresh)
    }

    /// Enters a poll of a member; one that waits is told that it is over.
    pub(super) fn enter(self: &Arc<Self>, member: &str) -> Turnstile {
        let token = CancellationToken::new();
        let number = ENTERED.fetch_add(1, Ordering::Relaxed);
        let mut polls = unlocked(&self.polls);
        let before = polls.insert(member.to_owned(), (number, token.clone()));
        if let Some((_, before)) = before {
            before.cancel();
        }
        Turnstile { watched: Arc::clone(self), member: member.to_owned(), number, token }
    }
}

/// One poll of one member on this node, as long as it lives.
#[derive(Debug)]
pub(super) struct Turnstile {
    watched: Arc<Watched>,
    member: String,
    number: u64,
    token: CancellationToken,
}

impl Turnstile {
    /// Completes when another poll of the member has come.
    pub(super) async fn superseded(&self) {
        self.token.cancelled().await;
    }

    /// Whether another poll of the member has come.
    pub(super) fn is_superseded(&self) -> bool {
        self.token.is_cancelled()
    }
}

impl Drop for Turnstile {
    fn drop(&mut self) {
        let mut polls = unlocked(&self.watched.polls);
        if polls.get(&self.member).is_some_and(|(number, _)| *number == self.number) {
            polls.remove(&self.member);
        }
    }
}

impl Groups {
    /// What this node knows of a group, from now on kept while anybody polls.
    pub(super) fn watched(&self, group: GroupId) -> Arc<Watched> {
        let mut watched = unlocked(&self.shared.watched);
        let found = watched.entry(group).or_insert_with(|| Arc::new(Watched::new()));
        found.used.store(true, Ordering::Relaxed);
        Arc::clone(found)
    }

    /// A group as it was at most a moment ago.
    pub(super) async fn view(
        &self,
        group: GroupId,
        watched: &Arc<Watched>,
    ) -> Result<Arc<View>, GroupError> {
        if let Some(view) = watched.fresh() {
            return Ok(view);
        }
        let _turn = watched.loading.lock().await;
        if let Some(view) = watched.fresh() {
            return Ok(view);
        }
        let (groups, kept) = (self.clone(), Arc::clone(watched));
        self.detached(async move {
            let changes = unlocked(&kept.state).changes;
            let seen = Instant::now();
            let mut session = groups.shared.database.acquire().await?;
            let rows = store::groups::view(&mut session, group).await;
            let view = Arc::new(View::new(rows?.ok_or(GroupError::NoGroup)?));
            let mut state = unlocked(&kept.state);
            if state.changes == changes {
                state.version = Some(view.version);
                state.view = Some(Arc::clone(&view));
                state.seen = Some(seen);
            }
            Ok(view)
        })
        .await
    }

    /// Compares what is known with the database until the node stops.
    pub(super) async fn follow_versions(&self) {
        let mut ticks = interval(limits::WAKE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut failing, mut round, mut log) = (false, 0_u32, None);
        let mut began = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.shared.log.told(News::Groups, began) => {}
                () = self.shared.lifecycle.draining() => return,
            }
            round = round.wrapping_add(1);
            if round.is_multiple_of(FORGET_EVERY) {
                self.forget_idle();
            }
            began = Instant::now();
            let looked = timeout(LOOK_TIMEOUT, self.look(&mut log)).await;
            match looked.unwrap_or_else(|_| Err(StoreError::Lost("no answer".to_owned()))) {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        warn!(%error, "changes of groups cannot be read");
                    }
                    failing = true;
                }
            }
        }
    }

    async fn look(&self, log: &mut Option<String>) -> Result<(), StoreError> {
        let all: Vec<(GroupId, Arc<Watched>)> = unlocked(&self.shared.watched)
            .iter()
            .map(|(group, watched)| (*group, Arc::clone(watched)))
            .collect();
        if all.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let version =
            |watched: &Watched| unlocked(&watched.state).view.as_ref().map(|view| view.version);
        let known: HashMap<GroupId, i64> =
            all.iter().filter_map(|(group, at)| Some((*group, version(at)?))).collect();
        let mut session = self.shared.database.acquire().await?;
        let pairs = known.iter().map(|(group, version)| (*group, *version));
        let looked = store::groups::versions(&mut session, pairs).await?;
        let is_new = log.as_ref().is_some_and(|log| *log != looked.log_incarnation);
        for (group, watched) in &all {
            if is_new {
                store::groups::renew(&mut session, *group).await?;
                watched.invalidate();
            } else if looked.changed.contains(group) {
                watched.invalidate();
            } else if let Some(version) = known.get(group) {
                let mut state = unlocked(&watched.state);
                if state.view.as_ref().is_some_and(|view| view.version == *version) {
                    state.seen = state.seen.max(Some(began));
                }
            }
        }
        *log = Some(looked.log_incarnation);
        Ok(())
    }

    fn forget_idle(&self) {
        unlocked(&self.shared.watched).retain(|_, watched| {
            Arc::strong_count(watched) > 1 || watched.used.swap(false, Ordering::Relaxed)
        });
    }
}
