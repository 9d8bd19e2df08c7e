//! What `doctor` finds in a database.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::support::{Node, Process, TestDatabase, eventually, within};

/// The findings, and how the program ended.
fn examined(node: &Node, database: &TestDatabase) -> (Vec<Value>, Option<i32>) {
    let url = format!("http://{}", node.address());
    let arguments = ["doctor", "-o", "json", "--url", &url, "--database-url", database.url()];
    let told = block_in_place(|| Process::run(&arguments));
    let found: Value = serde_json::from_slice(&told.stdout)
        .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&told.stderr)));
    (found.as_array().expect("findings").clone(), told.status.code())
}

fn of<'a>(found: &'a [Value], check: &str) -> &'a Value {
    let finding = found.iter().find(|finding| finding["check"] == check);
    finding.unwrap_or_else(|| panic!("{check}: {found:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_nothing_in_a_database_that_is_well() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let (found, code) = examined(&node, &database);
    assert_eq!(code, Some(0), "{found:?}");
    for check in
        ["schema", "oldest transaction", "bloat", "xid age", "outbox", "drops", "clock", "ready"]
    {
        assert_eq!(of(&found, check)["status"], "ok", "{found:?}");
    }
    assert_eq!(of(&found, "outbox")["facts"], json!({"messages": 0, "oldest_seconds": 0}));
    assert!(of(&found, "xid age")["facts"]["age"].as_i64() > Some(0), "{found:?}");
    assert!(of(&found, "buckets forever")["facts"]["seconds"].as_i64() > Some(0), "{found:?}");
    assert!(of(&found, "replication slots")["facts"]["kept_bytes"].is_i64(), "{found:?}");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_what_is_wrong() {
    let database = TestDatabase::with_windows("1 second").await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1, "retention": "1s"})).await;
    client.publish("orders", json!([{"value": 1}])).await;
    // A reader that stays: it delays drops, and keeps dead rows.
    let mut reader = database.connect().await;
    let run = async |session: &mut sqlx::PgConnection, sql: &str| {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(session).await;
        done.unwrap_or_else(|why| panic!("{sql}: {why}"));
    };
    run(
        &mut reader,
        "set idle_in_transaction_session_timeout = 0; set application_name = 'the dump';
         begin isolation level repeatable read; select count(*) from postrider.batches",
    )
    .await;
    database
        .run(
            "insert into postrider.producer_marks (owner_id, producer_id, sequence, body_hash,
               results)
             select 1, '00000000-0000-0000-0000-000000000000', g, '', '{}'
             from generate_series(1, 60000) g;
             delete from postrider.producer_marks",
        )
        .await;
    let slot = format!("slot_{}", database.name());
    database.run(&format!("select pg_create_physical_replication_slot('{slot}', true)")).await;
    within(Duration::from_secs(60), "a drop waits, and its reader is named", async || {
        let (found, code) = examined(&node, &database);
        let drops = of(&found, "drops");
        let is_named = drops["detail"].as_str().is_some_and(|told| told.contains("the dump"));
        assert_eq!(code, Some(0), "warnings are no failure: {found:?}");
        (is_named && drops["status"] == "warn").then_some(())
    })
    .await;
    let (found, _) = examined(&node, &database);
    let slots = of(&found, "replication slots");
    assert_eq!(slots["status"], "warn", "{slots}");
    assert!(slots["detail"].as_str().is_some_and(|told| told.contains(&slot)), "{slots}");
    database.run(&format!("select pg_drop_replication_slot('{slot}')")).await;
    eventually("dead rows are counted", async || {
        let (found, _) = examined(&node, &database);
        let bloat = of(&found, "bloat");
        let told = bloat["detail"].as_str().expect("text");
        (bloat["status"] == "warn" && told.contains("producer_marks")).then_some(())
    })
    .await;
    // Without a node nobody drains.
    let other = TestDatabase::new().await;
    let idle = Node::on(&other).await;
    idle.client().put_topic("orders", json!({"partitions": 1})).await;
    idle.stop().await.expect("stops");
    other
        .run(
            "select postrider.publish('orders', 'x') from generate_series(1, 3);
             update postrider.outbox set published_at = published_at - interval '90 seconds'",
        )
        .await;
    let (found, _) = examined(&node, &other);
    let outbox = of(&found, "outbox");
    assert_eq!((&outbox["status"], &outbox["facts"]["messages"]), (&json!("warn"), &json!(3)));
    assert!(outbox["facts"]["oldest_seconds"].as_i64() >= Some(90), "{outbox}");
    run(&mut reader, "commit").await;
    node.stop().await.expect("stops");
}
