//! Duties: one file each, without input, safe to repeat, never retried inside: the next round is
//! the retry. A duty for the whole database runs on the node that holds its advisory lock, over
//! a direct session, and moves on when that node goes.

mod buckets;
mod node;
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
}

/// How long a round may take. A detach waits for readers of the parent at most as long as its
/// lock timeout; beyond this the database has gone away without a word.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts every duty. They end when the node stops.
pub fn start(log: &Log, lifecycle: &Lifecycle) {
    let database = log.database();
    for duty in [Duty::Buckets, Duty::Drops, Duty::Wakes] {
        lifecycle.spawn(keep(duty, database.clone(), lifecycle.clone()));
    }
    lifecycle.spawn(node::run(log.clone(), lifecycle.clone()));
}

/// Runs a duty whenever this node holds its lock.
async fn keep(duty: Duty, database: Database, lifecycle: Lifecycle) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held: Option<Session> = None;
    let mut state = wakes::Pruner::default();
    let mut failing = false;
    let mut incarnations = database.incarnations();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = lifecycle.draining() => return,
        }
        // The session may still be with a server that a promotion left behind.
        if incarnations.has_changed().unwrap_or(false) {
            incarnations.mark_unchanged();
            (held, state) = (None, wakes::Pruner::default());
        }
        let round = async {
            if held.is_none() {
                held = take(duty, &database).await?;
            }
            let Some(session) = held.as_mut() else { return Ok(()) };
            match duty {
                Duty::Buckets => buckets::roll(session).await,
                Duty::Drops => buckets::drop_expired(session).await,
                Duty::Wakes => state.prune(session).await,
            }
        };
        let no_answer = || StoreError::Lost("no answer".to_owned());
        let answered = async {
            tokio::select! {
                answer = timeout(ROUND_TIMEOUT, round) => answer.ok(),
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
                    (held, state) = (None, wakes::Pruner::default());
                }
            }
        }
    }
}

async fn take(duty: Duty, database: &Database) -> Result<Option<Session>, StoreError> {
    let mut session = database.connect("duty").await?;
    let taken = store::lock::try_session(&mut session, lock::DUTY + duty as i64).await?;
    Ok(taken.then_some(session))
}
