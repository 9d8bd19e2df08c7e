//! Deaths of the node, of the server and of both.

use std::{
    env, fs,
    io::{BufRead, BufReader, Lines, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use postrider::{
    lifecycle::Lifecycle,
    postgres::{self, EmbeddedError},
    store::connect::Target,
};

use super::{
    ask, config, configure, connect, eventually, kill_9, open_dir, postmaster, processes, run,
    start, try_start,
};

const DIR: &str = "POSTRIDER_TEST_DATA_DIR";

/// A node in a process of its own, for tests that kill it. It ends with its standard input.
#[tokio::test]
#[ignore = "run by other tests as a child"]
async fn a_node() {
    let Some(dir) = env::var_os(DIR) else { return };
    let server = start(Path::new(&dir)).await;
    println!("url {}", server.url());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await
        .expect("reads")
        .expect("the end of the input");
    server.stop().await;
}

/// A process that runs [`a_node`].
struct Node {
    process: Child,
    url: String,
    /// Kept open: the test in there writes its outcome.
    _output: Lines<BufReader<ChildStdout>>,
}

fn spawn_node(dir: &Path) -> Node {
    let mut process = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "postgres::life::a_node", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a node");
    let mut output = BufReader::new(process.stdout.take().expect("its output")).lines();
    let mut lines = output.by_ref().map_while(Result::ok);
    let url = lines.find_map(|line| Some(line.split_once("url ")?.1.to_owned()));
    Node { process, url: url.expect("the node starts"), _output: output }
}

impl Node {
    fn kill_9(mut self) {
        self.process.kill().expect("kill -9");
        self.process.wait().expect("gone");
    }
}

async fn remember(url: &str) {
    let mut session = connect(url).await;
    run(&mut session, "create table kept (what text); insert into kept values ('it')").await;
}

async fn recall(url: &str) {
    let mut session = connect(url).await;
    assert_eq!(ask(&mut session, "select what from kept").await, "it");
}

/// PostgreSQL's logger reads its pipe to the end, and so ends a little after the postmaster.
async fn nothing_runs(dir: &Path) {
    eventually("no process is left", async || processes(dir).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_stop_leaves_no_process() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    assert!(!processes(dir.path()).is_empty());
    server.stop().await;
    nothing_runs(dir.path()).await;
    assert!(!dir.path().join("postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn a_killed_node_s_server_is_stopped_and_started_anew() {
    let dir = open_dir();
    let node = spawn_node(dir.path());
    remember(&node.url).await;
    let left = postmaster(dir.path());
    node.kill_9();
    assert!(processes(dir.path()).contains(&left), "the server outlives its node");

    let server = start(dir.path()).await;
    assert_ne!(postmaster(dir.path()), left);
    let log = fs::read_dir(dir.path().join("postgres/log"))
        .expect("logs")
        .map(|file| fs::read_to_string(file.expect("a file").path()).expect("text"));
    assert!(log.collect::<String>().contains("received fast shutdown request"));
    assert!(server.notices().iter().any(|text| text.contains("left behind")));
    recall(server.url()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_terminal_s_interrupt_does_not_reach_the_server() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    let group = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("fields");
        fields.split(' ').nth(2).map(str::to_owned)
    };
    assert_ne!(group(postmaster(dir.path())), group(std::process::id()));
    server.stop().await;
}

#[tokio::test]
async fn a_killed_server_is_started_again_with_its_data() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    remember(server.url()).await;
    let dead = postmaster(dir.path());
    kill_9(dead);
    eventually("another server runs", async || {
        let target = Target::parse(server.url()).expect("a URL");
        let is_new = postmaster_or_none(dir.path()).is_some_and(|pid| pid != dead);
        is_new.then_some(target.connect("test").await.ok())?
    })
    .await;
    recall(server.url()).await;
    server.stop().await;
    nothing_runs(dir.path()).await;
}

/// Keeps a backend in a statement without end: such a one does not see that its postmaster died,
/// and holds the memory that the next server needs.
async fn keep_busy(url: &str, life: &Lifecycle) {
    let mut busy = connect(url).await;
    let backend: u32 = ask(&mut busy, "select pg_backend_pid()::text").await.parse().expect("pid");
    life.spawn(async move {
        let endless = "do $$ begin loop end loop; end $$";
        sqlx::raw_sql(endless).execute(&mut busy).await.expect_err("it is ended");
    });
    let state = || fs::read_to_string(format!("/proc/{backend}/stat")).unwrap_or_default();
    eventually("the backend is busy", async || state().contains(" R ").then_some(())).await;
}

#[tokio::test]
async fn a_backend_that_outlives_a_killed_server_does_not_hinder_the_next() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    remember(server.url()).await;
    keep_busy(server.url(), &Lifecycle::new()).await;
    let dead = postmaster(dir.path());
    kill_9(dead);
    eventually("another server runs", async || {
        postmaster_or_none(dir.path()).filter(|pid| *pid != dead)
    })
    .await;
    eventually("it accepts sessions", async || {
        let target = Target::parse(server.url()).expect("a URL");
        target.connect("test").await.ok()
    })
    .await;
    recall(server.url()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_backend_that_outlives_node_and_server_does_not_hinder_the_next() {
    let dir = open_dir();
    let node = spawn_node(dir.path());
    remember(&node.url).await;
    keep_busy(&node.url, &Lifecycle::new()).await;
    node.kill_9();
    kill_9(postmaster(dir.path()));
    let server = start(dir.path()).await;
    recall(server.url()).await;
    server.stop().await;
}

fn postmaster_or_none(dir: &Path) -> Option<u32> {
    let text = fs::read_to_string(dir.join("postgres/postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok()
}

#[tokio::test]
async fn after_a_kill_of_everything_the_next_start_has_the_data() {
    let dir = open_dir();
    let node = spawn_node(dir.path());
    remember(&node.url).await;
    node.kill_9();
    for pid in processes(dir.path()) {
        // A backend may have noticed its postmaster's death and be gone.
        Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill");
    }
    assert!(dir.path().join("postgres/postmaster.pid").exists());
    let server = start(dir.path()).await;
    recall(server.url()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_number_that_now_belongs_to_another_process_is_left_alone() {
    let dir = open_dir();
    start(dir.path()).await.stop().await;
    let elsewhere = open_dir();
    let other = start(elsewhere.path()).await;
    let number = postmaster(elsewhere.path());
    let cluster = dir.path().join("postgres");
    let text = format!("{number}\n{}\n1\n5432\n/x\n\n 1 1\nready   \n", cluster.display());
    fs::write(cluster.join("postmaster.pid"), &text).expect("a stale file");
    fs::create_dir(dir.path().join("socket")).expect("folder");
    fs::write(dir.path().join("socket/.s.PGSQL.5432.lock"), text).expect("a stale file");
    let server = start(dir.path()).await;
    connect(server.url()).await;
    assert_eq!(postmaster(elsewhere.path()), number, "the other server must live on");
    connect(other.url()).await;
    server.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_stop_during_the_start_ends_it() {
    let dir = open_dir();
    let node = Lifecycle::new();
    node.stop();
    let outcome = postgres::start(&config(dir.path()), &node).await;
    assert!(matches!(outcome, Err(EmbeddedError::Interrupted)), "{outcome:?}");
}

#[tokio::test]
async fn a_stop_during_initdb_does_not_hinder_the_next_start() {
    let dir = open_dir();
    let node = Lifecycle::new();
    let config = config(dir.path());
    let interrupt = eventually("initdb runs", async || {
        dir.path().join("postgres.new/base").exists().then(|| node.stop())
    });
    let (outcome, ()) = tokio::join!(postgres::start(&config, &node), interrupt);
    assert!(matches!(outcome, Err(EmbeddedError::Interrupted)), "{outcome:?}");
    let server = start(dir.path()).await;
    connect(server.url()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let dir = open_dir();
    start(dir.path()).await.stop().await;
    configure(dir.path(), "shared_buffers = lots");
    let refused = try_start(dir.path()).await.expect_err("a wrong setting").to_string();
    assert!(refused.contains("shared_buffers"), "{refused}");
    configure(dir.path(), "shared_buffers = 64MB\nrestore_command = 'false'");
    fs::write(dir.path().join("postgres/recovery.signal"), "").expect("a wish it cannot fulfil");
    fs::remove_dir_all(dir.path().join("postgres/pg_wal")).expect("its log");
    let refused = try_start(dir.path()).await.expect_err("no log").to_string();
    assert!(refused.contains("FATAL"), "{refused}");
}

#[tokio::test]
async fn a_node_that_ends_in_order_stops_its_server() {
    let dir = open_dir();
    let mut node = spawn_node(dir.path());
    connect(&node.url).await;
    drop(node.process.stdin.take());
    assert!(node.process.wait().expect("it ends").success());
    nothing_runs(dir.path()).await;
}
