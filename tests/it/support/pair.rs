//! A primary and its synchronous standby, real servers that a test may stop, kill and promote.
//! Their two addresses stay the same through any number of promotions.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use postrider::store::connect::Target;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::{eventually, server::run};

const SETTINGS: &str = "
listen_addresses = ''
max_connections = 100
shared_buffers = 64MB
synchronous_standby_names = '*'
# A standby that was away comes back at once.
wal_retrieve_retry_interval = 100ms
hot_standby_feedback = off
";

/// The folder of the machine's own PostgreSQL, with all its tools.
fn programs() -> PathBuf {
    let found = ["18", "17", "16", "15"]
        .map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")))
        .into_iter()
        .find(|dir| dir.join("pg_basebackup").exists());
    found.expect("PostgreSQL with its tools is installed")
}

/// Whose the servers are: PostgreSQL refuses to run as root.
fn owner() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").expect("procfs").uid() != 0 {
        return None;
    }
    let number = |flag: &str| {
        let id = Command::new("id").args([flag, "postgres"]).output().expect("id");
        String::from_utf8_lossy(&id.stdout).trim().parse().expect("a user postgres")
    };
    Some((number("-u"), number("-g")))
}

/// One of the two servers.
struct Server {
    dir: PathBuf,
    child: Option<Child>,
}

impl Server {
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn host(&self) -> String {
        format!("{}:5432", self.dir.to_str().expect("UTF-8").replace('/', "%2F"))
    }

    fn url(&self) -> String {
        format!("postgres://postrider@{}/postgres?sslmode=disable", self.host())
    }

    /// The server whose folder is `dir`.
    fn at(dir: PathBuf) -> Self {
        fs::create_dir(&dir).expect("a folder");
        if let Some((user, group)) = owner() {
            chown(&dir, Some(user), Some(group)).expect("chown");
        }
        Self { dir, child: None }
    }

    fn make(&self) {
        let mut initdb = self.tool("initdb");
        initdb.args(["-U", "postrider", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]);
        assert!(initdb.arg("-D").arg(self.data()).status().expect("initdb").success());
        let conf = self.data().join("postgresql.conf");
        let text = fs::read_to_string(&conf).expect("a configuration");
        fs::write(&conf, text + SETTINGS).expect("written");
    }

    /// Makes a standby of `primary`, from nothing.
    fn copy(&self, primary: &Self) {
        let _ = fs::remove_dir_all(self.data());
        let mut copy = self.tool("pg_basebackup");
        copy.args(["-R", "-c", "fast", "--no-sync", "-U", "postrider", "-h"]);
        copy.arg(&primary.dir).arg("-D").arg(self.data());
        assert!(copy.status().expect("pg_basebackup").success(), "no copy of the primary");
    }

    fn start(&mut self) {
        let mut postgres = self.tool("postgres");
        postgres.arg("-D").arg(self.data()).arg("-k").arg(&self.dir);
        let log = fs::File::create(self.dir.join("log")).expect("a log");
        postgres.stderr(log);
        self.child = Some(postgres.spawn().expect("a process"));
    }

    async fn session(&self) -> PgConnection {
        let url = self.url();
        eventually("a session", async || Target::parse(&url).ok()?.connect("test").await.ok()).await
    }

