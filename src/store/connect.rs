//! Connecting to PostgreSQL. A URL may name several hosts; the one that takes writes is looked
//! for anew at every connect, since a failover moves it. sqlx knows neither several hosts nor
//! roles of servers.

mod learned;
mod url;

use std::{fmt, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use tokio::sync::watch;

use self::{learned::Learned, url::Parsed};
use super::{
    StoreError,
    incarnation::{self, Incarnation},
};
use crate::model::limits::{DATABASE_ACQUIRE_TIMEOUT, DATABASE_CONNECT_TIMEOUT};

/// How often the primary is asked whether it still takes writes, where a URL names several
/// hosts.
const STEER_INTERVAL: Duration = Duration::from_millis(500);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL cannot be read.
    #[error("the database URL is wrong: {0}")]
    InvalidUrl(String),
    /// No host of the URL let us in and takes writes.
    #[error("no database takes writes: {}", list(.0))]
    NoPrimary(Vec<Refusal>),
}

impl ConnectError {
    /// Whether waiting cannot mend it: a wrong URL, password, database name or certificate.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::InvalidUrl(_) => true,
            Self::NoPrimary(refusals) => refusals.iter().all(|refusal| refusal.is_permanent),
        }
    }
}

/// Why one host was passed over.
#[derive(Debug)]
pub struct Refusal {
    /// The host and port, or the socket.
    pub host: String,
    /// Why, for a person.
    pub why: String,
    /// Whether it will refuse again until somebody changes something.
    pub is_permanent: bool,
}

fn list(refusals: &[Refusal]) -> String {
    let all: Vec<String> =
        refusals.iter().map(|refusal| format!("{}: {}", refusal.host, refusal.why)).collect();
    all.join("; ")
}

/// What the sessions of a pool are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolUse {
    /// Single statements, each its own transaction.
    Statements,
    /// Transactions too. A session that comes back inside one is closed: sqlx 0.9 can leave it so
    /// when a `begin` is dropped. Finding out costs a round trip at each release.
    Transactions,
}

/// The database that a URL names. Clones share what was learned about its hosts.
#[derive(Clone)]
pub struct Target {
    hosts: Arc<[PgConnectOptions]>,
    patience: Duration,
    learned: Arc<Learned>,
}

/// Passwords stay out of logs.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hosts.iter().map(name_of)).finish()
    }
}

impl Target {
    /// Reads a URL: `postgres://user:password@host1:5432,host2:5433/name?sslmode=verify-full`,
    /// or one whose host is the folder of a socket, percent-encoded.
    pub fn parse(url: &str) -> Result<Self, ConnectError> {
        let Parsed { hosts, patience } = url::parse(url).map_err(ConnectError::InvalidUrl)?;
        let patience = patience.unwrap_or(DATABASE_CONNECT_TIMEOUT);
        let hosts = hosts.into_iter().map(session_options).collect();
        Ok(Self { hosts, patience, learned: Arc::default() })
    }

    /// Connects to the host that takes writes, the last one first. `role` is what the session is
    /// for, as `pg_stat_activity` shows it. Each host gets 2 s, or the URL's `connect_timeout`.
    pub async fn connect(&self, role: &str) -> Result<PgConnection, ConnectError> {
        self.find(role).await.map(|(connection, _)| connection)
    }

    async fn find(&self, role: &str) -> Result<(PgConnection, usize), ConnectError> {
        let first = self.learned.primary();
        let mut refusals = Vec::new();
        for turn in 0..self.hosts.len() {
            let index = (first + turn) % self.hosts.len();
            let options = named(&self.hosts[index], role);
            let attempt = tokio::time::timeout(self.patience, self.connect_to(&options)).await;
            let refusal = match attempt {
                Ok(Ok(connection)) => {
                    self.learned.set_primary(index);
                    return Ok((connection, index));
                }
                Ok(Err(refusal)) => refusal,
                Err(_) => Refusal {
                    host: name_of(&options),
                    why: format!("no answer within {} s", self.patience.as_secs()),
                    is_permanent: false,
                },
            };
            refusals.push(refusal);
        }
        Err(ConnectError::NoPrimary(refusals))
    }

    async fn connect_to(&self, options: &PgConnectOptions) -> Result<PgConnection, Refusal> {
        let refuse = |error: sqlx::Error| Refusal {
            host: name_of(options),
            why: error.to_string(),
            is_permanent: is_permanent(&error),
        };
        let mut session = PgConnection::connect_with(options).await.map_err(refuse)?;
        match objection(&mut session, &self.learned).await.map_err(refuse)? {
            None => Ok(session),
            Some(why) => {
                Err(Refusal { host: name_of(options), why: why.to_owned(), is_permanent: false })
            }
        }
    }

    /// The latest incarnation, as it is now.
    pub(super) fn current_incarnation(&self) -> Option<Incarnation> {
        self.learned.current()
    }

    /// The latest incarnation of the log that any session found; it changes with a failover.
    pub fn incarnation(&self) -> watch::Receiver<Option<Incarnation>> {
        self.learned.incarnation()
    }

