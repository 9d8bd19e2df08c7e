//! One PostgreSQL for all tests of this folder's builds, whatever process they run in. The first
//! one that needs it starts it in a process of its own; that process stops it when nobody has
//! held the file of users for a while.

use std::{
    env,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use postrider::{
    lifecycle::Lifecycle,
    maintenance,
    postgres::{self, Embedded, EmbeddedConfig},
    store::{self, connect::Target},
};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::PATIENCE;

/// The database that every test's own is a copy of.
pub(super) const TEMPLATE: &str = "migrated";
/// How long the server waits for the next test.
const LINGER: Duration = Duration::from_secs(4);
const DIR: &str = "POSTRIDER_TEST_SERVER";

/// The shared server, from one process's point of view: it runs for as long as this lives.
pub(super) struct SharedServer {
    url: String,
    _user: File,
}

impl SharedServer {
    /// A URL of `database` on this server.
    pub(super) fn url_of(&self, database: &str) -> String {
        url_of(&self.url, database)
    }
}

/// The URL of another database on the same server.
pub(super) fn url_of(url: &str, database: &str) -> String {
    url.replace("/postgres?", &format!("/{database}?"))
}

/// Leads to the shared server, which is started where it does not run.
pub(super) fn shared() -> &'static SharedServer {
    static SHARED: Mutex<Option<&'static SharedServer>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.get_or_insert_with(|| Box::leak(Box::new(join())))
}

/// Closed to others but for passing through: the server's user must reach its folder.
fn folder() -> PathBuf {
    let place = env!("CARGO_TARGET_TMPDIR").bytes();
    let hash = place.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let folder = env::temp_dir().join(format!("pr-{:08x}", hash >> 32));
    fs::create_dir_all(&folder).expect("a temporary folder");
    fs::set_permissions(&folder, Permissions::from_mode(0o711)).expect("chmod");
    folder
}

fn open(path: &Path) -> File {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn is_locked(file: &File) -> bool {
    match file.try_lock() {
        Ok(()) => {
            file.unlock().expect("unlocked");
            false
        }
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(why)) => panic!("no lock: {why}"),
    }
}

fn join() -> SharedServer {
    let folder = folder();
    // Held while the server starts or stops.
    let turn = open(&folder.join("turn"));
    turn.lock().expect("a lock");
    let user = open(&folder.join("users"));
    user.lock_shared().expect("a lock");
    let url = folder.join("url");
    if !is_locked(&open(&folder.join("running"))) {
        let _ = fs::remove_file(&url);
        spawn(&folder);
    }
    let since = Instant::now();
    while !url.exists() {
        assert!(since.elapsed() < PATIENCE * 2, "no server: see {}/log", folder.display());
        std::thread::sleep(Duration::from_millis(10));
    }
    let url = fs::read_to_string(url).expect("the server's URL");
    SharedServer { url, _user: user }
}

