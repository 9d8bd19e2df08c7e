//! The database as the rest of the program holds it: a pool for short statements, and sessions
//! of one's own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::{sync::watch, time::timeout};

use super::{
    Incarnation, StoreError,
    connect::{ConnectError, PoolUse, Target},
};
use crate::{lifecycle::Lifecycle, model::limits};

/// A session with the database.
pub type Session = sqlx::PgConnection;

/// Sessions for changes of the catalog: few are made at a time, and they wait for one lock.
const CHANGE_CONNECTIONS: u32 = 2;

/// A handle to the database. Clones share one pool. Until [`Database::prepared`] is called it
/// says that the database cannot be reached, so that nothing meets a schema in the making.
#[derive(Clone, Debug)]
pub struct Database {
    target: Target,
    pool: PgPool,
    changes: PgPool,
    is_prepared: Arc<AtomicBool>,
}

impl Database {
    /// A handle whose pool holds at most `connections` sessions. Nothing is connected yet.
    pub fn new(target: Target, connections: u32) -> Self {
        let pool = target.lazy_pool(connections, PoolUse::Statements);
        let changes = target.lazy_pool(CHANGE_CONNECTIONS, PoolUse::Transactions);
        Self { target, pool, changes, is_prepared: Arc::default() }
    }

    /// Keeps the pool on the host that takes writes, until the node stops.
    pub async fn steer(self, lifecycle: Lifecycle) {
        tokio::join!(
            self.target.clone().steer(self.pool, lifecycle.clone()),
            self.target.steer(self.changes, lifecycle),
        );
    }

    /// The schema is there: sessions are handed out from now on.
    pub fn prepared(&self) {
        self.is_prepared.store(true, Ordering::Release);
    }

    fn check_prepared(&self) -> Result<(), StoreError> {
        if self.is_prepared.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(StoreError::Unreachable("the node is starting".to_owned()))
    }

    /// A session for single statements, within [`limits::DATABASE_ACQUIRE_TIMEOUT`].
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        self.check_prepared()?;
        self.pool.acquire().await.map_err(|error| StoreError::Unreachable(error.to_string()))
    }

    /// A session for a change of several statements. The work goes on in a task that is not
    /// dropped with its request.
    pub async fn acquire_for_change(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        self.check_prepared()?;
        self.changes.acquire().await.map_err(|error| StoreError::Unreachable(error.to_string()))
    }

    /// A session of one's own, for flushes, duties and locks.
    pub async fn connect(&self, role: &str) -> Result<Session, StoreError> {
        self.check_prepared()?;
        match timeout(limits::DATABASE_ACQUIRE_TIMEOUT, self.target.connect(role)).await {
            Ok(session) => Ok(session?),
            Err(_) => Err(StoreError::Unreachable("connecting took too long".to_owned())),
        }
    }

    /// The log's incarnation as the sessions of this node last found it: nothing until one was
    /// had. What was learned of the log under another one may be true no more.
    pub fn incarnation(&self) -> Option<Incarnation> {
        *self.target.incarnation().borrow()
    }

    /// Tells when the incarnation changes. It is noted before the first session of the new one is
    /// handed to anybody.
    pub fn incarnations(&self) -> watch::Receiver<Option<Incarnation>> {
        self.target.incarnation()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut session = self.acquire().await?;
        sqlx::query("select 1").execute(&mut *session).await?;
        Ok(())
    }

    /// Ends all sessions of the pool.
    pub async fn close(&self) {
        self.pool.close().await;
        self.changes.close().await;
    }
}

impl From<ConnectError> for StoreError {
    fn from(error: ConnectError) -> Self {
        Self::Unreachable(error.to_string())
    }
}
