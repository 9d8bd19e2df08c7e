//! Retention by dropped buckets, from end to end.

use std::time::Duration;

use postrider::lifecycle::Lifecycle;
use serde_json::{Value, json};

use crate::support::{Client, Node, TestDatabase, within};

const LONG: Duration = Duration::from_secs(60);

fn batch(from: i64, count: i64) -> Value {
    (from..from + count).map(|n| json!({"value": n, "partition": 0})).collect()
}

/// Waits until everything that was published is gone.
async fn everything_goes(client: &Client) -> i64 {
    let gone = async || {
        let (low, high) = client.watermarks("orders", 0).await;
        (low == high).then_some(low)
    };
    within(LONG, "the low watermark reaches the high one", gone).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_time_goes_and_the_partition_goes_on() {
    let database = TestDatabase::with_windows("1 second").await;
    let node = Node::on(&database).await;
    let other = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 2, "retention": "1s"})).await;
    client.put_topic("kept", json!({"partitions": 1, "retention": "1d"})).await;
    client.publish("kept", batch(0, 10)).await;
    let mut end = 0;
    for round in 0..2 {
        assert_eq!(client.publish("orders", batch(end, 100)).await[0], (0, end));
        end += 100;
        assert_eq!(client.read("orders", 0, &format!("from={}", end - 1)).await.status, 200);
        let (reader, from) = (other.client(), end);
        let parked = Lifecycle::new()
            .spawn(async move { reader.read("orders", 0, &format!("from={from}&wait=30s")).await });
        let low = everything_goes(&client).await;
        assert_eq!(low, end, "round {round}");
        for client in [&client, &other.client()] {
            for below in [0, end - 1] {
                let read = client.read("orders", 0, &format!("from={below}")).await;
                let problem = read.problem(422, "offset_out_of_range", "none");
                assert_eq!(
                    (&problem["low_watermark"], &problem["high_watermark"]),
                    (&json!(end), &json!(end))
                );
            }
            for from in ["earliest".to_owned(), "2020-01-01T00:00:00Z".to_owned(), end.to_string()]
            {
                let page = client.read("orders", 0, &format!("from={from}")).await.ok();
                assert_eq!((&page["messages"], &page["next_offset"]), (&json!([]), &json!(end)));
            }
        }
        // The partition goes on from its floor, and whoever waited there gets what comes.
        assert_eq!(client.publish("orders", batch(end, 1)).await, [(0, end)]);
        let page = parked.await.expect("no panic").ok();
        assert_eq!(page["messages"][0]["offset"], end);
        assert_eq!(page["low_watermark"], end);
        end += 1;
    }
    // A topic of another class keeps its messages.
    assert_eq!(client.watermarks("kept", 0).await, (0, 10));
    // A partition that never had a message is as it was.
    assert_eq!(client.watermarks("orders", 1).await, (0, 0));
    node.stop().await.expect("stops");
    other.stop().await.expect("stops");
}

/// Tables, functions, rows: nothing of a dropped bucket stays but each partition's newest segment.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_bucket_leaves_nothing_behind() {
    let database = TestDatabase::with_windows("1 second").await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1, "retention": "1s"})).await;
    for _ in 0..3 {
        client.publish("orders", batch(0, 10)).await;
        everything_goes(&client).await;
    }
    assert_eq!(client.watermarks("orders", 0).await, (30, 30));
    client.put_topic("deleted", json!({"partitions": 4, "retention": "1s"})).await;
    client.publish("deleted", batch(0, 10)).await;
    let path = "/v1/topics/deleted";
    let gone = client.send(client.request(reqwest::Method::DELETE, path)).await;
    assert_eq!(gone.status, 204);
    // The one that tells where `orders` goes on, and where it begins.
    for table in ["segments", "partition_lows"] {
        let rows = format!("select count(*) from postrider.{table}");
        within(LONG, "the rows of what has gone go too", async || {
            (database.number(&rows).await == 1).then_some(())
        })
        .await;
    }
    // A topic whose buckets have all gone takes its last segments along.
    let path = "/v1/topics/orders";
    let gone = client.send(client.request(reqwest::Method::DELETE, path)).await;
    assert_eq!(gone.status, 204);
    assert_eq!(database.number("select count(*) from postrider.segments").await, 0);
    let strays = "
        select count(*) from (
          select substring(c.relname from '^batches_(\\d+)$') id from pg_class c
          where c.relnamespace = 'postrider'::regnamespace
          union select substring(p.proname from '^(?:append|read)_(\\d+)$') from pg_proc p
          where p.pronamespace = 'postrider'::regnamespace) s
        where id is not null and id::bigint not in (select bucket_id from postrider.buckets)";
    within(LONG, "tables and functions go", async || {
        (database.number(strays).await == 0).then_some(())
    })
    .await;
    node.stop().await.expect("stops");
}

/// A bucket goes when it is past the longest limit of all that is in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_keeps_longer_holds_the_bucket_for_all() {
    let database = TestDatabase::with_windows("1 second").await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1, "retention": "1s"})).await;
    client.put_topic("held", json!({"partitions": 1, "retention": "1h"})).await;
    let shared = "select count(*) from (select bucket_id from postrider.segments
        group by bucket_id having count(*) = 2) s";
    let mut end = 0;
    within(LONG, "both have messages in one bucket", async || {
        client.publish("orders", batch(end, 5)).await;
        client.publish("held", batch(end, 5)).await;
        end += 5;
        (database.number(shared).await > 0).then_some(())
    })
    .await;
    // Later buckets, with `orders` alone, go by.
    within(LONG, "a later bucket goes", async || {
        client.publish("orders", batch(end, 5)).await;
        end += 5;
        let (low, _) = client.watermarks("orders", 0).await;
        (low > 5).then_some(())
    })
    .await;
    assert!(database.number(shared).await > 0, "the shared bucket went");
    let held = client.read_all("held", 0).await;
    assert!(held.len() >= 5 && held[0]["offset"] == 0, "{held:?}");
    // Once it keeps no longer than the other, the bucket goes.
    let shorter = json!({"retention": "1s"});
    let changed = client.json(reqwest::Method::PATCH, "/v1/topics/held", &shorter).await;
    assert_eq!(changed.status, 200);
    within(LONG, "the shared bucket goes", async || {
        let (low, high) = client.watermarks("held", 0).await;
        (low == high).then_some(())
    })
    .await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_retention_overtakes_is_told_and_never_jumps() {
    let database = TestDatabase::with_windows("1 second").await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1, "retention": "1s"})).await;
    let (mut end, mut next, mut overtaken) = (0, 0, 0);
    within(LONG, "the reader is overtaken three times", async || {
        client.publish("orders", batch(end, 5)).await;
        end += 5;
        // Slower than the writer.
        let read = client.read("orders", 0, &format!("from={next}&limit=3")).await;
        if read.status == 422 {
            let problem = read.problem(422, "offset_out_of_range", "none");
            let low = problem["low_watermark"].as_i64().expect("an offset");
            assert!(low > next, "{problem}");
            next = low;
            overtaken += 1;
            return (overtaken == 3).then_some(());
        }
        for message in read.ok()["messages"].as_array().expect("messages") {
            assert_eq!((&message["offset"], &message["value"]), (&json!(next), &json!(next)));
            next += 1;
        }
        None
    })
    .await;
    node.stop().await.expect("stops");
}
