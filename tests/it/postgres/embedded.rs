//! Making a cluster, its settings, and who may come to it.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use postrider::{
    lifecycle::Lifecycle,
    postgres::{self, EmbeddedConfig, EmbeddedError},
    store::{self, server},
};

use super::{ask, config, connect, fetched, open_dir, start, try_start};

async fn settings_are_as_designed(config: EmbeddedConfig, wal_compression: &str) {
    let server = postgres::start(&config, &Lifecycle::new()).await.expect("starts");
    let mut session = connect(server.url()).await;
    for (sql, wanted) in [
        ("show fsync", "on"),
        ("show full_page_writes", "on"),
        ("select reset_val from pg_settings where name = 'synchronous_commit'", "on"),
        ("show data_checksums", "on"),
        ("show server_encoding", "UTF8"),
        ("select datcollate from pg_database where datname = current_database()", "C.UTF-8"),
        ("show listen_addresses", ""),
        ("show max_wal_size", "8GB"),
        ("show checkpoint_timeout", "15min"),
        ("show wal_compression", wal_compression),
        ("show max_connections", "100"),
        ("show jit", "off"),
        ("show logging_collector", "on"),
        ("show autovacuum_naptime", "10s"),
        ("show autovacuum_freeze_max_age", "1000000000"),
    ] {
        assert_eq!(ask(&mut session, sql).await, wanted, "{sql}");
    }
    let buffers = "select setting from pg_settings where name = 'shared_buffers'";
    let pages: u64 = ask(&mut session, buffers).await.parse().expect("a number");
    assert!((8_192..=262_144).contains(&pages), "{pages} pages are not 64 MiB to 2 GiB");

    let facts = server::check(&mut session).await.expect("the embedded server is good");
    assert_eq!(facts.warnings, Vec::<String>::new());
    assert!(facts.wal_compressions.iter().any(|kind| kind == wal_compression));
    assert_eq!(facts.has_lz4_columns, wal_compression == "lz4");
    let incarnation = store::incarnation::read(&mut session).await.expect("it is shown");
    assert!(incarnation.system != 0 && incarnation.timeline == 1, "{incarnation}");
    assert_eq!(facts.max_connections, 100);
    drop(session);
    server.stop().await;
}

#[tokio::test]
async fn the_machine_s_server_is_safe_and_tuned() {
    let dir = open_dir();
    settings_are_as_designed(config(dir.path()), "lz4").await;
}

#[tokio::test]
async fn the_fetched_server_is_safe_and_tuned() {
    let dir = open_dir();
    let config = EmbeddedConfig { bin_dir: Some(fetched().await), ..config(dir.path()) };
    settings_are_as_designed(config, "pglz").await;
}

#[tokio::test]
async fn data_made_by_one_version_is_not_started_with_another() {
    let dir = open_dir();
    start(dir.path()).await.stop().await;
    let other = EmbeddedConfig { bin_dir: Some(fetched().await), ..config(dir.path()) };
    let refused = postgres::start(&other, &Lifecycle::new()).await.expect_err("another version");
    assert!(refused.to_string().contains("the data directory was made by version"), "{refused}");
}

#[tokio::test]
async fn a_second_start_on_the_same_directory_is_refused_by_name() {
    let dir = open_dir();
    let first = start(dir.path()).await;
    let text = try_start(dir.path()).await.expect_err("in use").to_string();
    assert!(text.contains(&*first.data_dir().to_string_lossy()), "{text}");
    assert!(text.contains(&format!("the process {}", std::process::id())), "{text}");
    connect(first.url()).await;
    first.stop().await;
    start(dir.path()).await.stop().await;
}

#[tokio::test]
async fn a_long_data_directory_gets_a_short_socket() {
    let dir = open_dir();
    let long = dir.path().join("a-long-name-".repeat(12)).join("data");
    let server = start(&long).await;
    let mut session = connect(server.url()).await;
    let socket = ask(&mut session, "show unix_socket_directories").await;
    assert!(!socket.starts_with(&*dir.path().to_string_lossy()), "{socket}");
    let facts = fs::metadata(&socket).expect("the socket's folder");
    assert_eq!(facts.permissions().mode() & 0o777, 0o700);
    drop(session);
    server.stop().await;
    assert!(!Path::new(&socket).exists(), "the folder outside the data directory is left behind");
}

#[tokio::test]
async fn other_users_of_the_machine_stay_out() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    let closed = |name: &str| {
        let facts = fs::metadata(dir.path().join(name)).expect(name);
        assert_eq!(facts.permissions().mode() & 0o077, 0, "{name}");
        assert_ne!(facts.uid(), 0, "{name} belongs to root: the server would refuse to run");
    };
    closed("postgres");
    closed("socket");
    closed("socket/.s.PGSQL.5432");
    server.stop().await;
}

#[tokio::test]
async fn an_explicit_directory_that_the_server_s_user_cannot_reach_is_refused() {
    let dir = open_dir();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).expect("folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("mode");
    let outcome = try_start(&closed.join("data")).await;
    if fs::metadata("/proc/self").expect("procfs").uid() != 0 {
        return outcome.expect("reachable for its owner").stop().await;
    }
    let refused = outcome.expect_err("unreachable");
    assert!(matches!(refused, EmbeddedError::Unreachable { .. }), "{refused}");
    let remedy = format!("`chmod a+x {}`", closed.display());
    assert!(refused.to_string().contains(&remedy), "{refused}");
    assert!(!closed.join("data").exists(), "a refused start leaves nothing behind");
}

#[tokio::test]
async fn an_interrupted_initdb_leaves_nothing_in_the_way() {
    let dir = open_dir();
    fs::create_dir_all(dir.path().join("postgres.new/base")).expect("what a kill left");
    let server = start(dir.path()).await;
    connect(server.url()).await;
    server.stop().await;
}
