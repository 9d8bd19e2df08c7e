//! Filters: what a client does not want is not sent, and its position says how far it has come.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::offsets;
use crate::support::{Client, Socket, one_node};

fn subscribe(sub: &str, filter: Value, credit: i64) -> Value {
    json!({"op": "subscribe", "sub": sub, "topic": "orders", "from": "earliest",
        "credit": credit, "filter": filter})
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_the_beginning_of_the_key_choose_messages() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let messages = json!([
        {"partition": 0, "key": "user.1", "value": 0, "headers": {"kind": "new", "by": "ada"}},
        {"partition": 0, "key": "user.2", "value": 1, "headers": {"kind": "old"}},
        {"partition": 0, "key": "item.1", "value": 2, "headers": {"kind": "new"}},
        {"partition": 0, "value": 3, "headers": {"kind": "new"}},
        {"partition": 0, "key": "user.3", "value": 4},
        {"partition": 0, "key": "user", "value": 5, "headers": {"Kind": "new"}},
        {"partition": 0, "key": "user.4", "value": 6, "headers": {"kind": ["old", "new"]}},
        {"partition": 0, "key_base64": "dXNlci7/", "value": 7,
            "headers": {"kind": {"base64": "bmV3"}}},
        {"partition": 0, "key": "usér.5", "value": 8, "headers": {"kind": "newer"}},
        {"partition": 0, "key": "user.6", "headers": {"kind": "", "ключ": "значение"}},
    ]);
    client.publish("orders", messages).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    for (number, (filter, wanted)) in [
        (json!({"key_prefix": "user."}), &[0, 1, 4, 6, 7, 9][..]),
        (json!({"key_prefix": "user"}), &[0, 1, 4, 5, 6, 7, 9]),
        (json!({"key_prefix": ""}), &[0, 1, 2, 4, 5, 6, 7, 8, 9]),
        (json!({"key_prefix": "usé"}), &[8]),
        (json!({"headers": {"kind": "new"}}), &[0, 2, 3, 6, 7]),
        (json!({"headers": {"kind": "new", "by": "ada"}}), &[0]),
        (json!({"headers": {"kind": "new"}, "key_prefix": "user."}), &[0, 6, 7]),
        (json!({"headers": {"kind": ""}}), &[9]),
        (json!({"headers": {"ключ": "значение"}}), &[9]),
        (json!({"headers": {"kind": "ne"}}), &[]),
        (json!({"headers": {"other": "new"}}), &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let sub = number.to_string();
        socket.call(subscribe(&sub, filter.clone(), 1_000)).await;
        let messages = socket.messages(&sub, wanted.len()).await;
        assert_eq!(offsets(&messages, 0), wanted, "{filter}");
    }
    // What comes is chosen as what was there.
    let more = json!([{"partition": 0, "key": "usér.7", "value": 1}]);
    client.publish("orders", more).await;
    assert_eq!(offsets(&socket.messages("3", 1).await, 0), [10]);
    assert_eq!(offsets(&socket.messages("2", 1).await, 0), [10]);
    socket.has_no_more("messages", Duration::from_millis(50)).await;
    socket.close().await;
    node.stop().await.expect("stops");
}

/// Messages of which each hundredth is wanted.
async fn publish(client: &Client, from: i64, count: i64) {
    let message = |n: i64| {
        let kind = if n % 100 == 99 { "rare" } else { "common" };
        json!({"value": n, "headers": {"kind": kind}, "partition": 0})
    };
    client.publish("orders", (from..from + count).map(message).collect()).await;
}

fn position(frame: &Value) -> i64 {
    frame["positions"]["orders"]["0"].as_i64().expect("a position")
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_come_and_never_pass_what_is_still_to_be_sent() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    publish(&client, 0, 1_000).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    let filter = json!({"headers": {"kind": "rare"}});
    let since = Instant::now();
    let ok = socket.call(subscribe("slow", filter.clone(), 2)).await;
    socket.call(subscribe("all", filter.clone(), 1_000)).await;
    let never = json!({"headers": {"kind": "never"}});
    socket.call(subscribe("never", never, 1_000)).await;
    let some = socket.messages("slow", 2).await;
    assert_eq!(offsets(&some, 0), [99, 199]);
    socket.messages("all", 10).await;
    let told = socket.of("slow", "position").await;
    let took = since.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(7), "{took:?}");
    // The message at 299 matches and waits for credit.
    assert!((200..=299).contains(&position(&told)), "{told}");
    for sub in ["all", "never"] {
        assert_eq!(position(&socket.of(sub, "position").await), 1_000, "{sub}");
    }
    // Position frames are in the same queue: each stands behind the messages it passes.
    publish(&client, 1_000, 1_000).await;
    socket.send(json!({"op": "credit", "sub": "slow", "messages": 3})).await;
    let (mut last, mut seen, mut allowed) = (199, 2, 5);
    while last < 1_999 {
        let frame = socket.find("a frame of slow", |frame| frame["sub"] == "slow").await;
        if frame["op"] == "position" {
            assert!((last + 1..=last + 100).contains(&position(&frame)), "{last}: {frame}");
            // Only now, so that it is told while something waits.
            socket.send(json!({"op": "credit", "sub": "slow", "messages": 15})).await;
            allowed += 15;
            continue;
        }
        for message in frame["messages"].as_array().expect("messages") {
            assert_eq!(message["offset"], last + 100);
            (last, seen) = (last + 100, seen + 1);
        }
        assert!(seen <= allowed, "{seen} of {allowed}");
    }
    // Whoever comes back with a position that was told misses nothing.
    let mut again = subscribe("again", filter, 1_000);
    (again["from"], again["log"]) = (told["positions"].clone(), ok["log"].clone());
    assert_eq!(socket.call(again).await["recovered"], true);
    let messages = socket.messages("again", 18).await;
    assert_eq!(offsets(&messages, 0), (2..20).map(|n| n * 100 + 99).collect::<Vec<_>>());
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_passes_over_a_long_backlog() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    for from in (0..30_000).step_by(10_000) {
        publish(&client, from, 10_000).await;
    }
    let mut socket = Socket::open(&node.address().to_string()).await;
    socket.call(subscribe("a", json!({"headers": {"kind": "rare"}}), 10_000)).await;
    let messages = socket.messages("a", 300).await;
    assert_eq!(offsets(&messages, 0), (0..300).map(|n| n * 100 + 99).collect::<Vec<_>>());
    publish(&client, 30_000, 100).await;
    assert_eq!(offsets(&socket.messages("a", 1).await, 0), [30_099]);
    socket.close().await;
    node.stop().await.expect("stops");
}
