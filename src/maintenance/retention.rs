//! Low watermarks follow the limits of topics, and what they hide goes. Nothing is searched for:
//! a partition is looked at when its oldest message is due, when something was appended to one
//! that had none or that has a limit of bytes, and when its topic changed. Idle ones cost a timer.
//! Whoever takes the duty over looks at all partitions once, some at a time.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use tracing::debug;

use crate::{
    model::{PartitionId, limits},
    store::{
        self, Session, StoreError,
        retention::{self, Retained},
    },
};

/// Partitions of one look, which holds the catalog's lock, shared.
const LOOK_MAX: usize = 100;
/// Partitions that one step of a sweep brings in.
const SWEEP_STEP: i64 = 1_000;
/// How much of a round may go into looking; the rest is for the next one.
const LOOK_TIME: Duration = Duration::from_millis(200);
/// Rows that one round removes, in steps that keep its transactions short.
const PURGE_ROWS: i32 = 2_000;
const PURGE_STEP: i32 = 200;
/// Partitions of deleted topics that one round looks at.
const DELETED_MAX: i32 = 200;
/// Between two passes over deleted partitions.
const DELETED_EVERY: Duration = Duration::from_secs(5);
/// Wakes that were missed for whatever reason are made up for so often.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// What is known of a partition.
#[derive(Debug, Default)]
struct Watched {
    due: Option<Instant>,
    by_bytes: bool,
    is_purging: bool,
    purged_to: i64,
}

#[derive(Debug)]
pub(super) struct Retention {
    wakes: Option<HashMap<i64, i64>>,
    change: i64,
    looked_at: Instant,
    /// Behind which partition a sweep goes on; none: it is done.
    sweep: Option<i64>,
    swept_at: Instant,
    watched: HashMap<i64, Watched>,
    timers: BTreeSet<(Instant, i64)>,
    queue: VecDeque<i64>,
    queued: HashSet<i64>,
    purges: VecDeque<i64>,
    deleted: Option<i64>,
    deleted_at: Instant,
}

impl Default for Retention {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            wakes: None,
            change: 0,
            looked_at: now,
            sweep: Some(i64::MIN),
            swept_at: now,
            watched: HashMap::new(),
            timers: BTreeSet::new(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
            purges: VecDeque::new(),
            deleted: Some(0),
            deleted_at: now,
        }
    }
}

impl Retention {
    pub(super) async fn round(&mut self, session: &mut Session) -> Result<(), StoreError> {
        self.listen(session).await?;
        self.ring();
        let begun = Instant::now();
        while begun.elapsed() < LOOK_TIME {
            if self.queue.is_empty() && !self.sweep_on(session).await? {
                break;
            }
            self.look(session).await?;
        }
        self.purge(session).await?;
        self.forget_deleted(session).await
    }

    /// What was appended and changed since the last round.
    async fn listen(&mut self, session: &mut Session) -> Result<(), StoreError> {
        let now = Instant::now();
        // Wakes are kept for a while only: whoever was away longer looks everywhere.
        let was_away = now.duration_since(self.looked_at) > limits::WAKE_KEPT / 2;
        if was_away || now.duration_since(self.swept_at) > SWEEP_EVERY {
            (self.sweep, self.swept_at) = (Some(i64::MIN), now);
        }
        let Some(known) = self.wakes.as_mut().filter(|_| !was_away) else {
            self.change = store::topics::last_change(session).await?;
            self.wakes = Some(store::wakes::positions(session).await?.into_iter().collect());
            self.looked_at = now;
            return Ok(());
        };
        let pairs: Vec<(i64, i64)> = known.iter().map(|(slot, n)| (*slot, *n)).collect();
        let mut appended = HashSet::new();
        // As node 0, which is maintenance itself and hears all others.
        for wake in store::wakes::since(session, 0, &pairs).await? {
            known.insert(wake.slot, wake.n);
            appended.extend(wake.partitions.iter().map(|id| id.0));
        }
        for id in appended {
            let rests = self.watched.get(&id).is_some_and(|w| w.due.is_some() && !w.by_bytes);
            if !rests {
                self.enqueue(id);
            }
        }
        for change in store::topics::changes_since(session, self.change).await? {
            self.change = change.id;
            change.partitions.iter().for_each(|id| self.enqueue(id.0));
        }
        self.looked_at = now;
        Ok(())
    }

