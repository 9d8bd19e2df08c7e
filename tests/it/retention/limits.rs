//! Limits by time and by bytes, raised and lowered.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{batch, patch};
use crate::support::{Client, Node, TestDatabase, eventually};

/// Waits until the low watermark is this.
async fn low_is(client: &Client, topic: &str, low: i64) {
    eventually(&format!("{topic} begins at {low}"), async || {
        (client.watermarks(topic, 0).await.0 == low).then_some(())
    })
    .await;
}

/// Reads below `low` are told of both watermarks, and `earliest` begins there.
async fn begins_at(client: &Client, topic: &str, low: i64, high: i64) {
    for from in [0, low - 1] {
        let read = client.read(topic, 0, &format!("from={from}")).await;
        let problem = read.problem(422, "offset_out_of_range", "none");
        assert_eq!(
            (&problem["low_watermark"], &problem["high_watermark"]),
            (&json!(low), &json!(high))
        );
    }
    for from in ["earliest", "2020-01-01T00:00:00Z"] {
        let page = client.read(topic, 0, &format!("from={from}&limit=1")).await.ok();
        let next = page["messages"][0]["offset"].as_i64().unwrap_or(high);
        assert_eq!(next, low, "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_a_topic_s_own_limit_is_hidden_long_before_its_bucket_goes() {
    let database = TestDatabase::new().await;
    let nodes = [Node::on(&database).await, Node::on(&database).await];
    let clients = nodes.each_ref().map(Node::client);
    let settings = json!({"partitions": 2, "retention": "2s"});
    clients[0].put_topic("orders", settings.clone()).await;
    clients[0].put_topic("idle", settings).await;
    let since = Instant::now();
    clients[0].publish("orders", batch(0, 10)).await;
    clients[1].publish("orders", batch(10, 10)).await;
    eventually("everything is hidden", async || {
        let (low, high) = clients[1].watermarks("orders", 0).await;
        // Asked before it is looked at: a message inside its limit is never hidden.
        assert!(low == 0 || since.elapsed() > Duration::from_secs(2), "low is {low}");
        (low == high).then_some(())
    })
    .await;
    for client in &clients {
        low_is(client, "orders", 20).await;
        begins_at(client, "orders", 20, 20).await;
    }
    // Its rows are there, in a bucket that is open.
    assert_eq!(database.number("select count(*) from postrider.batches").await, 2);
    clients[0].publish("orders", batch(20, 5)).await;
    assert_eq!(clients[1].read_all("orders", 0).await.len(), 5);
    low_is(&clients[0], "orders", 25).await;
    assert_eq!(clients[0].watermarks("idle", 0).await, (0, 0));
    // Each move leaves one row.
    assert_eq!(database.number("select count(*) from postrider.partition_lows").await, 1);
    for node in nodes {
        node.stop().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_raised_and_lowered_and_the_low_watermark_never_falls() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1, "retention": "1s"})).await;
    client.put_topic("pace", json!({"partitions": 1, "retention": "1s"})).await;
    client.publish("orders", batch(0, 10)).await;
    low_is(&client, "orders", 10).await;
    for (round, longer) in ["1h", "1d", "7d", "60d", "forever"].into_iter().enumerate() {
        let low = 10 * (round as i64 + 1);
        patch(&client, "orders", json!({"retention": longer})).await;
        client.publish("orders", batch(low, 10)).await;
        client.publish("pace", batch(0, 1)).await;
        // What was published beside it is hidden: this would have been too.
        low_is(&client, "pace", round as i64 + 1).await;
        assert_eq!(client.watermarks("orders", 0).await, (low, low + 10), "{longer}");
        assert_eq!(client.read_all("orders", 0).await.len(), 10);
        patch(&client, "orders", json!({"retention": "1s"})).await;
        low_is(&client, "orders", low + 10).await;
    }
    node.stop().await.expect("stops");
}

