//! What `replicated` rests on: a session that can say whether a synchronous standby holds what
//! was committed, and the confirmation of what others committed.

use std::{
    pin::pin,
    sync::{Mutex, PoisonError},
};

use tokio::{
    sync::{oneshot, watch},
    time::{Duration, sleep, timeout},
};
use tracing::warn;

use super::Log;
use crate::{
    model::limits,
    store::{
        Database, Incarnation, Session, StoreError,
        replication::{self, Backend, Standbys, Warnings},
    },
};

/// How often a confirmation begins anew because settings changed meanwhile.
const TRIES: usize = 3;
/// When an answer has not come for this long, a session is given up, unless it is known to wait
/// for a standby. Whoever waits has been told long before; a commit is never cancelled.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Why something cannot be called replicated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicationError {
    /// The server names no synchronous standby: nothing can be.
    #[error("the database has no synchronous standby")]
    NoStandby,
    /// The database cannot be reached: nothing was asked.
    #[error("the database cannot be reached")]
    Unreachable,
    /// More is waiting for a confirmation than the node takes on.
    #[error("too many confirmations are waiting")]
    Overloaded,
    /// No standby confirmed it in time; it may hold it all the same.
    #[error("no synchronous standby confirmed it in time")]
    Unconfirmed,
}

/// The witness of one session.
#[derive(Debug)]
pub(super) struct Witness {
    warnings: Warnings,
    standbys: Standbys,
    backend: Backend,
}

impl Witness {
    pub(super) async fn of(session: &mut Session) -> Result<Self, StoreError> {
        let backend = replication::backend(session).await?;
        let standbys = replication::standbys(session).await?;
        Ok(Self { warnings: Warnings::new(), standbys, backend })
    }

    /// Looks again whether commits wait for a standby.
    pub(super) async fn look(&mut self, session: &mut Session) -> Result<bool, StoreError> {
        self.standbys = replication::standbys(session).await?;
        Ok(self.standbys.are_named)
    }

    pub(super) fn has_standbys(&self) -> bool {
        self.standbys.are_named
    }

    pub(super) fn backend(&self) -> Backend {
        self.backend
    }

    /// Runs a statement that commits; says whether a warning came with its answer.
    pub(super) async fn during<T>(&self, statement: impl Future<Output = T>) -> (T, bool) {
        self.warnings.during(statement).await
    }

    /// Whether a standby holds what the session has just committed, which had to wait for it.
    pub(super) async fn vouches(
        &mut self,
        session: &mut Session,
        warned: bool,
    ) -> Result<bool, StoreError> {
        let before = self.standbys;
        self.standbys = replication::standbys(session).await?;
        if before.are_named && !warned && self.standbys == before {
            return Ok(true);
        }
        // The wait may have been cut short: another one covers the same WAL.
        self.confirm(session).await
    }