/// Starts [`a_server`] in a process and a session of its own.
fn spawn(folder: &Path) {
    let log = File::create(folder.join("log")).expect("a log");
    let errors = log.try_clone().expect("a log");
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", "support::server::a_server", "--ignored", "--nocapture"]);
    command.env(DIR, folder).process_group(0);
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    let running = open(&folder.join("running"));
    let mut child = command.spawn().expect("a process");
    // It outlives this process; as long as this one lives, it is waited for.
    let waiting = std::thread::spawn(move || child.wait());
    while !is_locked(&running) {
        assert!(!waiting.is_finished(), "the server ended: see {}/log", folder.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The process that holds the shared server.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by other tests as a child"]
async fn a_server() {
    let Some(folder) = env::var_os(DIR).map(PathBuf::from) else { return };
    let running = open(&folder.join("running"));
    running.lock().expect("a lock");
    let data = folder.join("data");
    if data.exists() {
        // A run that was killed may have left a server behind; the next start stops it.
        start(&data).await.stop().await;
        fs::remove_dir_all(&data).expect("removed");
    }
    let server = start(&data).await;
    make_template(server.url()).await;
    let url = folder.join("url");
    fs::write(folder.join("url.new"), server.url()).expect("written");
    fs::rename(folder.join("url.new"), &url).expect("renamed");

    let users = open(&folder.join("users"));
    let turn = open(&folder.join("turn"));
    let mut idle_since = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if is_locked(&users) {
            idle_since = Instant::now();
        }
        if idle_since.elapsed() > LINGER && turn.try_lock().is_ok() {
            if !is_locked(&users) {
                break;
            }
            turn.unlock().expect("unlocked");
        }
    }
    fs::remove_file(&url).expect("removed");
    server.stop().await;
    fs::remove_dir_all(&data).expect("removed");
    // In this order: whoever has the turn must not take this process for one that serves.
    drop(running);
    drop(turn);
}

/// A server with room for the nodes of many tests at a time.
async fn start(data: &Path) -> Embedded {
    let config = EmbeddedConfig { data_dir: Some(data.to_owned()), ..EmbeddedConfig::default() };
    let first = postgres::start(&config, &Lifecycle::new()).await.expect("a server");
    let mut session = connect(first.url()).await;
    for setting in ["max_connections = 500", "shared_buffers = '256MB'"] {
        run(&mut session, &format!("alter system set {setting}")).await;
    }
    drop(session);
    first.stop().await;
    postgres::start(&config, &Lifecycle::new()).await.expect("a server")
}

async fn make_template(url: &str) {
    run(&mut connect(url).await, &format!("create database {TEMPLATE}")).await;
    let mut session = connect(&url_of(url, TEMPLATE)).await;
    store::migrate::run(&mut session).await.expect("migrated");
    maintenance::prepare_buckets(&mut session).await.expect("buckets");
    session.close().await.expect("closed");
}

pub(super) async fn connect(url: &str) -> PgConnection {
    Target::parse(url).expect("a URL").connect("test").await.expect("a session")
}

pub(super) async fn run(session: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(session).await;
    done.unwrap_or_else(|why| panic!("{sql}: {why}"));
}

/// A server of the test's own, to stop, starve or misconfigure.
pub struct OwnServer {
    embedded: Embedded,
    dir: TempDir,
}

impl OwnServer {
    /// Starts one in a new folder that its user can enter.
    pub async fn start() -> Self {
        let mode = Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("pr").permissions(mode).tempdir();
        Self::start_in(dir.expect("a folder")).await
    }

    /// Starts one in `dir`, whose data may be on another file system.
    pub async fn start_in(dir: TempDir) -> Self {
        let data_dir = Some(dir.path().to_owned());
        let config = EmbeddedConfig { data_dir, ..EmbeddedConfig::default() };
        let embedded = postgres::start(&config, &Lifecycle::new()).await.expect("a server");
        Self { embedded, dir }
    }

    /// A URL of its database `postgres`.
    pub fn url(&self) -> &str {
        self.embedded.url()
    }

    /// Runs a statement.
    pub async fn run(&self, sql: &str) {
        run(&mut connect(self.url()).await, sql).await;
    }

    /// Whether a query says true.
    pub async fn has(&self, sql: &str) -> bool {
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()));
        query.fetch_one(&mut connect(self.url()).await).await.expect("a boolean")
    }

    /// Waits until `setting`, such as `fsync = off`, is in force.
    pub async fn shows(&self, setting: &str) {
        let (name, value) = setting.split_once(" = ").expect("a name and a value");
        let sql = format!("select current_setting('{name}') = '{value}'");
        super::eventually(setting, async || self.has(&sql).await.then_some(())).await;
    }

    /// The folder of the cluster.
    pub fn cluster(&self) -> PathBuf {
        self.dir.path().join("postgres")
    }

    /// The processes of the server, the postmaster among them.
    pub fn processes(&self) -> Vec<u32> {
        let cluster = self.cluster().canonicalize().expect("a cluster");
        let all = fs::read_dir("/proc").expect("procfs").filter_map(Result::ok);
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == cluster)
        })
        .collect()
    }

    /// Sends a signal, such as `STOP`, to every process of the server.
    pub fn signal_all(&self, signal: &str) {
        for pid in self.processes() {
            // One that has just ended is no harm.
            let mut kill = Command::new("kill");
            kill.args([format!("-{signal}"), pid.to_string()]);
            kill.stderr(Stdio::null()).status().expect("kill");
        }
    }

    /// Stops it and gives its folder back.
    pub async fn stop(self) -> TempDir {
        self.embedded.stop().await;
        self.dir
    }
}
