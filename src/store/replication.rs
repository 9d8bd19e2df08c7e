//! What can be known of synchronous standbys. A commit of a session with `synchronous_commit =
//! on` waits until a standby has flushed it; it ends early, and looks like any other, when
//! somebody cancels the wait (with a warning) or takes the names of the standbys away (without
//! one). So warnings are noted while a statement runs, and the settings are compared afterwards.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sqlx::{PgConnection, Row};
use time::OffsetDateTime;
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber, dispatcher, instrument::WithSubscriber,
    level_filters::LevelFilter, span, subscriber::Interest,
};

use super::StoreError;

/// What the server of a session says of its synchronous standbys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standbys {
    /// Whether commits wait for any: `synchronous_standby_names` is not empty.
    pub are_named: bool,
    /// When the session last read its server's settings. Equal before and after a commit: nobody
    /// let go of those who waited in between. PostgreSQL tells its sessions before it does so.
    loaded_at: OffsetDateTime,
}

/// Reads it in a statement of its own, which first takes in settings that changed.
pub async fn standbys(conn: &mut PgConnection) -> Result<Standbys, StoreError> {
    let sql = "select current_setting('synchronous_standby_names') <> '', pg_conf_load_time()";
    let row = sqlx::query(sql).fetch_all(conn).await?;
    let row = row.first().ok_or_else(|| StoreError::Shape("no settings".to_owned()))?;
    Ok(Standbys { are_named: row.try_get(0)?, loaded_at: row.try_get(1)? })
}

/// Commits a transaction of its own that waits for the standbys, and thereby for everything that
/// was committed before it: the WAL has one order. It leaves no row behind.
pub async fn commit_alone(conn: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query(
        "select pg_logical_emit_message(set_config('synchronous_commit', 'on', true) = 'on',
           'postrider', '')",
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// One session as its server knows it.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    pid: i32,
    started_at: OffsetDateTime,
}

/// The server's process behind a session.
pub async fn backend(conn: &mut PgConnection) -> Result<Backend, StoreError> {
    let row =
        sqlx::query("select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()")
            .fetch_one(conn)
            .await?;
    Ok(Backend { pid: row.try_get(0)?, started_at: row.try_get(1)? })
}

/// Whether a session still runs a statement, asked over another one.
pub async fn is_busy(conn: &mut PgConnection, backend: Backend) -> Result<bool, StoreError> {
    let busy = sqlx::query_scalar(
        "select exists (select from pg_stat_activity
           where pid = $1 and backend_start = $2 and state = 'active')",
    );
    Ok(busy.bind(backend.pid).bind(backend.started_at).fetch_one(conn).await?)
}

/// Notes the warnings that a server sends with an answer. sqlx tells them as events only, so they
/// are caught there, whatever of them is logged.
#[derive(Debug)]
pub struct Warnings {
    events: Dispatch,
    came: Arc<AtomicBool>,
}

impl Warnings {
    /// Catches events and hands them on to where they go now.
    pub fn new() -> Self {
        let came = Arc::new(AtomicBool::new(false));
        let caught = Caught {
            onward: dispatcher::get_default(Dispatch::clone),
            level: LevelFilter::current().max(LevelFilter::WARN),
            came: Arc::clone(&came),
        };
        Self { events: Dispatch::new(caught), came }
    }

    /// Runs a statement, and says whether a warning came with its answer.
    pub async fn during<T>(&self, statement: impl Future<Output = T>) -> (T, bool) {
        self.came.store(false, Ordering::Relaxed);
        let done = statement.with_subscriber(self.events.clone()).await;
        (done, self.came.load(Ordering::Relaxed))
    }
}

impl Default for Warnings {
    fn default() -> Self {
        Self::new()
    }
}

struct Caught {
    onward: Dispatch,
    level: LevelFilter,
    came: Arc<AtomicBool>,
}

fn is_warning(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "sqlx::postgres::notice" && *metadata.level() <= Level::WARN
}

impl Subscriber for Caught {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_warning(metadata) {
            return Interest::sometimes();
        }
        self.onward.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_warning(metadata) || self.onward.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        if is_warning(event.metadata()) {
            self.came.store(true, Ordering::Relaxed);
        }
        if self.onward.enabled(event.metadata()) {
            self.onward.event(event);
        }
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.onward.new_span(span)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        self.onward.record(span, values);
    }

    fn record_follows_from(&self, span: &span::Id, follows: &span::Id) {
        self.onward.record_follows_from(span, follows);
    }

    fn enter(&self, span: &span::Id) {
        self.onward.enter(span);
    }

    fn exit(&self, span: &span::Id) {
        self.onward.exit(span);
    }

    fn clone_span(&self, id: &span::Id) -> span::Id {
        self.onward.clone_span(id)
    }

    fn try_close(&self, id: span::Id) -> bool {
        self.onward.try_close(id)
    }
}
