//! The database as the rest of the program holds it: a pool for short statements, and sessions
//! of one's own.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
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
/// A session that goes back to its pool.
pub type PooledSession = PoolConnection<Postgres>;

/// Sessions for changes of the catalog: few are made at a time, and they wait for one lock.
const CHANGE_CONNECTIONS: u32 = 2;
/// How long pools of a server that the log has left are waited for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A handle to the database. Clones share one pool. Until [`Database::prepared`] is called it
/// says that the database cannot be reached, so that nothing meets a schema in the making.
#[derive(Clone, Debug)]
pub struct Database {
    target: Target,
    connections: u32,
    pools: Arc<RwLock<Pools>>,
    is_prepared: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
struct Pools {
    statements: PgPool,
    changes: PgPool,
}

impl Pools {
    fn on(target: &Target, connections: u32) -> Self {
        Self {
            statements: target.lazy_pool(connections, PoolUse::Statements),
            changes: target.lazy_pool(CHANGE_CONNECTIONS, PoolUse::Transactions),
        }
    }

    /// Hands out no session any more, and ends those that come back.
    async fn close(&self) {
        tokio::join!(self.statements.close(), self.changes.close());
    }
}

impl Database {
    /// A handle whose pool holds at most `connections` sessions. Nothing is connected yet.
    pub fn new(target: Target, connections: u32) -> Self {
        let pools = Arc::new(RwLock::new(Pools::on(&target, connections)));
        Self { target, connections, pools, is_prepared: Arc::default() }
    }

    /// Follows the log to the host that takes writes, until the node stops.
    pub async fn steer(self, lifecycle: Lifecycle) {
        tokio::select! {
            ((), ()) = async { tokio::join!(self.target.watch_primary(), self.renew_pools()) } => {}
            () = lifecycle.draining() => {}
        }
    }

    /// New pools whenever the log has moved: sessions with a server that went without a word
    /// never come back, and would hold their places in the old ones.
    async fn renew_pools(&self) {
        let mut moves = self.target.moves();
        // The first ones were made before anything was known.
        moves.mark_changed();
        while moves.changed().await.is_ok() {
            let new = Pools::on(&self.target, self.connections);
            let old = {
                let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
                std::mem::replace(&mut *pools, new)
            };
            // Closed at once; what is still out is not waited for longer.
            let _ = timeout(CLOSE_TIMEOUT, old.close()).await;
        }
    }

    fn pools(&self) -> Pools {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).clone()
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
    pub async fn acquire(&self) -> Result<PooledSession, StoreError> {
        self.check_prepared()?;
        acquire(|| self.pools().statements).await
    }

    /// A session for a change of several statements. The work goes on in a task that is not
    /// dropped with its request.
    pub async fn acquire_for_change(&self) -> Result<PooledSession, StoreError> {
        self.check_prepared()?;
        acquire(|| self.pools().changes).await
    }

    /// A session of one's own, for flushes, duties and locks.
    pub async fn connect(&self, role: &str) -> Result<Session, StoreError> {
        self.check_prepared()?;
        match timeout(limits::DATABASE_ACQUIRE_TIMEOUT, self.target.connect(role)).await {
            Ok(session) => Ok(session?),
            Err(_) => Err(StoreError::Unreachable("connecting took too long".to_owned())),
        }
    }

    /// A pool of one session, for what can only be had from a pool. It does not follow a failover.
    pub(super) fn pool_of_one(&self, role: &str) -> Result<PgPool, StoreError> {
        self.check_prepared()?;
        Ok(self.target.pool_for(role, 1, PoolUse::Statements))
    }

    /// The log's incarnation as the sessions of this node last found it: nothing until one was
    /// had. What was learned of the log under another one may be true no more.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.target.current_incarnation()
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
        self.pools().close().await;
    }
}

async fn acquire(pool: impl Fn() -> PgPool) -> Result<PooledSession, StoreError> {
    match pool().acquire().await {
        // The log has moved, and there is another one.
        Err(sqlx::Error::PoolClosed) => pool().acquire().await,
        acquired => acquired,
    }
    .map_err(|error| StoreError::Unreachable(error.to_string()))
}

impl From<ConnectError> for StoreError {
    fn from(error: ConnectError) -> Self {
        Self::Unreachable(error.to_string())
    }
}
