//! NOTIFY and LISTEN: word between nodes that saves time and carries nothing.

use sqlx::postgres::PgListener;

use super::{Database, Session, StoreError};

const CHANNEL: &str = "postrider";

/// A session over which a node tells the others.
#[derive(Debug)]
pub struct Notifier(Session);

impl Notifier {
    /// Connects.
    pub async fn connect(database: &Database) -> Result<Self, StoreError> {
        let mut session = database.connect("notify").await?;
        // A NOTIFY is a commit, under a lock that all of them take: its way to the disk is not
        // worth waiting for.
        let sql = "select set_config('synchronous_commit', 'off', false)";
        sqlx::query(sql).persistent(false).execute(&mut session).await?;
        Ok(Self(session))
    }

    /// Tells everybody who listens.
    pub async fn notify(&mut self, word: &str) -> Result<(), StoreError> {
        let sql = "select pg_notify($1, $2)";
        sqlx::query(sql).bind(CHANNEL).bind(word).execute(&mut self.0).await?;
        Ok(())
    }
}

/// A session that hears what is told. It never reconnects: whoever listens has to know when it
/// heard nothing.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    /// Connects and listens: what is told from now on is heard.
    pub async fn connect(database: &Database) -> Result<Self, StoreError> {
        let mut listener = PgListener::connect_with(&database.pool_of_one("listen")?).await?;
        listener.eager_reconnect(false);
        listener.ignore_pool_close_event(true);
        listener.listen(CHANNEL).await?;
        Ok(Self(listener))
    }

    /// The next word. Dropped while it waits, it loses none.
    pub async fn next(&mut self) -> Result<String, StoreError> {
        match self.0.try_recv().await? {
            Some(heard) => Ok(heard.payload().to_owned()),
            None => Err(StoreError::Lost("the session ended".to_owned())),
        }
    }

    /// Asks whether the session lives: one whose server went without a word hears nothing.
    pub async fn check(&mut self) -> Result<(), StoreError> {
        sqlx::query("select 1").execute(&mut self.0).await?;
        Ok(())
    }
}
