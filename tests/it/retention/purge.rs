//! What is hidden in buckets that stay is removed, and deleted topics leave nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::{batch, delete};
use crate::support::{Node, TestDatabase, within};

const LONG: Duration = Duration::from_secs(60);

async fn becomes(database: &TestDatabase, what: &str, sql: &str, wanted: i64) {
    within(LONG, what, async || (database.number(sql).await == wanted).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_rows_of_a_bucket_that_stays_are_removed_and_the_log_goes_on() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    let settings = json!({"partitions": 1, "retention": "forever", "retention_bytes": 1});
    client.put_topic("orders", settings).await;
    client.put_topic("kept", json!({"partitions": 1, "retention": "forever"})).await;
    client.publish("kept", batch(0, 5)).await;
    let mut end = 0;
    for _ in 0..3 {
        for _ in 0..20 {
            assert_eq!(client.publish("orders", batch(end, 3)).await[0], (0, end));
            end += 3;
        }
        // The last row of an open bucket stays: it says where the log goes on.
        becomes(&database, "one row each", "select count(*) from postrider.batches", 2).await;
        assert_eq!(client.watermarks("orders", 0).await, (end - 3, end));
        let values: Vec<Value> = client.read_all("orders", 0).await;
        assert_eq!(values.len(), 3);
        assert_eq!(values[0]["value"], end - 3);
    }
    assert_eq!(client.read_all("kept", 0).await.len(), 5);
    node.stop().await.expect("stops");
}

/// Rows and segments of sealed buckets go, and an empty bucket with them, though its class keeps
/// for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_for_ever_goes_when_nothing_that_counts_is_left_in_it() {
    let database = TestDatabase::with_windows("1 second").await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1, "retention": "60d"})).await;
    let mut end = 0;
    let buckets = "select count(distinct bucket_id) from postrider.segments";
    within(LONG, "messages in five buckets", async || {
        assert_eq!(client.publish("orders", batch(end, 3)).await[0], (0, end));
        end += 3;
        (database.number(buckets).await >= 5).then_some(())
    })
    .await;
    // Two months go by.
    let newest = "select max(bucket_id) from postrider.segments";
    let newest = database.number(newest).await;
    database
        .run(
            "update postrider.batches set appended_at = appended_at - interval '61 days';
             update postrider.segments set first_at = first_at - interval '61 days',
               end_at = end_at - interval '61 days'",
        )
        .await;
    client.publish("orders", batch(end, 3)).await;
    // What was hidden by then is not asked about before its time: the topic is changed.
    super::patch(&client, "orders", json!({"retention": "59d"})).await;
    let (low, high) = within(LONG, "what is old is hidden", async || {
        let (low, high) = client.watermarks("orders", 0).await;
        (low >= end).then_some((low, high))
    })
    .await;
    assert_eq!((low, high), (end, end + 3));
    let old = format!(
        "select count(*) from postrider.buckets where bucket_id < {newest}
        and retention_class = 5 and state <> 'ahead'"
    );
    becomes(&database, "old buckets go", &old, 0).await;
    let hidden = format!("select count(*) from postrider.batches where base_offset < {end}");
    assert!(database.number(&hidden).await <= 1);
    assert_eq!(client.read_all("orders", 0).await.len(), 3);
    assert_eq!(client.publish("orders", batch(end + 3, 1)).await, [(0, end + 3)]);
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_deleted_topic() {
    let database = TestDatabase::with_windows("1 second").await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("kept", json!({"partitions": 1, "retention": "forever"})).await;
    client.publish("kept", batch(0, 5)).await;
    for (topic, retention) in [("short", "1s"), ("long", "forever"), ("never-written", "7d")] {
        client.put_topic(topic, json!({"partitions": 3, "retention": retention})).await;
    }
    for n in 0..30 {
        client.publish("short", batch(n, 1)).await;
        client.publish("long", batch(n, 1)).await;
    }
    // One that was in two classes.
    super::patch(&client, "long", json!({"retention": "1s"})).await;
    client.publish("long", batch(30, 1)).await;
    super::patch(&client, "long", json!({"retention": "forever"})).await;
    client.publish("long", batch(31, 1)).await;
    for topic in ["short", "long", "never-written"] {
        delete(&client, topic).await;
    }
    let of_deleted = |table: &str| {
        format!(
            "select count(*) from postrider.{table} t
             where t.partition_id not in (select partition_id from postrider.partitions
               where deleted_at is null)"
        )
    };
    becomes(&database, "rows go", &of_deleted("batches"), 0).await;
    becomes(&database, "segments go", &of_deleted("segments"), 0).await;
    // Nodes that hear of the change late have to find the partitions.
    assert_eq!(database.number(&of_deleted("partitions")).await, 9);
    let later = "update postrider.partitions set deleted_at = deleted_at - interval '1 hour'
        where deleted_at is not null";
    database.run(later).await;
    becomes(&database, "partitions go", &of_deleted("partitions"), 0).await;
    assert_eq!(database.number(&of_deleted("partition_lows")).await, 0);
    assert_eq!(database.number("select count(*) from postrider.partitions").await, 1);
    assert_eq!(client.read_all("kept", 0).await.len(), 5);
    node.stop().await.expect("stops");
}
