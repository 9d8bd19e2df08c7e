//! Subscriptions without a group: where they begin, and that everything from there on comes once
//! and in order.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};

use super::{is_dense, numbered, offsets, tail};
use crate::support::{Load, Socket, eventually, one_node};

fn subscribe(sub: &str, topic: &str, from: Value) -> Value {
    json!({"op": "subscribe", "sub": sub, "topic": topic, "from": from, "credit": 1_000_000})
}

/// The first offset of each partition, as an `ok` says it.
fn position(ok: &Value, topic: &str, partition: u32) -> i64 {
    ok["positions"][topic][partition.to_string()].as_i64().expect("a position")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ok_comes_first_and_fixes_what_latest_means() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 2})).await;
    let load = Load::start(std::slice::from_ref(&client), "orders", 4, 20);
    let mut socket = Socket::open(&node.address().to_string()).await;
    for round in 0..30 {
        let sub = format!("s{round}");
        let before =
            [client.watermarks("orders", 0).await.1, client.watermarks("orders", 1).await.1];
        socket.ask(subscribe(&sub, "orders", json!("latest"))).await;
        let ok = socket.find("a frame of it", |frame| frame["sub"] == *sub).await;
        assert_eq!((&ok["op"], &ok["recovered"]), (&json!("ok"), &json!(true)), "{ok}");
        assert!(ok.get("reason").is_none() && ok["log"].is_string(), "{ok}");
        let from = [0, 1].map(|partition| position(&ok, "orders", partition));
        assert!(from[0] >= before[0] && from[1] >= before[1], "{before:?} {ok}");
        let mut next = from;
        while next[0] + next[1] < from[0] + from[1] + 20 {
            is_dense(&socket.of(&sub, "messages").await, &mut next);
        }
        socket.call(json!({"op": "unsubscribe", "sub": sub})).await;
        socket.forget(&sub);
    }
    load.stop().await;
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begins_where_it_is_asked_to() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 2})).await;
    for number in 0..10 {
        for partition in [0, 1] {
            client.publish("orders", json!([{"value": number, "partition": partition}])).await;
        }
    }
    let third = client.read("orders", 0, "from=3&limit=1").await.ok();
    let time = third["messages"][0]["timestamp"].clone();
    let mut at_time = [0; 2];
    for (partition, begins) in at_time.iter_mut().enumerate() {
        let all = client.read_all("orders", partition as u32).await;
        let is_before = |message: &Value| message["timestamp"].as_str() < time.as_str();
        *begins = all.iter().filter(|message| is_before(message)).count() as i64;
    }
    let mut socket = Socket::open(&node.address().to_string()).await;
    for (number, (from, begins)) in [
        (json!("earliest"), [0, 0]),
        (json!("latest"), [10, 10]),
        (json!(null), [10, 10]),
        (json!(3), [3, 3]),
        (json!("3"), [3, 3]),
        (json!(10), [10, 10]),
        (json!({"0": 7}), [7, 0]),
        (json!({"1": 10, "0": 9}), [9, 10]),
        (json!({"orders": {"0": 5, "1": 6}}), [5, 6]),
        (json!({"others": {"0": 5}}), [0, 0]),
        (json!({}), [0, 0]),
        (time, at_time),
    ]
    .into_iter()
    .enumerate()
    {
        let sub = number.to_string();
        let ok = socket.call(subscribe(&sub, "orders", from.clone())).await;
        let told = [0, 1].map(|partition| position(&ok, "orders", partition));
        assert_eq!(told, begins, "{from}");
        let left = 20 - begins[0] - begins[1];
        let messages = socket.messages(&sub, left as usize).await;
        for partition in [0_u32, 1] {
            let wanted: Vec<i64> = (begins[partition as usize]..10).collect();
            assert_eq!(offsets(&messages, partition), wanted, "{from}");
        }
    }
    for (from, marks) in [(json!(11), (0, 10)), (json!({"1": 12}), (0, 10))] {
        let refused = socket.refused(subscribe("x", "orders", from), "offset_out_of_range").await;
        let told = (&refused["low_watermark"], &refused["high_watermark"]);
        assert_eq!(told, (&json!(marks.0), &json!(marks.1)), "{refused}");
    }
    socket.refused(subscribe("x", "orders", json!(-1)), "offset_out_of_range").await;
    socket.refused(subscribe("x", "orders", json!("-1")), "offset_out_of_range").await;
    socket.refused(subscribe("x", "others", json!("latest")), "not_found").await;
    socket.is_quiet_for(Duration::from_millis(100)).await;
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_replay_goes_over_into_what_comes_without_a_gap() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 3})).await;
    // Three pages of a reader that is behind, with keys that spread.
    for from in (0..12_000).step_by(3_000) {
        let batch: Value =
            (from..from + 3_000).map(|n| json!({"key": format!("k{n}"), "value": n})).collect();
        client.publish("orders", batch).await;
    }
    let load = Load::start(std::slice::from_ref(&client), "orders", 4, 10);
    let mut socket = Socket::open(&node.address().to_string()).await;
    socket.call(subscribe("a", "orders", json!("earliest"))).await;
    let (mut next, mut seen) = ([0; 3], 0);
    while seen < 14_000 {
        seen += is_dense(&socket.of("a", "messages").await, &mut next);
    }
    let told = load.stop().await;
    let all = 12_000 + told.acked.len() as i64;
    while next.iter().sum::<i64>() < all {
        is_dense(&socket.of("a", "messages").await, &mut next);
    }
    socket.is_quiet_for(Duration::from_millis(50)).await;
    for (partition, end) in next.iter().enumerate() {
        assert_eq!(client.watermarks("orders", partition as u32).await.1, *end);
    }
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_subscriptions_of_one_topic_are_two() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    client.publish("orders", numbered(0, 5)).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    socket.call(subscribe("all", "orders", json!("earliest"))).await;
    tail(&mut socket, "new", "orders").await;
    let few = json!({"op": "subscribe", "sub": "few", "topic": "orders", "from": 2, "credit": 2});
    socket.call(few).await;
    client.publish("orders", numbered(5, 5)).await;
    assert_eq!(offsets(&socket.messages("all", 10).await, 0), (0..10).collect::<Vec<_>>());
    assert_eq!(offsets(&socket.messages("new", 5).await, 0), (5..10).collect::<Vec<_>>());
    assert_eq!(offsets(&socket.messages("few", 2).await, 0), [2, 3]);
    socket.call(json!({"op": "unsubscribe", "sub": "all"})).await;
    client.publish("orders", numbered(10, 1)).await;
    assert_eq!(offsets(&socket.messages("new", 1).await, 0), [10]);
    socket.call(json!({"op": "credit", "sub": "few", "messages": 3})).await;
    assert_eq!(offsets(&socket.messages("few", 3).await, 0), [4, 5, 6]);
    // A name that has gone may come again, and begins anew.
    socket.call(subscribe("all", "orders", json!(9))).await;
    assert_eq!(offsets(&socket.messages("all", 2).await, 0), [9, 10]);
    socket.is_quiet_for(Duration::from_millis(50)).await;
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unsubscribed_before_it_is_open_is_over() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    client.publish("orders", numbered(0, 5)).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    for topic in ["orders", "none"] {
        let opened = socket.ask(subscribe("a", topic, json!("earliest"))).await;
        let more = socket.ask(json!({"op": "credit", "sub": "a", "messages": 0})).await;
        let left = socket.ask(json!({"op": "unsubscribe", "sub": "a"})).await;
        assert_eq!(socket.answer(more).await["op"], "ok");
        let wanted = if topic == "orders" { "ok" } else { "error" };
        assert_eq!(socket.answer(opened).await["op"], wanted);
        assert_eq!(socket.answer(left).await["op"], "ok");
    }
    socket.is_quiet_for(Duration::from_millis(50)).await;
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_subscriptions_are_served_and_one_more_is_refused() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    let mut asked = Vec::new();
    for number in 0..1_000 {
        asked.push(
            socket
                .ask(json!({"op": "subscribe", "sub": number.to_string(), "topic": "orders"}))
                .await,
        );
    }
    let over = json!({"op": "subscribe", "sub": "over", "topic": "orders"});
    let over = socket.ask(over).await;
    assert_eq!(socket.answer(over).await["error"]["code"], "invalid");
    for id in asked {
        assert_eq!(socket.answer(id).await["op"], "ok");
    }
    client.publish("orders", numbered(0, 2)).await;
    let mut seen: HashMap<String, i64> = HashMap::new();
    while seen.values().sum::<i64>() < 2_000 {
        let frame = socket.expect("messages").await;
        let next = seen.entry(frame["sub"].as_str().expect("a sub").to_owned()).or_default();
        let mut places = [*next];
        is_dense(&frame, &mut places);
        *next = places[0];
    }
    assert!(seen.len() == 1_000 && seen.values().all(|count| *count == 2), "{seen:?}");
    socket.call(json!({"op": "unsubscribe", "sub": "7"})).await;
    socket.call(json!({"op": "subscribe", "sub": "over", "topic": "orders"})).await;
    client.publish("orders", numbered(2, 1)).await;
    assert_eq!(offsets(&socket.messages("over", 1).await, 0), [2]);
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_come_are_read_from_their_beginning() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    client.publish("orders", numbered(0, 3)).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    tail(&mut socket, "a", "orders").await;
    for (round, partitions) in [2_u32, 5].into_iter().enumerate() {
        let grown = json!({"partitions": partitions});
        client.json(reqwest::Method::PATCH, "/v1/topics/orders", &grown).await.ok();
        // At once: the readers do not know of them yet.
        for partition in 1..partitions {
            let message = json!([{"value": [round, partition], "partition": partition}]);
            client.publish("orders", message).await;
        }
        let messages = socket.messages("a", partitions as usize - 1).await;
        for partition in 1..partitions {
            let wanted = if partition == 1 { round as i64 } else { 0 };
            assert_eq!(offsets(&messages, partition), [wanted], "{messages:?}");
        }
    }
    client.publish("orders", numbered(3, 1)).await;
    eventually("partition 0 is read on", async || {
        (offsets(&socket.messages("a", 1).await, 0) == [3]).then_some(())
    })
    .await;
    socket.is_quiet_for(Duration::from_millis(50)).await;
    socket.close().await;
    node.stop().await.expect("stops");
}