    fn enqueue(&mut self, id: i64) {
        if self.queued.insert(id) {
            self.queue.push_back(id);
        }
    }

    /// Queues the partitions whose time has come.
    fn ring(&mut self) {
        let now = Instant::now();
        while let Some((due, id)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, id));
            self.enqueue(id);
        }
    }

    /// Queues the next partitions of a sweep; false when there is none to be made.
    async fn sweep_on(&mut self, session: &mut Session) -> Result<bool, StoreError> {
        let Some(after) = self.sweep else { return Ok(false) };
        let ids = retention::written(session, after, SWEEP_STEP).await?;
        self.sweep = ids.last().copied();
        ids.iter().for_each(|id| self.enqueue(*id));
        Ok(!ids.is_empty())
    }

    /// Looks at the first partitions of the queue.
    async fn look(&mut self, session: &mut Session) -> Result<(), StoreError> {
        let ids: Vec<i64> = self.queue.iter().take(LOOK_MAX).copied().collect();
        let found = retention::retain(session, &ids).await?;
        self.queue.drain(..ids.len());
        let now = Instant::now();
        let mut gone: HashSet<i64> = ids.iter().copied().collect();
        for id in &ids {
            self.queued.remove(id);
        }
        for retained in found {
            gone.remove(&retained.partition.0);
            self.note(retained, now);
        }
        for id in gone {
            if let Some(due) = self.watched.remove(&id).and_then(|watched| watched.due) {
                self.timers.remove(&(due, id));
            }
        }
        Ok(())
    }

    fn note(&mut self, retained: Retained, now: Instant) {
        let id = retained.partition.0;
        let watched = self.watched.entry(id).or_default();
        if let Some(due) = watched.due.take() {
            self.timers.remove(&(due, id));
        }
        watched.due = retained.due.map(|due| now + due);
        watched.by_bytes = retained.by_bytes;
        if let Some(due) = watched.due {
            self.timers.insert((due, id));
        }
        if retained.purges && retained.low > watched.purged_to && !watched.is_purging {
            watched.is_purging = true;
            self.purges.push_back(id);
        }
    }

    /// Removes hidden rows of buckets that stay. Each partition goes on where it was left, so
    /// that rows which are dead and not vacuumed are not met again.
    async fn purge(&mut self, session: &mut Session) -> Result<(), StoreError> {
        let mut left = PURGE_ROWS;
        while left > 0 {
            let Some(id) = self.purges.front().copied() else { break };
            let from = self.watched.get(&id).map_or(0, |watched| watched.purged_to);
            let step = PURGE_STEP.min(left);
            let (removed, next) = retention::purge(session, PartitionId(id), from, step).await?;
            left -= removed.max(1);
            let is_done = removed < step;
            if let Some(watched) = self.watched.get_mut(&id) {
                watched.purged_to = watched.purged_to.max(next);
                watched.is_purging = !is_done;
            }
            self.purges.rotate_left(1);
            if is_done {
                self.purges.pop_back();
            }
        }
        Ok(())
    }

    async fn forget_deleted(&mut self, session: &mut Session) -> Result<(), StoreError> {
        if self.deleted.is_none() && self.deleted_at.elapsed() > DELETED_EVERY {
            self.deleted = Some(0);
        }
        let Some(after) = self.deleted else { return Ok(()) };
        self.deleted =
            retention::forget_deleted(session, after, DELETED_MAX, PURGE_ROWS / 2).await?;
        if self.deleted.is_none() {
            self.deleted_at = Instant::now();
            debug!(watched = self.watched.len(), "no deleted partition is left to look at");
        }
        Ok(())
    }
}