    /// Its processes, the postmaster among them.
    fn processes(&self) -> Vec<u32> {
        let Ok(data) = self.data().canonicalize() else { return Vec::new() };
        let all = fs::read_dir("/proc").expect("procfs").filter_map(Result::ok);
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let at = |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data);
        pids.filter(at).collect()
    }

    fn signal_all(&self, what: Signal) {
        for pid in self.processes() {
            let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
            // One that has just ended is no harm.
            let _ = kill_process(pid, what);
        }
    }

    /// Ends all of it, at once.
    fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.signal_all(Signal::KILL);
        child.wait().expect("gone");
        while !self.processes().is_empty() {
            self.signal_all(Signal::KILL);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Both servers. Dropped, they are killed.
pub struct Pair {
    servers: [Server; 2],
    primary: usize,
    _dir: TempDir,
}

impl Pair {
    /// A primary and a standby that it waits for.
    pub async fn start() -> Self {
        let mode = fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("pr").permissions(mode).tempdir();
        let dir = dir.expect("a folder");
        let servers = ["a", "b"].map(|name| Server::at(dir.path().join(name)));
        let mut pair = Self { servers, primary: 0, _dir: dir };
        pair.servers[0].make();
        pair.servers[0].start();
        drop(pair.servers[0].session().await);
        pair.follow().await;
        pair
    }

    /// A URL of both, in an order that says nothing.
    pub fn url(&self) -> String {
        let [a, b] = [&self.servers[0], &self.servers[1]].map(Server::host);
        format!("postgres://postrider@{a},{b}/postgres?sslmode=disable")
    }

    /// A URL of the primary alone.
    pub fn primary_url(&self) -> String {
        self.servers[self.primary].url()
    }

    /// Makes the other server a standby of the primary and waits until commits wait for it.
    pub async fn follow(&mut self) {
        let other = 1 - self.primary;
        self.servers[other].kill();
        let [a, b] = &mut self.servers;
        let (primary, standby) = if self.primary == 0 { (a, b) } else { (b, a) };
        tokio::task::block_in_place(|| standby.copy(primary));
        standby.start();
        self.is_followed().await;
    }

    /// Waits until the primary has a synchronous standby that is up to date.
    pub async fn is_followed(&self) {
        let sql = "select count(*) from pg_stat_replication
            where sync_state in ('sync', 'quorum') and state = 'streaming'
              and flush_lsn >= pg_current_wal_flush_lsn() - 1000000";
        eventually("a synchronous standby", async || (self.number(sql).await > 0).then_some(()))
            .await;
    }

    /// A session with the primary.
    pub async fn session(&self) -> PgConnection {
        self.servers[self.primary].session().await
    }

    /// Runs statements on the primary.
    pub async fn run(&self, sql: &str) {
        let mut session = self.session().await;
        run(&mut session, sql).await;
        session.close().await.expect("closed");
    }

    /// The only value of a query on the primary.
    pub async fn number(&self, sql: &str) -> i64 {
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()));
        query.fetch_one(&mut self.session().await).await.expect("a number")
    }

    /// Sets a setting of the primary and waits until it is in force.
    pub async fn set(&self, name: &str, value: &str) {
        self.run(&format!("alter system set {name} = '{value}'")).await;
        self.run("select pg_reload_conf()").await;
        let sql = format!("select (current_setting('{name}') = '{value}')::int::bigint");
        eventually("a setting", async || (self.number(&sql).await == 1).then_some(())).await;
    }

    /// Sends every process of the standby a signal.
    pub fn signal_standby(&self, what: Signal) {
        self.servers[1 - self.primary].signal_all(what);
    }

    /// Takes the standby's way to the primary away: it runs and gets nothing more.
    pub async fn cut_standby(&self) {
        let url = self.servers[1 - self.primary].url();
        let mut standby = PgConnection::connect(&url).await.expect("a session with a standby");
        run(&mut standby, "alter system set primary_conninfo = ''").await;
        run(&mut standby, "select pg_reload_conf()").await;
        let sql = "select count(*) from pg_stat_replication";
        eventually("the standby is cut", async || (self.number(sql).await == 0).then_some(()))
            .await;
    }

    /// Shuts the standby down, in order.
    pub fn shut_standby_down(&mut self) {
        let standby = &mut self.servers[1 - self.primary];
        let mut child = standby.child.take().expect("it runs");
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a process id");
        kill_process(pid, Signal::INT).expect("signalled");
        child.wait().expect("gone");
    }

    /// Starts the standby again, where it stopped.
    pub fn start_standby(&mut self) {
        self.servers[1 - self.primary].start();
    }

    /// Sends every process of the primary a signal.
    pub fn signal_primary(&self, what: Signal) {
        self.servers[self.primary].signal_all(what);
    }

    /// Lets the processes of the server that is not the primary go on.
    pub fn wake_old_primary(&self) {
        self.servers[1 - self.primary].signal_all(Signal::CONT);
    }

    /// The only value of a query on the server that was the primary before.
    pub async fn old_number(&self, sql: &str) -> i64 {
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()));
        let mut session = self.servers[1 - self.primary].session().await;
        query.fetch_one(&mut session).await.expect("a number")
    }

    /// kill -9 of the whole primary.
    pub fn kill_primary(&mut self) {
        self.servers[self.primary].kill();
    }

    /// Promotes the standby and waits until it takes writes. What becomes of the old primary is
    /// the test's business.
    pub async fn promote(&mut self) {
        let next = 1 - self.primary;
        let mut promote = self.servers[next].tool("pg_ctl");
        promote.args(["promote", "-w", "-D"]).arg(self.servers[next].data());
        let status = tokio::task::block_in_place(|| promote.status()).expect("pg_ctl");
        assert!(status.success(), "no promotion: {}", self.log(next));
        self.primary = next;
        drop(self.session().await);
    }

    fn log(&self, server: usize) -> String {
        fs::read_to_string(Path::new(&self.servers[server].dir).join("log")).unwrap_or_default()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, server) in [("a", 0), ("b", 1)] {
                eprintln!("what server {name} said:\n{}", self.log(server));
            }
        }
        self.servers.iter_mut().for_each(Server::kill);
    }
}
