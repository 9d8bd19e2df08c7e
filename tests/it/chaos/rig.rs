//! Nodes and their PostgreSQL, all of them processes that a test may kill.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use postrider::{postgres, store::connect::Target};
use rand::{rngs::StdRng, seq::IndexedRandom};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, PgConnection};
use tempfile::TempDir;
use tokio::task::block_in_place;

use super::{
    PATIENCE,
    client::{Addresses, Client},
    wire::Request,
};
use crate::{
    history::Recorder,
    support::{OwnServer, Pair, Process, TestDatabase, within},
};

/// Where the nodes keep their messages.
enum Backing {
    /// A server of the test's own, which the test starts again when it dies.
    Own(OwnServer),
    /// A database of the test's own on a server that others use too: nothing of it may die.
    Shared(TestDatabase),
    /// The one that the only node embeds.
    Embedded(TempDir),
    /// A primary and its standby, of the test's own.
    Pair(Box<Pair>),
}

/// Nodes on one database. Dropped, all its processes are killed.
pub struct Rig {
    nodes: Vec<Option<Process>>,
    arguments: Vec<String>,
    /// Where the nodes listen now.
    pub addresses: Addresses,
    backing: Backing,
}

/// What is to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node.
    Node,
    /// A process of PostgreSQL that serves a session of a node.
    Backend,
    /// PostgreSQL's first process.
    Postmaster,
}

/// The folder of the PostgreSQL 18 that Postrider fetches.
pub async fn fetched() -> PathBuf {
    let cache = postgres::default_cache_dir(Path::new(env!("CARGO_TARGET_TMPDIR")));
    postgres::fetch(18, &cache).await.expect("PostgreSQL 18 can be fetched")
}

impl Rig {
    /// Nodes on a server that is not theirs.
    pub async fn external(count: usize) -> Self {
        Self::on(OwnServer::start().await, count).await
    }

    /// Nodes on a server of the test's own that was prepared by it.
    pub async fn on(server: OwnServer, count: usize) -> Self {
        let url = server.url().to_owned();
        Self::with(vec!["--database-url".to_owned(), url], Backing::Own(server), count).await
    }

    /// Nodes on a database of the test's own, whose server stays as it is.
    pub async fn shared(count: usize) -> Self {
        let database = TestDatabase::new().await;
        let url = database.url().to_owned();
        Self::through(database, url, count).await
    }

    /// The same, where the nodes come to the database by another URL.
    pub async fn through(database: TestDatabase, url: String, count: usize) -> Self {
        Self::with(vec!["--database-url".to_owned(), url], Backing::Shared(database), count).await
    }

    /// Nodes on a primary and its synchronous standby.
    pub async fn pair(count: usize) -> Self {
        let pair = Pair::start().await;
        let url = pair.url();
        let backing = Backing::Pair(Box::new(pair));
        Self::with(vec!["--database-url".to_owned(), url], backing, count).await
    }

    /// The primary and its standby.
    pub fn servers(&mut self) -> &mut Pair {
        match &mut self.backing {
            Backing::Pair(pair) => pair,
            _ => panic!("there is no standby"),
        }
    }

    /// A node with an embedded server, of the programs in `programs`.
    pub async fn embedded(programs: Option<PathBuf>) -> Self {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("pr").permissions(mode).tempdir();
        let dir = dir.expect("a folder");
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let mut arguments = vec!["--data-dir".to_owned(), text(dir.path())];
        if let Some(programs) = programs {
            arguments.extend(["--pg-bin-dir".to_owned(), text(&programs)]);
        }
        Self::with(arguments, Backing::Embedded(dir), 1).await
    }

    async fn with(arguments: Vec<String>, backing: Backing, count: usize) -> Self {
        let unknown = SocketAddr::from(([127, 0, 0, 1], 1));
        let addresses = Arc::new(RwLock::new(vec![unknown; count]));
        let nodes = (0..count).map(|_| None).collect();
        let mut rig = Self { nodes, arguments, addresses, backing };
        for node in 0..count {
            rig.start(node);
        }
        rig.ready().await;
        rig
    }

    fn start(&mut self, node: usize) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let process = block_in_place(|| Process::serve(&arguments));
        let address = process.url().trim_start_matches("http://").parse().expect("an address");
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        addresses[node] = address;
        self.nodes[node] = Some(process);
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Completes when every node says that it can serve.
    pub async fn ready(&self) {
        let mut client = Client::new(&self.addresses, &Recorder::new(0));
        for node in 0..self.nodes.len() {
            within(PATIENCE, "a node is ready", async || {
                let answer = client.ask(node, &Request::get("/readyz")).await;
                answer.is_ok_and(|answer| answer.status == 200).then_some(())
            })
            .await;
        }
    }

