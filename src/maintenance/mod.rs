//! Duties: one file each, without input, safe to repeat, never retried inside: the next round is
//! the retry. A duty for the whole database runs on the node that holds its advisory lock, over
//! a direct session, and moves on when that node goes.

mod buckets;
mod freeze;
mod node;
mod retention;
mod wakes;

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

pub use buckets::prepare as prepare_buckets;

use crate::{
    lifecycle::Lifecycle,
    log::Log,
    store::{self, Database, Session, StoreError, lock},
};

/// The duties of the whole database, by the number of their lock.
#[derive(Clone, Copy, Debug)]
enum Duty {
    Buckets = 1,
    Drops = 2,
    Wakes = 3,
    Retention = 10,
    Freeze = 11,
}

impl Duty {
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
    retention: retention::Retention,
    freeze: freeze::Freezer,
}

/// Starts every duty. They end when the node stops.
pub fn start(log: &Log, lifecycle: &Lifecycle) {
    let database = log.database();
    for duty in [Duty::Buckets, Duty::Drops, Duty::Wakes, Duty::Retention, Duty::Freeze] {
        lifecycle.spawn(keep(duty, database.clone(), lifecycle.clone()));
    }
    lifecycle.spawn(node::run(log.clone(), lifecycle.clone()));
}

/// Runs a duty whenever this node holds its lock.
async fn keep(duty: Duty, database: Database, lifecycle: Lifecycle) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held: Option<Session> = None;
    let mut memory = Memory::default();
    let mut failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = lifecycle.draining() => return,
        }
        let round = async {
            if held.is_none() {
                held = take(duty, &database).await?;
                memory = Memory::default();
            }
            let Some(session) = held.as_mut() else { return Ok(()) };
            match duty {
                Duty::Buckets => buckets::roll(session).await,
                Duty::Drops => buckets::drop_expired(session).await,
                Duty::Wakes => memory.wakes.prune(session).await,
                Duty::Retention => memory.retention.round(session).await,
                // It may last for hours, and can be ended at any moment.
                Duty::Freeze => tokio::select! {
                    done = memory.freeze.round(session) => done,
                    () = lifecycle.draining() => Ok(()),
                },
            }
        };
        let no_answer = || StoreError::Lost("no answer".to_owned());
        let done = timeout(duty.round_timeout(), round).await;
        match done.unwrap_or_else(|_| Err(no_answer())) {
            Ok(()) => failing = false,
            Err(error) => {
                if !failing {
                    warn!(?duty, %error, "a duty failed and is tried again");
                }
                failing = true;
                if error.ends_session() {
                    held = None;
                }
            }
        }
    }
}

async fn take(duty: Duty, database: &Database) -> Result<Option<Session>, StoreError> {
    let key = lock::DUTY + duty as i64;
    // Most nodes find most locks taken each time: that must not cost a new session.
    if store::lock::is_held(&mut *database.acquire().await?, key).await? {
        return Ok(None);
    }
    let mut session = database.connect("duty").await?;
    let taken = store::lock::try_session(&mut session, key).await?;
    Ok(taken.then_some(session))
}
