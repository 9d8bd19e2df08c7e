//! The embedded server: finds PostgreSQL on this machine or fetches it, makes a cluster in the
//! data directory, tunes it, and runs it as a child of this process on a private Unix socket.
//!
//! The data directory holds `postgres` (the cluster), `socket`, `postrider.lock` (held while a
//! node runs) and `postmaster.log` (what the server says before its own log opens).

mod account;
mod binaries;
mod cluster;
mod error;
mod fetch;
mod memory;
mod place;
mod postmaster;
mod process;
mod tune;

use std::path::{Path, PathBuf};

use self::{
    account::Account,
    binaries::{Binaries, Search},
    cluster::{Cluster, USER},
    error::Tried,
    place::Lock,
    postmaster::Recipe,
};
pub use self::{binaries::MAJORS, error::EmbeddedError, fetch::fetch};
use crate::lifecycle::Lifecycle;

/// What a user can say about the embedded server.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedConfig {
    /// Where everything lies. `None`: `./postrider-data`, or `/var/lib/postrider` where
    /// Postrider is root and the server's user cannot enter the working directory.
    pub data_dir: Option<PathBuf>,
    /// The folder of `postgres` and `initdb`. `None`: they are looked for, else fetched.
    pub bin_dir: Option<PathBuf>,
    /// Where fetched binaries are kept. `None`: `/var/cache/postrider` for root, else
    /// `postrider` in the user's cache.
    pub cache_dir: Option<PathBuf>,
}

/// The running embedded server. It is watched and started again when it dies. Dropped without a
/// [`stop`](Self::stop), it runs until the runtime ends.
#[derive(Debug)]
pub struct Embedded {
    url: String,
    data_dir: PathBuf,
    notices: Vec<String>,
    life: Lifecycle,
}

impl Embedded {
    /// A URL of the server's socket, for [`crate::store`]. It holds no secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where everything lies, as an absolute path.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What to tell the user at the start, such as where the data went.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Stops the server: at most 30 s for a fast shutdown and 10 s for an immediate one. The
    /// lifecycle that the start was given cuts the first short when it aborts.
    pub async fn stop(self) {
        self.life.stop();
        self.life.finished().await;
    }
}

/// Starts the embedded server and waits until it accepts connections. Making a cluster takes
/// about a second, fetching the binaries a few more, replaying the WAL of a crash up to minutes.
/// A stop of `lifecycle` ends the wait.
pub async fn start(
    config: &EmbeddedConfig,
    lifecycle: &Lifecycle,
) -> Result<Embedded, EmbeddedError> {
    tokio::select! {
        outcome = prepare_and_run(config, lifecycle) => outcome,
        () = lifecycle.draining() => Err(EmbeddedError::Interrupted),
    }
}

/// Whether a data directory holds a cluster.
pub fn is_made(data_dir: &Path) -> bool {
    matches!(Cluster::of(data_dir).major(), Ok(Some(_)))
}

/// A URL of the embedded server that a node runs on this data directory at the moment.
pub fn running(data_dir: &Path) -> Option<String> {
    let data_dir = data_dir.canonicalize().ok()?;
    Cluster::of(&data_dir).running_socket().map(|socket_dir| url(&socket_dir))
}

/// Where fetched binaries are kept unless the configuration says otherwise.
pub fn default_cache_dir(data_dir: &Path) -> PathBuf {
    fetch::cache_dir(data_dir, &Account::choose())
}

async fn prepare_and_run(
    config: &EmbeddedConfig,
    node: &Lifecycle,
) -> Result<Embedded, EmbeddedError> {
    let mut notices = Vec::new();
    let cwd = std::env::current_dir().tried(|| "read the working directory".to_owned())?;
    let mut account = Account::choose();
    let wanted = place::wanted(config.data_dir.as_deref(), &cwd);
    let blocked = account.first_blocked(&wanted).await;
    let place = place::choose(wanted, config.data_dir.is_some(), blocked, account.name())?;
    notices.extend(place.notice);
    let data_dir = place::make_data_dir(&place.dir, &account)?;
    let lock = Lock::take(&data_dir)?;

    let cluster = Cluster::of(&data_dir);
    let major = cluster.major()?;
    if major.is_some() {
        account = cluster.account()?;
    }
    let binaries = find_or_fetch(config, &data_dir, &account, major, &mut notices).await?;
    if cluster.stop_leftover().await? {
        notices.push("stopped the PostgreSQL that an earlier run left behind".to_owned());
    }
    if major.is_none() {
        cluster.make(&binaries, &account).await?;
    }
    let socket_dir = place::make_socket_dir(&data_dir, &account)?;
    cluster.tune(&binaries, &account, &socket_dir).await?;
    let version = &binaries.version;
    tracing::info!(version, data_dir = %data_dir.display(), "starting PostgreSQL");

    let url = url(&socket_dir);
    let start_log = data_dir.join("postmaster.log");
    let recipe = Recipe { binaries, account, cluster, socket_dir, start_log, lock };
    let postmaster = recipe.start().await?;
    // A life of its own: the server outlives the drain of the node that it serves.
    let life = Lifecycle::new();
    life.spawn(recipe.keep_running(postmaster, life.clone(), node.clone()));
    Ok(Embedded { url, data_dir, notices, life })
}

async fn find_or_fetch(
    config: &EmbeddedConfig,
    data_dir: &Path,
    account: &Account,
    major: Option<u32>,
    notices: &mut Vec<String>,
) -> Result<Binaries, EmbeddedError> {
    if let Some(found) = Search::here(config.bin_dir.clone()).run(account, major).await? {
        return Ok(found);
    }
    let cache = config.cache_dir.clone();
    let cache = cache.unwrap_or_else(|| fetch::cache_dir(data_dir, account));
    let fetched = match fetch(major.unwrap_or(fetch::MAJOR), &cache).await {
        Ok(dir) => binaries::inspect(&dir, account).await,
        Err(why) => Err(why),
    };
    let fetched = fetched.map_err(|why| EmbeddedError::NoServer {
        wanted: major.map_or_else(|| "15 to 18".to_owned(), |major| major.to_string()),
        why,
    })?;
    let dir = fetched.dir.display();
    notices.push(format!("no PostgreSQL on this machine: using {} from {dir}", fetched.version));
    Ok(fetched)
}

/// Says everything that a variable such as `PGSSLMODE` or `PGDATABASE` could change.
fn url(socket_dir: &Path) -> String {
    let mut host = String::new();
    for byte in socket_dir.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() {
            host.push(char::from(byte));
        } else {
            host.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("postgres://{USER}@{host}:{}/postgres?sslmode=disable", place::PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_carries_any_path() {
        assert_eq!(
            url(Path::new("/tmp/a b")),
            "postgres://postrider@%2Ftmp%2Fa%20b:5432/postgres?sslmode=disable"
        );
    }
}
