//! Servers that the program refuses to run on.

use crate::support::{OwnServer, Process};

/// What `postrider serve` and `migrate` say and return on a server with `setting`.
async fn refused(setting: &str, says: &str) {
    let server = OwnServer::start().await;
    server.run(&format!("alter system set {setting}")).await;
    server.run("select pg_reload_conf()").await;
    server.shows(setting).await;
    for command in ["serve", "migrate"] {
        let mut args = vec![command, "--database-url", server.url()];
        if command == "serve" {
            args.extend(["--listen", "127.0.0.1:0"]);
        }
        let output = Process::run(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code != 0), "{command}: {said}");
        assert!(said.contains(says), "{command}: {said}");
    }
    assert!(!server.has("select to_regnamespace('postrider') is not null").await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fsync_off_is_refused_at_the_start() {
    refused("fsync = off", "fsync is off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_page_writes_off_is_refused_at_the_start() {
    refused("full_page_writes = off", "full_page_writes is off").await;
}
