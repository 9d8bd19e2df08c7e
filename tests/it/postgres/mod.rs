//! The embedded server, and connecting to servers of all kinds.

mod connect;
mod embedded;
mod life;
mod server;
mod tls;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use postrider::{
    lifecycle::Lifecycle,
    postgres::{self, Embedded, EmbeddedConfig, EmbeddedError},
    store::connect::Target,
};
use sqlx::{PgConnection, Row};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that the server's user can enter also when the tests run as root.
fn open_dir() -> TempDir {
    let mode = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().prefix("pr").permissions(mode).tempdir().expect("tempdir")
}

fn config(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig { data_dir: Some(dir.to_owned()), ..EmbeddedConfig::default() }
}

async fn try_start(dir: &Path) -> Result<Embedded, EmbeddedError> {
    postgres::start(&config(dir), &Lifecycle::new()).await
}

async fn start(dir: &Path) -> Embedded {
    try_start(dir).await.expect("the embedded server starts")
}

/// The folder of a PostgreSQL 18 as Postrider fetches it for machines that have none.
async fn fetched() -> PathBuf {
    let cache = postgres::default_cache_dir(Path::new(env!("CARGO_TARGET_TMPDIR")));
    postgres::fetch(18, &cache).await.expect("PostgreSQL 18 can be fetched")
}

/// A session, once a server that may be starting up gives one.
async fn connect(url: &str) -> PgConnection {
    let target = Target::parse(url).expect("a URL");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match target.connect("test").await {
            Ok(session) => return session,
            Err(error) if error.is_permanent() || Instant::now() > deadline => {
                panic!("a session: {error}")
            }
            Err(_) => {}
        }
    }
}

/// The only value of the only row, as text.
async fn ask(session: &mut PgConnection, sql: &'static str) -> String {
    let row = sqlx::query(sql).fetch_one(session).await.expect(sql);
    row.try_get::<String, _>(0).expect("text")
}

async fn run(session: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(session).await.expect(sql);
}

/// Adds to the end of a stopped server's configuration.
fn configure(dir: &Path, lines: &str) {
    let path = dir.join("postgres/postgresql.conf");
    let text = fs::read_to_string(&path).expect("a configuration");
    fs::write(&path, format!("{text}\n{lines}\n")).expect("written");
}

/// The postmaster that runs in a data directory, from its own file.
fn postmaster(dir: &Path) -> u32 {
    let text = fs::read_to_string(dir.join("postgres/postmaster.pid")).expect("a server runs");
    text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process id")
}

fn kill_9(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.expect("kill").success(), "no process {pid}");
}

/// The processes of PostgreSQL in a data directory.
fn processes(dir: &Path) -> Vec<u32> {
    let cluster = dir.join("postgres").canonicalize().expect("a cluster");
    let all = fs::read_dir("/proc").expect("procfs").filter_map(Result::ok);
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == cluster)
    })
    .collect()
}

async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A command that runs as the owner of a cluster.
fn as_owner(dir: &Path, program: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let owner = fs::metadata(dir.join("postgres")).expect("a cluster");
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    if fs::metadata("/proc/self").expect("procfs").uid() == 0 {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command
}

/// Gives a file to the owner of a cluster, closed to others.
fn give(dir: &Path, file: &Path) {
    let owner = fs::metadata(dir.join("postgres")).expect("a cluster");
    chown(file, Some(owner.uid()), Some(owner.gid())).expect("chown");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// The folder of the machine's own PostgreSQL, with all its tools.
fn machine_bin() -> PathBuf {
    let found = ["18", "17", "16", "15"]
        .map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")))
        .into_iter()
        .find(|dir| dir.join("pg_basebackup").exists());
    found.expect("PostgreSQL with its tools is installed")
}

/// A server started by hand on a cluster that Postrider made, with TCP.
struct ByHand {
    child: Child,
    port: u16,
}

impl ByHand {
    async fn start(dir: &Path, settings: &[String]) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let mut command = as_owner(dir, &machine_bin().join("postgres"));
        command.arg("-D").arg(dir.join("postgres"));
        command.args(["-c", &format!("port={port}"), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories="]);
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("postgres starts");
        eventually("a server by hand accepts connections", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self { child, port }
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-INT", &pid]).status();
        assert!(asked.is_ok() && self.child.wait().is_ok(), "a server by hand does not stop");
    }
}
