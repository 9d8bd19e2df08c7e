//! A disk that is full, on small file systems of the test's own.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
    time::Duration,
};

use postrider::model::Clock;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Client, Load, Node, OwnServer, within};

/// A file system in memory; nothing where this user may not mount.
struct Small(TempDir);

impl Small {
    fn new(megabytes: u32) -> Option<Self> {
        let mode = Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("pr").permissions(mode).tempdir().ok()?;
        let options = format!("size={megabytes}m,mode=755");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        println!("SKIPPED: this user may not mount a small file system");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes up all but `megabytes`.
    fn fill(&self, megabytes: u64) {
        let free = rustix::fs::statvfs(self.path()).expect("statistics");
        let bytes = free.f_bavail * free.f_frsize - megabytes * 1024 * 1024;
        let file = fs::File::create(self.path().join("filler")).expect("a file");
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("room");
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).expect("removed");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

const SOON: Duration = Duration::from_secs(5);

/// Publishes until the disk is full, frees it, and checks that nothing acknowledged is missing.
async fn fill_and_free(client: &Client, small: &Small, codes: &[(u16, &str)]) {
    client.put_topic("orders", json!({"partitions": 2})).await;
    let load = Load::start(std::slice::from_ref(client), "orders", 8, 100_000);
    let probe = async || {
        let answer = client.post("/v1/topics/orders/messages/raw", "a/b", vec![7; 500_000]).await;
        (answer.status != 200).then_some(answer)
    };
    let refused = within(SOON * 10, "the disk is full", probe).await;
    let told = load.stop().await;
    let code = refused.value()["code"].as_str().unwrap_or_default().to_owned();
    println!("full after {} messages: {} {code}", told.acked.len(), refused.status);
    assert!(told.acked.len() > 20, "only {} messages", told.acked.len());
    assert!(told.longest < SOON, "a publish took {:?}", told.longest);
    for (status, code) in &told.problems {
        assert!(codes.contains(&(*status, code)), "{status} {code}");
    }
    assert_eq!(client.get("/healthz").await.status, 200);
    if codes.len() == 1 {
        // The server itself is well: what is there can be read.
        assert!(!client.read("orders", 0, "from=0&limit=10").await.ok()["messages"].is_null());
    }
    small.free();
    within(SOON * 4, "publishes succeed", async || {
        let answer = client.post("/v1/topics/orders/messages/raw", "a/b", "x").await;
        (answer.status == 200).then_some(())
    })
    .await;
    told.is_there(client, "orders", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_tables_is_told_as_storage_full_and_reads_go_on() {
    let Some(small) = Small::new(100) else { return };
    let server = OwnServer::start().await;
    let owner = fs::metadata(server.cluster()).expect("a cluster");
    let tables = small.path().join("tables");
    fs::create_dir(&tables).expect("a folder");
    chown(&tables, Some(owner.uid()), Some(owner.gid())).expect("chown");
    server.run(&format!("create tablespace small location '{}'", tables.display())).await;
    server.run("create database full_disk tablespace small").await;
    small.fill(30);
    let url = server.url().replace("/postgres?", "/full_disk?");
    let node = Node::start(&url, Clock::default()).await;
    node.is_ready().await;
    fill_and_free(&node.client(), &small, &[(503, "storage_full")]).await;
    node.stop().await.expect("stops");
    server.stop().await;
}

/// Without room for its log PostgreSQL ends itself; it is started again and again until there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_everything_loses_nothing_acknowledged() {
    let Some(small) = Small::new(250) else { return };
    let dir = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(small.path())
        .expect("a folder");
    let server = OwnServer::start_in(dir).await;
    small.fill(60);
    let node = Node::start(server.url(), Clock::default()).await;
    node.is_ready().await;
    let codes = [(503, "storage_full"), (503, "database_unavailable"), (504, "outcome_unknown")];
    fill_and_free(&node.client(), &small, &codes).await;
    node.stop().await.expect("stops");
    drop(server.stop().await);
}
