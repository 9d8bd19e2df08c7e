//! Sessions, pools and the way to the primary.

use std::{path::Path, time::Duration};

use postrider::{
    lifecycle::Lifecycle,
    postgres::Embedded,
    store::{Database, connect::Target},
};
use sqlx::{Connection, Row};
use tempfile::TempDir;

use super::{as_owner, ask, connect, eventually, machine_bin, open_dir, run, start};

/// Copies a running server into another data directory, as a standby of it.
fn copy_as_standby(primary: &Embedded, to: &Path) {
    let socket = primary.data_dir().join("socket");
    std::fs::create_dir(to.join("postgres")).expect("folder");
    let owner = std::fs::metadata(primary.data_dir().join("postgres")).expect("a cluster");
    use std::os::unix::fs::MetadataExt;
    std::os::unix::fs::chown(to.join("postgres"), Some(owner.uid()), Some(owner.gid()))
        .expect("chown");
    let mut command = as_owner(primary.data_dir(), &machine_bin().join("pg_basebackup"));
    command.args(["-R", "-c", "fast", "-U", "postrider", "-h"]).arg(socket);
    command.arg("-D").arg(to.join("postgres"));
    assert!(command.status().expect("pg_basebackup").success());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(to.join("postgres"), mode).expect("mode");
}

/// A primary, its standby and a URL of both, the standby first.
async fn pair() -> (TempDir, TempDir, Embedded, Embedded, String) {
    let (a, b) = (open_dir(), open_dir());
    let primary = start(a.path()).await;
    copy_as_standby(&primary, b.path());
    let standby = start(b.path()).await;
    let url = both(&standby, &primary);
    (a, b, primary, standby, url)
}

fn host(server: &Embedded) -> &str {
    let rest = server.url().split_once('@').expect("a user").1;
    rest.split_once('/').expect("a path").0
}

fn both(first: &Embedded, second: &Embedded) -> String {
    format!("postgres://postrider@{},{}/postgres?sslmode=disable", host(first), host(second))
}

async fn folder(session: &mut sqlx::PgConnection) -> String {
    ask(session, "show data_directory").await
}

#[tokio::test]
async fn sessions_ask_for_what_the_log_needs() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    let mut session = connect(server.url()).await;
    run(
        &mut session,
        "alter database postgres set default_transaction_isolation = 'repeatable read';
         alter role postrider set default_transaction_isolation = 'serializable';
         alter role postrider set statement_timeout = '1s';
         alter role postrider set timezone = 'Asia/Tokyo'",
    )
    .await;
    let mut session = connect(server.url()).await;
    for (sql, wanted) in [
        ("show transaction_isolation", "read committed"),
        ("show statement_timeout", "0"),
        ("show synchronous_commit", "local"),
        ("show idle_in_transaction_session_timeout", "10s"),
        ("show timezone", "UTC"),
        ("show application_name", "postrider/test"),
    ] {
        assert_eq!(ask(&mut session, sql).await, wanted, "{sql}");
    }
    let pool = Target::parse(server.url()).expect("a URL").pool(2).await.expect("a pool");
    let mut pooled = pool.acquire().await.expect("a session");
    assert_eq!(ask(&mut pooled, "show transaction_isolation").await, "read committed");
    assert_eq!(ask(&mut pooled, "show application_name").await, "postrider/pool");
    drop((session, pooled));
    pool.close().await;
    server.stop().await;
}

#[tokio::test]
async fn a_dead_first_host_is_passed_over() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let dead = format!("127.0.0.1:{}", free.local_addr().expect("an address").port());
    drop(free);
    let url = server.url().replace('@', &format!("@{dead},"));
    let mut session = connect(&url).await;
    assert_eq!(ask(&mut session, "select 'here'").await, "here");
    drop(session);

    let alone = format!("postgres://postrider@{dead}/postgres");
    let error = Target::parse(&alone).expect("a URL").connect("test").await.expect_err("dead");
    assert!(error.to_string().contains(&dead), "{error}");
    assert!(!error.is_permanent(), "it may come up");
    server.stop().await;
}

