//! The schema as one reads it, committed beside the tests and proven fresh.

use std::{fs, path::Path, process::Command};

use postrider::store;

use crate::support::TestDatabase;

/// pg_dump of the newest PostgreSQL on this machine.
fn pg_dump() -> Command {
    let found = ["18", "17", "16", "15"]
        .map(|major| format!("/usr/lib/postgresql/{major}/bin/pg_dump"))
        .into_iter()
        .find(|path| Path::new(path).exists());
    Command::new(found.unwrap_or_else(|| "pg_dump".to_owned()))
}

/// Without what differs between servers and says nothing.
fn bare(dump: &str) -> String {
    let noise = ["--", "SET ", "SELECT pg_catalog.set_config", "\\restrict", "\\unrestrict"];
    let is_noise = |line: &&str| noise.iter().any(|start| line.starts_with(start));
    let mut text = String::new();
    let mut was_blank = true;
    for line in dump.lines().filter(|line| !is_noise(line)) {
        let is_blank = line.trim().is_empty();
        if !(is_blank && was_blank) {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        was_blank = is_blank;
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_committed_schema_is_fresh() {
    // Migrated and without a bucket, whose tables come and go.
    let database = TestDatabase::empty().await;
    store::migrate::run(&mut database.connect().await).await.expect("migrated");
    let dumped = pg_dump()
        .args(["--schema-only", "--no-owner", "--no-privileges", "--schema=postrider", "--dbname"])
        .arg(database.url())
        .output()
        .expect("pg_dump");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let now = bare(&String::from_utf8(dumped.stdout).expect("UTF-8"));
    assert!(now.contains("CREATE TABLE postrider.segments"), "{now}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/store/schema.sql");
    if std::env::var_os("POSTRIDER_REGENERATE").is_some() {
        fs::write(&file, &now).expect("a writable folder");
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == now, "tests/it/store/schema.sql is not fresh: run `make generate`");
}
