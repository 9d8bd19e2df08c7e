//! Duties: one file each, without input, safe to repeat, never retried inside: the next round is
//! the retry. A duty for the whole database runs on the node that holds its advisory lock, over
//! a direct session, and moves on when that node goes.

mod buckets;
mod claims;
mod freeze;
mod group_offsets;
mod node;
mod outbox;
mod retention;
mod wakes;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::warn;

pub use buckets::prepare as prepare_buckets;

use crate::{
    lifecycle::Lifecycle,
    log::Log,
    store::{self, Database, Session, StoreError, lock},
};

/// The duties of the whole database.
#[derive(Clone, Copy, Debug)]
enum Duty {
    Buckets,
    Drops,
    Wakes,
    Claims,
    GroupOffsets,
    Retention,
    Freeze,
    /// One for each shard.
    Outbox(i16),
}

impl Duty {
    /// The number of its lock.
    fn number(self) -> i64 {
        match self {
            Self::Buckets => 1,
            Self::Drops => 2,
            Self::Wakes => 3,
            Self::Claims => 4,
            Self::GroupOffsets => 8,
            Self::Retention => 10,
            Self::Freeze => 11,
            Self::Outbox(shard) => 20 + i64::from(shard),
        }
    }

    /// Between two rounds. Readers wait for what SQL publishers left.
    fn interval(self) -> Duration {
        match self {
            Self::Outbox(_) => Duration::from_millis(50),
            _ => Duration::from_secs(1),
        }
    }

    /// How long a round may take. A detach waits for readers of the parent at most as long as its
    /// lock timeout, and a large table is frozen slowly; beyond this the database has gone away
    /// without a word.
    fn round_timeout(self) -> Duration {
        match self {
            Self::Freeze => Duration::from_secs(24 * 3_600),
            _ => Duration::from_secs(120),
        }
    }
}

/// What duties remember between two rounds, for as long as the node holds their lock.
#[derive(Debug, Default)]
struct Memory {
    wakes: wakes::Pruner,
    claims: claims::Pruner,
    group_offsets: group_offsets::Pruner,
    retention: retention::Retention,
    freeze: freeze::Freezer,
    outbox: outbox::Drainer,
}

/// Between two tries to get a duty that another node has.
const TAKE_EVERY: Duration = Duration::from_millis(900);

/// Starts every duty. They end when the node stops.
pub fn start(log: &Log, lifecycle: &Lifecycle) {
    let turn = Arc::new(Semaphore::new(1));
    let shards = (0..store::outbox::SHARDS).map(Duty::Outbox);
    let duties = [
        Duty::Buckets,
        Duty::Drops,
        Duty::Wakes,
        Duty::Claims,
        Duty::GroupOffsets,
        Duty::Retention,
        Duty::Freeze,
    ];
    for duty in duties.into_iter().chain(shards) {
        lifecycle.spawn(keep(duty, log.clone(), lifecycle.clone(), Arc::clone(&turn)));
    }
    lifecycle.spawn(node::run(log.clone(), lifecycle.clone()));
}

/// Runs a duty whenever this node holds its lock.
async fn keep(duty: Duty, log: Log, lifecycle: Lifecycle, turn: Arc<Semaphore>) {
    let mut ticks = interval(duty.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held: Option<Session> = None;
    let mut memory = Memory::default();
    let mut tried_at = None;
    let mut failing = false;
    let mut incarnations = log.database().incarnations();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = lifecycle.draining() => return,
        }
        // The session may still be with a server that a promotion left behind.
        if incarnations.has_changed().unwrap_or(false) {
            incarnations.mark_unchanged();
            (held, memory) = (None, Memory::default());
        }
        let round = async {
            if held.is_none() {
                if tried_at.is_some_and(|at: Instant| at.elapsed() < TAKE_EVERY) {
                    return Ok(());
                }
                tried_at = Some(Instant::now());
                held = take(duty, log.database(), &turn).await?;
                memory = Memory::default();
            }
            let Some(session) = held.as_mut() else { return Ok(()) };
            match duty {
                Duty::Buckets => buckets::roll(session).await,
                Duty::Drops => buckets::drop_expired(session).await,
                Duty::Wakes => memory.wakes.prune(session).await,
                Duty::Claims => memory.claims.prune(session).await,
                Duty::GroupOffsets => memory.group_offsets.prune(session).await,
                Duty::Retention => memory.retention.round(session).await,
                Duty::Outbox(shard) => memory.outbox.round(session, &log, shard).await,
                // It may last for hours, and can be ended at any moment.
                Duty::Freeze => tokio::select! {
                    done = memory.freeze.round(session) => done,
                    () = lifecycle.draining() => Ok(()),
                },
            }
        };
        let no_answer = || StoreError::Lost("no answer".to_owned());
        let answered = async {
            tokio::select! {
                answer = timeout(duty.round_timeout(), round) => answer.ok(),
                _ = incarnations.changed() => None,
            }
        };
        match answered.await.unwrap_or_else(|| Err(no_answer())) {
            Ok(()) => failing = false,
            Err(error) => {
                if !failing {
                    warn!(?duty, %error, "a duty failed and is tried again");
                }
                failing = true;
                if error.ends_session() {
                    (held, memory) = (None, Memory::default());
                }
            }
        }
    }
}

async fn take(
    duty: Duty,
    database: &Database,
    turn: &Semaphore,
) -> Result<Option<Session>, StoreError> {
    // One at a time: a node that starts would else open as many sessions at once as it has
    // duties, and connecting is what a busy server is slowest at.
    let _turn = turn.acquire().await;
    let key = lock::DUTY + duty.number();
    // Most nodes find most locks taken each time: that must not cost a new session.
    if store::lock::is_held(&mut *database.acquire().await?, key).await? {
        return Ok(None);
    }
    let mut session = database.connect("duty").await?;
    let taken = store::lock::try_session(&mut session, key).await?;
    Ok(taken.then_some(session))
}