    /// A pool of at most `max` sessions on the host that takes writes now. It does not follow a
    /// failover: [`Database`](super::Database) does.
    pub async fn pool(&self, max: u32) -> Result<PgPool, ConnectError> {
        drop(self.find("pool").await?);
        Ok(self.lazy_pool(max, PoolUse::Transactions))
    }

    /// Such a pool on the host that took writes last, or the first, without asking it yet.
    pub fn lazy_pool(&self, max: u32, usage: PoolUse) -> PgPool {
        self.pool_for("pool", max, usage)
    }

    /// Such a pool whose sessions are for `role`.
    pub(super) fn pool_for(&self, role: &str, max: u32, usage: PoolUse) -> PgPool {
        let index = self.learned.primary();
        let (learned, admitting) = (Arc::clone(&self.learned), Arc::clone(&self.learned));
        let options = PgPoolOptions::new()
            .max_connections(max)
            .acquire_timeout(DATABASE_ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .after_connect(move |session, _| {
                let learned = Arc::clone(&admitting);
                Box::pin(async move {
                    let objection = objection(session, &learned).await?;
                    objection.map_or(Ok(()), |why| Err(sqlx::Error::Configuration(why.into())))
                })
            })
            .before_acquire(move |_, facts| {
                let is_current = learned.is_current(facts.age);
                Box::pin(async move { Ok(is_current) })
            });
        let options = match usage {
            PoolUse::Statements => options,
            // A session that died with its server is found out before a change is begun on it:
            // later its outcome would have to be called unknown.
            PoolUse::Transactions => options
                .test_before_acquire(true)
                .after_release(|session, _| Box::pin(is_outside_transaction(session))),
        };
        options.connect_lazy_with(named(&self.hosts[index], role))
    }

    /// Counts how often the log moved: to another host, or to another incarnation. Pools that
    /// were made before lead to the wrong server, or have sessions that a dead one never answers.
    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.learned.moves()
    }

    /// Looks for the primary whenever the one that is known does not take writes, as long as it
    /// is polled. It holds a session of its own, and ends at once where the URL names one host.
    pub(super) async fn watch_primary(&self) {
        let mut session = None;
        while self.hosts.len() > 1 {
            if session.is_none() {
                match self.find("steer").await {
                    Ok((found, _)) => session = Some(found),
                    Err(error) => tracing::warn!(%error, "no primary"),
                }
            }
            if let Some(open) = &mut session {
                let check = tokio::time::timeout(self.patience, standby_reason(open)).await;
                if !matches!(check, Ok(Ok(None))) {
                    session = None;
                    continue;
                }
            }
            tokio::time::sleep(STEER_INTERVAL).await;
        }
    }
}

/// What every session asks for as it connects; it wins over what a role or database is set to.
fn session_options(options: PgConnectOptions) -> PgConnectOptions {
    options.disable_statement_logging().options([
        ("default_transaction_isolation", "read committed"),
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "10s"),
    ])
}

fn named(options: &PgConnectOptions, role: &str) -> PgConnectOptions {
    options.clone().application_name(&format!("postrider/{role}"))
}

fn name_of(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => format!("{}/.s.PGSQL.{}", socket.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Codes of class 28 (who you are), 3D (no such database), 42501 and 08P01 (a pooler that
/// refuses our settings) do not go away by themselves, nor do certificates.
fn is_permanent(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("28") || code.starts_with("3D") || code == "42501" || code == "08P01"
        }),
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// Why this server takes no writes, if so. From here on the session's commits wait for no standby:
/// one that is paused holds up nobody who does not ask for it.
async fn standby_reason(session: &mut PgConnection) -> Result<Option<&'static str>, sqlx::Error> {
    // Not asked for as it connects: then nobody could see what the server itself is set to.
    let sql = "select pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
        set_config('synchronous_commit', 'local', false)";
    let row = sqlx::query(sql).persistent(false).fetch_one(session).await?;
    Ok(if row.try_get(0)? {
        Some("it is a standby")
    } else if row.try_get(1)? {
        Some("it is read-only")
    } else {
        None
    })
}

/// Why a new session is of no use, if so. Notes the incarnation of the log behind it.
async fn objection(
    session: &mut PgConnection,
    learned: &Learned,
) -> Result<Option<&'static str>, sqlx::Error> {
    if let Some(why) = standby_reason(session).await? {
        return Ok(Some(why));
    }
    match incarnation::read(session).await {
        Ok(found) if learned.note(found) => Ok(None),
        Ok(_) => Ok(Some("a promotion of another server has left it behind")),
        Err(StoreError::Lost(why)) => Err(sqlx::Error::Protocol(why)),
        Err(error) => {
            tracing::debug!(%error, "the log's incarnation is not shown");
            Ok(None)
        }
    }
}

/// Whether a session that comes back may be used again. sqlx 0.9.0 forgets a transaction whose
/// `begin()` was dropped on the way; it knows what the server says of the session but tells only
/// as the outcome of a begin, so an empty one is asked for: it fails outside a transaction.
async fn is_outside_transaction(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    if session.is_in_transaction() {
        return Ok(false);
    }
    match session.begin_with("").await {
        Err(sqlx::Error::BeginFailed) => Ok(true),
        Ok(transaction) => {
            drop(transaction);
            tracing::warn!("a session came back inside a transaction and is closed");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
