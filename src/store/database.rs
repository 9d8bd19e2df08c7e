//! The database as the rest of the program holds it: a pool for short statements, and sessions
//! of one's own.

use std::time::Duration;

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::time::timeout;

use super::{
    StoreError,
    connect::{ConnectError, Target},
};
use crate::model::limits;

/// A session with the database.
pub type Session = sqlx::PgConnection;

/// A handle to the database. Clones share one pool.
#[derive(Clone, Debug)]
pub struct Database {
    target: Target,
    pool: PgPool,
}

impl Database {
    /// A handle whose pool holds at most `connections` sessions.
    pub async fn open(target: Target, connections: u32) -> Result<Self, StoreError> {
        let pool = target.pool(connections).await?;
        Ok(Self { target, pool })
    }

    /// A session from the pool, within [`limits::DATABASE_ACQUIRE_TIMEOUT`].
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        Ok(self.pool.acquire().await?)
    }

    /// A session of one's own, for flushes, duties and locks.
    pub async fn connect(&self, role: &str) -> Result<Session, StoreError> {
        const LIMIT: Duration = limits::DATABASE_ACQUIRE_TIMEOUT;
        match timeout(LIMIT, self.target.connect(role)).await {
            Ok(session) => Ok(session?),
            Err(_) => Err(StoreError::Unreachable("connecting took too long".to_owned())),
        }
    }

    /// Ends all sessions of the pool.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl From<ConnectError> for StoreError {
    fn from(error: ConnectError) -> Self {
        Self::Unreachable(error.to_string())
    }
}