/// A host that takes connections and says nothing.
#[tokio::test]
async fn a_silent_first_host_is_given_up() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = server.url().replace('@', &format!("@{},", silent.local_addr().expect("address")));
    let began = std::time::Instant::now();
    connect(&url).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_standby_is_passed_over_and_refused_alone() {
    let (a, _b, primary, standby, url) = pair().await;
    let mut session = connect(&url).await;
    assert!(folder(&mut session).await.starts_with(&*a.path().to_string_lossy()));
    let alone = Target::parse(standby.url()).expect("a URL").connect("test").await;
    assert!(alone.expect_err("a standby").to_string().contains("it is a standby"));
    drop(session);
    standby.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn a_pool_follows_the_primary_through_a_failover() {
    let (_a, b, primary, standby, url) = pair().await;
    let target = Target::parse(&url).expect("a URL");
    let pool = Database::new(target.clone(), 2);
    pool.prepared();
    let life = Lifecycle::new();
    life.spawn(pool.clone().steer(life.clone()));
    let mut session = eventually("a session", async || pool.acquire().await.ok()).await;
    assert!(!folder(&mut session).await.starts_with(&*b.path().to_string_lossy()));
    drop(session);
    let incarnation = target.incarnation();
    let before = incarnation.borrow().expect("it was noted");
    assert_eq!(before.timeline, 1, "{before}");

    primary.stop().await;
    let mut promote = as_owner(b.path(), &machine_bin().join("pg_ctl"));
    promote.args(["promote", "-w", "-D"]).arg(b.path().join("postgres"));
    assert!(promote.output().expect("pg_ctl").status.success());
    let found = eventually("the pool reaches the new primary", async || {
        let mut session = pool.acquire().await.ok()?;
        let row = sqlx::query_scalar("show data_directory").fetch_one(&mut *session).await;
        row.ok().map(|folder: String| folder)
    })
    .await;
    assert!(found.starts_with(&*b.path().to_string_lossy()), "{found}");
    let mut session = pool.acquire().await.expect("a session");
    run(&mut session, "create table written (n int)").await;
    drop(session);
    let after = incarnation.borrow().expect("it was noted");
    assert!(after.is_later_than(before) && after.timeline == 2, "{before} {after}");
    life.abort();
    pool.close().await;
    standby.stop().await;
}

/// `begin()` that is dropped on the way leaves a transaction open that sqlx 0.9.0 does not know.
#[tokio::test]
async fn a_session_inside_a_transaction_does_not_come_back() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    let pool = Target::parse(server.url()).expect("a URL").pool(1).await.expect("a pool");
    let backend = "select pg_backend_pid()::text";
    let mut session = pool.acquire().await.expect("a session");
    let clean = ask(&mut session, backend).await;
    drop(session);
    let mut session = pool.acquire().await.expect("a session");
    assert_eq!(ask(&mut session, backend).await, clean, "a clean session is used again");
    run(&mut session, "begin").await;
    assert!(!session.is_in_transaction(), "sqlx does not know");
    drop(session);
    let mut session = pool.acquire().await.expect("a session");
    assert_ne!(ask(&mut session, backend).await, clean, "a session inside a transaction");
    drop(session);
    for _ in 0..200 {
        let mut session = pool.acquire().await.expect("a session");
        let begin = tokio::time::timeout(Duration::from_micros(50), session.begin());
        let begun = begin.await.is_ok();
        drop(session);
        let mut session = pool.acquire().await.expect("a session");
        let sql = "select now() = statement_timestamp()";
        let row = sqlx::raw_sql(sql).fetch_one(&mut *session).await.expect(sql);
        assert!(row.get::<bool, _>(0), "inside a transaction, begun: {begun}");
    }
    pool.close().await;
    server.stop().await;
}

#[tokio::test]
async fn what_waiting_cannot_mend_is_told_apart() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    let connect = async |url: String| {
        Target::parse(&url).expect("a URL").connect("test").await.expect_err(&url)
    };
    let database = connect(server.url().replace("/postgres?", "/none?")).await;
    assert!(database.is_permanent(), "{database}");
    let role = connect(server.url().replace("postrider@", "nobody:secret@")).await;
    assert!(role.is_permanent() && !role.to_string().contains("secret"), "{role}");
    let shown = format!("{:?}", Target::parse("postgres://u:secret@h/d").expect("a URL"));
    assert_eq!(shown, r#"["h:5432"]"#);
    server.stop().await;
    let down = Target::parse(&format!("postgres://u@{}/d", "127.0.0.1:1")).expect("a URL");
    assert!(!down.connect("test").await.expect_err("down").is_permanent());
}