    /// Whether a standby holds everything that was committed before this call.
    async fn confirm(&mut self, session: &mut Session) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            if !self.look(session).await? {
                return Ok(false);
            }
            let before = self.standbys;
            let (done, warned) = self.during(replication::commit_alone(session)).await;
            done?;
            if self.look(session).await? && !warned && self.standbys == before {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Waits for the answer of a statement that may have to wait for a standby, for as long as its
/// session waits; not when the log has another incarnation, since the server may be gone without
/// a word. Without a `backend`, silence is not waited for.
pub(super) async fn answer<T>(
    statement: impl Future<Output = Result<T, StoreError>>,
    database: &Database,
    mut incarnations: watch::Receiver<Option<Incarnation>>,
    backend: Option<Backend>,
) -> Result<T, StoreError> {
    let mut statement = pin!(statement);
    loop {
        tokio::select! {
            biased;
            answer = &mut statement => return answer,
            _ = incarnations.changed() => {
                return Err(StoreError::Lost("the log has another incarnation".to_owned()));
            }
            () = sleep(SILENCE_MAX) => {}
        }
        let waits = match backend {
            // Given up, it would go on waiting in the server: another one each minute.
            Some(backend) => is_busy(database, backend).await.unwrap_or(true),
            None => false,
        };
        if !waits {
            return Err(StoreError::Lost("no answer".to_owned()));
        }
    }
}

async fn is_busy(database: &Database, backend: Backend) -> Result<bool, StoreError> {
    replication::is_busy(&mut *database.acquire().await?, backend).await
}

/// Connects; the receiver has then seen the incarnation of the session's server.
pub(super) async fn connect(
    database: &Database,
    role: &str,
    incarnations: &mut watch::Receiver<Option<Incarnation>>,
) -> Result<(Session, Option<Incarnation>), StoreError> {
    for _ in 0..TRIES {
        let incarnation = *incarnations.borrow_and_update();
        let session = database.connect(role).await?;
        // It is noted before the session is handed out.
        if !incarnations.has_changed().unwrap_or(false) {
            return Ok((session, incarnation));
        }
    }
    Err(StoreError::Unreachable("the primary keeps changing".to_owned()))
}

/// The session of confirmations.
struct Confirming {
    session: Session,
    witness: Witness,
    incarnations: watch::Receiver<Option<Incarnation>>,
}

impl Confirming {
    async fn begin(database: &Database) -> Result<Self, StoreError> {
        let mut incarnations = database.incarnations();
        let (mut session, _) = connect(database, "confirm", &mut incarnations).await?;
        let witness = Witness::of(&mut session).await?;
        Ok(Self { session, witness, incarnations })
    }
}

type Confirmed = Result<(), ReplicationError>;

/// Those who wait for a confirmation. One is under way at a time and covers all who came before
/// it began; so one session at the most waits for a standby here.
#[derive(Debug, Default)]
pub(super) struct Confirmations(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    is_running: bool,
    asked: Vec<oneshot::Sender<Confirmed>>,
}

impl Confirmations {
    /// Joins; true when somebody has to begin.
    fn join(&self) -> Result<(oneshot::Receiver<Confirmed>, bool), ReplicationError> {
        let (told, heard) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.asked.len() >= limits::CONFIRMATIONS_MAX {
            waiting.asked.retain(|asked| !asked.is_closed());
        }
        if waiting.asked.len() >= limits::CONFIRMATIONS_MAX {
            return Err(ReplicationError::Overloaded);
        }
        waiting.asked.push(told);
        Ok((heard, !std::mem::replace(&mut waiting.is_running, true)))
    }

    /// All who came until now; none ends the run.
    fn take(&self) -> Vec<oneshot::Sender<Confirmed>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = std::mem::take(&mut waiting.asked);
        waiting.is_running = !asked.is_empty();
        asked
    }
}

impl Log {
    /// Waits until a synchronous standby holds everything that was committed before this call,
    /// by whatever session, at most [`limits::PUBLISH_WAIT_MAX`]. What was answered without being
    /// appended again (a producer's mark that stood already) is covered by it.
    pub async fn confirm_replicated(&self) -> Result<(), ReplicationError> {
        let (heard, begins) = self.shared.confirmations.join()?;
        if begins {
            self.shared.lifecycle.spawn(self.clone().confirm_all());
        }
        match timeout(limits::PUBLISH_WAIT_MAX, heard).await {
            Ok(Ok(confirmed)) => confirmed,
            Ok(Err(_)) | Err(_) => Err(ReplicationError::Unconfirmed),
        }
    }

    /// Whether the server names synchronous standbys at the moment.
    pub async fn has_standbys(&self) -> Result<bool, StoreError> {
        let mut session = self.shared.database.acquire().await?;
        Ok(replication::standbys(&mut session).await?.are_named)
    }

    async fn confirm_all(self) {
        let mut session = None;
        loop {
            let asked = self.shared.confirmations.take();
            if asked.is_empty() {
                return;
            }
            let confirmed = self.confirm_once(&mut session).await;
            if let Err(error) = &confirmed {
                warn!(requests = asked.len(), %error, "a confirmation failed");
            }
            for asked in asked {
                // Whoever asked may have gone.
                let _ = asked.send(confirmed.clone());
            }
        }
    }

    async fn confirm_once(&self, open: &mut Option<Confirming>) -> Confirmed {
        let database = &self.shared.database;
        if open.as_ref().is_some_and(|open| open.incarnations.has_changed().unwrap_or(false)) {
            *open = None;
        }
        if open.is_none() {
            let begun = Confirming::begin(database).await;
            *open = Some(begun.map_err(|_| ReplicationError::Unreachable)?);
        }
        let Some(Confirming { session, witness, incarnations }) = open else {
            return Err(ReplicationError::Unreachable);
        };
        let backend = witness.backend();
        let confirming = witness.confirm(session);
        let confirmed = answer(confirming, database, incarnations.clone(), Some(backend)).await;
        match confirmed {
            Ok(true) => Ok(()),
            Ok(false) if !witness.has_standbys() => Err(ReplicationError::NoStandby),
            Ok(false) => Err(ReplicationError::Unconfirmed),
            Err(error) => {
                warn!(%error, "a confirmation was not answered");
                *open = None;
                Err(ReplicationError::Unconfirmed)
            }
        }
    }
}