/// How many bytes lie at or behind the low watermark, and how many of them in the first row.
async fn kept(database: &TestDatabase, low: i64) -> (i64, i64) {
    let rows = format!("from postrider.batches where base_offset >= {low}");
    let all = format!("select coalesce(sum(octet_length(records)), 0)::bigint {rows}");
    let first = format!(
        "select coalesce((select octet_length(records) {rows} order by base_offset limit 1), 0)
           ::bigint"
    );
    (database.number(&all).await, database.number(&first).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_keeps_the_newest_bytes_and_hides_the_batches_before_them() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    let settings = json!({"partitions": 1, "retention": "forever", "retention_bytes": 10_000});
    client.put_topic("orders", settings).await;
    let padding = "x".repeat(1_000);
    let publish = async |count: usize| {
        for _ in 0..count {
            client.publish("orders", json!([{"value": padding}])).await;
        }
    };
    publish(9).await;
    assert_eq!(client.watermarks("orders", 0).await, (0, 9));
    let (mut end, mut before) = (9, 0);
    // A limit that is taken back hides nothing more, a smaller one does; a larger one changes
    // nothing that is done.
    for limit in [10_000, 4_000, 20_000, 1] {
        patch(&client, "orders", json!({"retention_bytes": limit})).await;
        publish(30).await;
        end += 30;
        let low = eventually("the oldest batches are hidden", async || {
            let (low, high) = client.watermarks("orders", 0).await;
            assert_eq!(high, end);
            assert!(low >= before, "low fell from {before} to {low}");
            before = low;
            let (kept, first) = kept(&database, low).await;
            // Counted while the low watermark stood: rows below it go at any moment.
            let stood = client.watermarks("orders", 0).await.0 == low;
            assert!(!stood || kept >= limit, "{kept} of {limit} bytes are kept");
            (stood && kept - first < limit).then_some(low)
        })
        .await;
        begins_at(&client, "orders", low, end).await;
    }
    assert_eq!(before, end - 1, "one batch is more than a byte");
    patch(&client, "orders", json!({"retention_bytes": null})).await;
    client.put_topic("pace", json!({"partitions": 1, "retention": "1s"})).await;
    publish(30).await;
    client.publish("pace", batch(0, 1)).await;
    low_is(&client, "pace", 1).await;
    assert_eq!(client.watermarks("orders", 0).await, (before, end + 30));
    let topic = client.get("/v1/topics/orders").await.ok();
    assert_eq!(topic["retention_bytes"], json!(null));
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_of_two_limits_is_reached_first_counts() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    let both = json!({"partitions": 1, "retention": "2s", "retention_bytes": 1_000_000_000});
    client.put_topic("by-time", both).await;
    let both = json!({"partitions": 1, "retention": "1h", "retention_bytes": 1});
    client.put_topic("by-bytes", both).await;
    for n in 0..5 {
        client.publish("by-time", batch(n, 1)).await;
        client.publish("by-bytes", batch(n, 1)).await;
    }
    low_is(&client, "by-bytes", 4).await;
    low_is(&client, "by-time", 5).await;
    assert_eq!(client.watermarks("by-bytes", 0).await, (4, 5));
    node.stop().await.expect("stops");
}

/// The node that has the duty stops; another one takes it over and looks at everything once.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_takes_the_duty_over() {
    let database = TestDatabase::new().await;
    let first = Node::on(&database).await;
    let client = first.client();
    client.put_topic("orders", json!({"partitions": 1, "retention": "3s"})).await;
    client.publish("orders", batch(0, 10)).await;
    client.put_topic("bytes", json!({"partitions": 1, "retention_bytes": 1})).await;
    client.publish("bytes", batch(0, 1)).await;
    let second = Node::on(&database).await;
    first.stop().await.expect("stops");
    let client = second.client();
    low_is(&client, "orders", 10).await;
    client.publish("bytes", batch(1, 1)).await;
    low_is(&client, "bytes", 1).await;
    second.stop().await.expect("stops");
}
