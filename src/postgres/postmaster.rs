//! The server's process: start until it answers, watch, start again when it dies, stop.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::{net::UnixStream, process::Child, time};

use super::{
    account::Account,
    binaries::Binaries,
    cluster::Cluster,
    error::{EmbeddedError, Tried},
    place::{self, Lock},
    process,
};
use crate::lifecycle::Lifecycle;

/// Replaying gigabytes of WAL after a crash takes minutes.
const START_TIMEOUT: Duration = Duration::from_secs(600);
const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(30);
const QUICK_STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// After so many failed starts, backends of the dead postmaster that still run are ended: a long
/// statement does not notice that its postmaster died, and holds the shared memory.
const PATIENT_STARTS: u32 = 4;
const LAST_WORDS_BYTES: u64 = 2_000;

/// All that a start needs, and the lock that says nobody else may.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) binaries: Binaries,
    pub(super) account: Account,
    pub(super) cluster: Cluster,
    pub(super) socket_dir: PathBuf,
    /// Where the server writes until its own log is open.
    pub(super) start_log: PathBuf,
    pub(super) lock: Lock,
}

/// A running server. Dropped without a stop, it is asked to shut down and not waited for.
#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
    has_exited: bool,
}

impl Recipe {
    /// Starts the server and waits until it accepts connections.
    pub(super) async fn start(&self) -> Result<Postmaster, EmbeddedError> {
        let socket = place::socket_path(&self.socket_dir);
        remove_stale(&socket)?;
        let log = File::create(&self.start_log);
        let log = log.tried(|| format!("write {}", self.start_log.display()))?;
        let twin = log.try_clone().tried(|| "copy a file handle".to_owned())?;
        let mut command = self.account.command(self.binaries.program("postgres"));
        command.arg("-D").arg(&self.cluster.dir).kill_on_drop(false);
        command.stdout(Stdio::from(log)).stderr(Stdio::from(twin));
        // Ctrl-C at a terminal goes to the whole foreground group: in a group of its own the
        // server lives until the node has finished and stops it.
        command.process_group(0);
        let child = command.spawn().tried(|| "start postgres".to_owned())?;
        let mut postmaster = Postmaster { child, has_exited: false };
        postmaster.accepts(self, &socket).await?;
        Ok(postmaster)
    }

    /// Keeps the server running until `life` says stop. `node` cuts the stop short.
    pub(super) async fn keep_running(
        self,
        mut postmaster: Postmaster,
        life: Lifecycle,
        node: Lifecycle,
    ) {
        loop {
            tokio::select! {
                status = postmaster.exit() => {
                    tracing::error!(status, "PostgreSQL died; starting it again");
                }
                () = life.draining() => {
                    postmaster.shut_down(&node).await;
                    remove_socket_dir(&self.socket_dir);
                    drop(self.lock);
                    return;
                }
            }
            tokio::select! {
                again = self.start_again() => postmaster = again,
                () = life.draining() => return,
            }
        }
    }

    async fn start_again(&self) -> Postmaster {
        let mut backoff = BACKOFF_MIN;
        for attempt in 1_u32.. {
            match self.start().await {
                Ok(postmaster) => {
                    tracing::warn!(attempt, "PostgreSQL runs again");
                    return postmaster;
                }
                Err(error) => tracing::warn!(attempt, %error, "PostgreSQL does not start yet"),
            }
            if attempt >= PATIENT_STARTS {
                for pid in process::all_in(&self.cluster.dir) {
                    tracing::warn!(pid, "ending a backend of the dead server");
                    process::signal(pid, Signal::QUIT);
                }
            }
            time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        unreachable!("the attempts do not end")
    }

    /// The end of what the server wrote before and after its own log was open.
    fn last_words(&self) -> String {
        let log = newest_file(&self.cluster.dir.join("log"));
        let files = [Some(self.start_log.clone()), log];
        let words = files.into_iter().flatten().filter_map(|path| tail(&path).ok());
        let words: Vec<String> = words.filter(|text| !text.is_empty()).collect();
        if words.is_empty() { "none".to_owned() } else { words.join("\n") }
    }
}

fn newest_file(dir: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(dir).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
    });
    files.max().map(|(_, path)| path)
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(LAST_WORDS_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

impl Postmaster {
    async fn accepts(&mut self, recipe: &Recipe, socket: &Path) -> Result<(), EmbeddedError> {
        let since = Instant::now();
        while since.elapsed() < START_TIMEOUT {
            tokio::select! {
                why = self.exit() => {
                    let output = recipe.last_words();
                    return Err(EmbeddedError::DidNotStart { why, output });
                }
                () = time::sleep(POLL) => {}
            }
            let file = recipe.cluster.pid_file();
            let is_ready =
                file.is_some_and(|file| file.is_ready && Some(file.pid) == self.child.id());
            if is_ready && UnixStream::connect(socket).await.is_ok() {
                return Ok(());
            }
        }
        let why = format!("not ready after {} s", START_TIMEOUT.as_secs());
        Err(EmbeddedError::DidNotStart { why, output: recipe.last_words() })
    }

    /// Waits for the process to end and says how it did.
    async fn exit(&mut self) -> String {
        let status = self.child.wait().await;
        self.has_exited = true;
        status.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id() {
            process::signal(pid, signal);
        }
    }

    /// A fast shutdown: open transactions are rolled back, a checkpoint is written. When that
    /// takes too long, or the node may wait no more, at once: the WAL has it all.
    async fn shut_down(&mut self, node: &Lifecycle) {
        self.signal(Signal::INT);
        tokio::select! {
            status = self.exit() => return tracing::info!(status, "PostgreSQL stopped"),
            () = time::sleep(FAST_STOP_TIMEOUT) => {}
            () = node.aborted() => {}
        }
        tracing::warn!("PostgreSQL is stopped at once; its next start replays the WAL");
        self.signal(Signal::QUIT);
        if time::timeout(QUICK_STOP_TIMEOUT, self.exit()).await.is_err() {
            tracing::error!(pid = self.child.id(), "PostgreSQL does not stop");
        }
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        if !self.has_exited {
            self.signal(Signal::INT);
        }
    }
}

/// A socket's lock file whose number now belongs to another process would stop the server. The
/// folder is private and the data directory locked: no server can be behind it.
fn remove_stale(socket: &Path) -> Result<(), EmbeddedError> {
    for path in [socket.to_owned(), socket.with_added_extension("lock")] {
        if path.exists() {
            fs::remove_file(&path).tried(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// A folder outside the data directory is not left behind; one that is not empty stays.
fn remove_socket_dir(dir: &Path) {
    if let Err(error) = fs::remove_dir(dir) {
        tracing::debug!(dir = %dir.display(), %error, "the socket's folder stays");
    }
}