    /// A URL of the database itself, past any proxy.
    pub fn url(&self) -> String {
        match &self.backing {
            Backing::Own(server) => server.url().to_owned(),
            Backing::Shared(database) => database.url().to_owned(),
            Backing::Pair(pair) => pair.primary_url(),
            Backing::Embedded(dir) => {
                let socket = dir.path().join("socket");
                let socket = socket.to_str().expect("UTF-8").replace('/', "%2F");
                format!("postgres://postrider@{socket}:5432/postgres?sslmode=disable")
            }
        }
    }

    /// A session of the test's own, as soon as there can be one.
    pub async fn session(&self) -> PgConnection {
        let target = Target::parse(&self.url()).expect("a URL");
        within(PATIENCE, "a session", async || target.connect("test").await.ok()).await
    }

    /// Kills, sees that it died, and starts again what nobody else does.
    pub async fn inject(&mut self, fault: Fault, random: &mut StdRng) {
        match fault {
            Fault::Node => {
                let numbers: Vec<usize> = (0..self.nodes.len()).collect();
                let node = *numbers.choose(random).expect("there is a node");
                self.nodes[node].take().expect("it runs").kill();
                self.start(node);
            }
            Fault::Backend => {
                let backends: Vec<i32> = sqlx::query_scalar(
                    "select pid from pg_stat_activity where application_name like 'postrider/%'
                     and application_name <> 'postrider/test' and backend_type = 'client backend'
                     order by pid",
                )
                .fetch_all(&mut self.session().await)
                .await
                .expect("sessions");
                let backend = *backends.choose(random).expect("a node has sessions");
                self.dies(backend.cast_unsigned()).await;
            }
            Fault::Postmaster => {
                let postmaster = self.postmaster().expect("a server runs");
                self.dies(postmaster).await;
                within(PATIENCE, "another postmaster", async || {
                    self.postmaster().filter(|pid| *pid != postmaster)
                })
                .await;
            }
        }
    }

    async fn dies(&self, pid: u32) {
        assert!(self.processes().contains(&pid), "{pid} is no process of the server");
        signal(pid, Signal::KILL);
        within(PATIENCE, "a killed process is gone", async || {
            (!self.processes().contains(&pid)).then_some(())
        })
        .await;
    }

    /// Sends a node a signal.
    pub fn signal_node(&self, node: usize, what: Signal) {
        signal(self.nodes[node].as_ref().expect("it runs").pid(), what);
    }

    /// What a node said so far.
    pub fn log(&self, node: usize) -> String {
        self.nodes[node].as_ref().map(Process::log).unwrap_or_default()
    }

    /// Runs statements as the owner of everything.
    pub async fn run(&self, sql: &str) {
        let mut session = self.session().await;
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut session).await;
        done.unwrap_or_else(|why| panic!("{sql}: {why}"));
    }

    /// The only column of a query, numbers.
    pub async fn numbers(&self, sql: &str) -> Vec<i64> {
        let texts = self.texts(&format!("select x::text from ({sql}) q (x)")).await;
        texts.iter().map(|text| text.parse().expect("a number")).collect()
    }

    /// The only column of a query, texts.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        let rows = query.fetch_all(&mut self.session().await).await;
        rows.unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    fn cluster(&self) -> PathBuf {
        match &self.backing {
            Backing::Own(server) => server.cluster(),
            Backing::Shared(_) | Backing::Pair(_) => panic!("this server is no single one"),
            Backing::Embedded(dir) => dir.path().join("postgres"),
        }
    }

    fn postmaster(&self) -> Option<u32> {
        let text = fs::read_to_string(self.cluster().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// The living processes of the server.
    fn processes(&self) -> Vec<u32> {
        let Ok(cluster) = self.cluster().canonicalize() else { return Vec::new() };
        let all = fs::read_dir("/proc").expect("procfs").filter_map(Result::ok);
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == cluster)
        })
        .collect()
    }
}

fn signal(pid: u32, what: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    // One that has just ended is no harm: the caller looks.
    let _ = kill_process(pid, what);
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in 0..self.nodes.len() {
                eprintln!("what node {node} said:\n{}", self.log(node));
            }
        }
        self.nodes.clear();
        if !matches!(self.backing, Backing::Embedded(_)) {
            return;
        }
        let since = Instant::now();
        if let Some(postmaster) = self.postmaster().filter(|pid| self.processes().contains(pid)) {
            signal(postmaster, Signal::QUIT);
        }
        while !self.processes().is_empty() {
            if since.elapsed() > Duration::from_secs(10) {
                self.processes().into_iter().for_each(|pid| signal(pid, Signal::KILL));
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
