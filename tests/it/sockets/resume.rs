//! Clients that come back, and subscriptions whose topic is not what it was.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{is_dense, numbered, offsets};
use crate::support::{Client, Load, Socket, TwoNodes, eventually, one_node};

const SETTINGS: &str = r#"{"partitions": 2}"#;

async fn put(client: &Client, topic: &str) {
    client.put_topic(topic, serde_json::from_str(SETTINGS).expect("JSON")).await;
}

async fn delete(client: &Client, topic: &str) {
    let path = format!("/v1/topics/{topic}");
    assert_eq!(client.send(client.request(Method::DELETE, &path)).await.status, 204);
}

async fn patch(client: &Client, settings: Value) {
    client.json(Method::PATCH, "/v1/topics/orders", &settings).await.ok();
}

/// A subscription to `orders` as a client sends it that was told this log.
fn back(from: &Value, log: &Value) -> Value {
    json!({"op": "subscribe", "sub": "a", "topic": "orders", "from": from, "log": log,
        "credit": 1_000_000})
}

/// What an `ok` says of a client that comes back: recovered, the reason, and its positions.
fn told(ok: &Value) -> (bool, &str, &Value) {
    let reason = ok.get("reason").map_or("", |reason| reason.as_str().expect("text"));
    (ok["recovered"].as_bool().expect("a bool"), reason, &ok["positions"]["orders"])
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_through_any_node_misses_nothing_and_sees_nothing_twice() {
    let pair = TwoNodes::new().await;
    put(&pair.clients[0], "orders").await;
    let load = Load::start(&pair.clients, "orders", 4, 20);
    let mut next = [0; 2];
    let mut from = json!("earliest");
    let mut log = Value::Null;
    for round in 0..12 {
        let mut socket = Socket::open(&pair.nodes[round % 2].address().to_string()).await;
        let ok = socket.call(back(&from, &log)).await;
        assert!(told(&ok).0, "{ok}");
        let mut seen = 0;
        while seen < 60 {
            seen += is_dense(&socket.of("a", "messages").await, &mut next);
        }
        from = json!({"0": next[0], "1": next[1]});
        if round % 3 == 0 {
            from = json!({"orders": from});
        }
        log = ok["log"].clone();
        // Without a word, as a client does that is killed.
        drop(socket);
    }
    load.stop().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_again_is_read_from_its_beginning_and_told() {
    let pair = TwoNodes::new().await;
    put(&pair.clients[0], "orders").await;
    pair.clients[0].publish("orders", numbered(0, 5)).await;
    let bases = [0, 1].map(|node| pair.nodes[node].address().to_string());
    let mut sockets = Vec::new();
    let mut ok = Value::Null;
    for base in &bases {
        let mut socket = Socket::open(base).await;
        ok = socket.call(back(&json!({"0": 3}), &Value::Null)).await;
        assert_eq!(told(&ok), (true, "", &json!({"0": 3, "1": 0})));
        socket.messages("a", 2).await;
        sockets.push(socket);
    }
    delete(&pair.clients[0], "orders").await;
    put(&pair.clients[0], "orders").await;
    // As many as before and more: the offsets alone would not tell.
    pair.clients[0].publish("orders", numbered(100, 9)).await;
    for socket in &mut sockets {
        let closed = socket.of("a", "closed").await;
        let code = closed["error"]["code"].as_str().expect("a code");
        assert!(matches!(code, "topic_recreated" | "not_found"), "{closed}");
        socket.has_no_more("messages", Duration::from_millis(20)).await;
    }
    for base in &bases {
        let mut socket = Socket::open(base).await;
        let again = socket.call(back(&json!({"0": 5}), &ok["log"])).await;
        assert_eq!(told(&again), (false, "topic_recreated", &json!({"0": 0, "1": 0})));
        assert_ne!(again["log"], ok["log"]);
        let messages = socket.messages("a", 9).await;
        assert_eq!(messages[0]["value"], 100);
        socket.close().await;
        let mut socket = Socket::open(base).await;
        let since = socket.call(back(&json!({"0": 9}), &again["log"])).await;
        assert_eq!(told(&since), (true, "", &json!({"0": 9, "1": 0})));
        socket.close().await;
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_or_made_again_closes_live_subscriptions_without_a_skip() {
    let pair = TwoNodes::new().await;
    for is_made_again in [false, true, true] {
        put(&pair.clients[0], "orders").await;
        put(&pair.clients[0], "others").await;
        let mut sockets = Vec::new();
        for node in &pair.nodes {
            let mut socket = Socket::open(&node.address().to_string()).await;
            socket.call(back(&json!("latest"), &Value::Null)).await;
            let other = json!({"op": "subscribe", "sub": "o", "topic": "others"});
            socket.call(other).await;
            sockets.push(socket);
        }
        pair.clients[0].publish("orders", numbered(0, 3)).await;
        delete(&pair.clients[0], "orders").await;
        if is_made_again {
            put(&pair.clients[0], "orders").await;
            pair.clients[0].publish("orders", numbered(50, 6)).await;
        }
        pair.clients[1].publish("others", numbered(0, 1)).await;
        for socket in &mut sockets {
            let closed = socket.of("a", "closed").await;
            let code = closed["error"]["code"].as_str().expect("a code");
            let may_be = if is_made_again { code == "topic_recreated" } else { false };
            assert!(may_be || code == "not_found", "{closed}");
            // What came of it before is of the old one, from its beginning and without a gap.
            let mut next = [0; 2];
            while let Some(frame) = socket.waiting("messages") {
                if frame["sub"] == "a" {
                    assert_eq!(frame["messages"][0]["value"], next[0], "{frame}");
                    is_dense(&frame, &mut next);
                } else {
                    assert_eq!(frame["messages"][0]["offset"], 0);
                    socket.send(json!({"op": "unsubscribe", "sub": "o"})).await;
                }
            }
            socket.send(json!({"op": "ping", "id": "last"})).await;
            socket.find("the pong", |frame| frame["id"] == "last").await;
            socket.has_no_more("closed", Duration::from_millis(20)).await;
        }
        for topic in ["orders", "others"] {
            let path = format!("/v1/topics/{topic}");
            pair.clients[0].send(pair.clients[0].request(Method::DELETE, &path)).await;
        }
    }
    pair.stop().await;
}

/// A topic of which retention has taken the first messages.
async fn outrun(client: &Client) -> (i64, i64) {
    for from in (0..50).step_by(5) {
        client.publish("orders", numbered(from, 5)).await;
    }
    patch(client, json!({"retention_bytes": 1})).await;
    let marks = eventually("retention takes the oldest", async || {
        let marks = client.watermarks("orders", 0).await;
        (marks.0 > 10).then_some(marks)
    });
    marks.await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_outrun_by_retention_is_told_and_goes_on_at_the_low_watermark() {
    let (_database, node, client) = one_node().await;
    put(&client, "orders").await;
    let mut live = Socket::open(&node.address().to_string()).await;
    let few = json!({"op": "subscribe", "sub": "few", "topic": "orders", "credit": 2});
    let ok = live.call(few).await;
    let all = json!({"op": "subscribe", "sub": "all", "topic": "orders"});
    live.call(all).await;
    let (low, high) = outrun(&client).await;
    assert_eq!(offsets(&live.messages("few", 2).await, 0), [0, 1]);
    assert_eq!(live.messages("all", 50).await.len(), 50);
    // Live: what it would be sent next is gone.
    live.send(json!({"op": "credit", "sub": "few", "messages": 100})).await;
    let mut next = [2, 0];
    let closed = loop {
        let frame = live.find("a frame of few", |frame| frame["sub"] == "few").await;
        if frame["op"] == "closed" {
            break Some(frame);
        }
        // It may still lie in memory here: then nothing is lost.
        is_dense(&frame, &mut next);
        if next[0] == 50 {
            break None;
        }
    };
    if let Some(closed) = closed {
        let problem = &closed["error"];
        assert_eq!(problem["code"], "offset_out_of_range", "{closed}");
        let facts = (&problem["topic"], &problem["partition"]);
        assert_eq!(facts, (&json!("orders"), &json!(0)), "{problem}");
        assert_eq!(problem["low_watermark"], low, "{problem}");
    }
    // Back again: with its log it goes on, without it is refused.
    let mut socket = Socket::open(&node.address().to_string()).await;
    let again = socket.call(back(&json!({"0": 2}), &ok["log"])).await;
    assert_eq!(told(&again), (false, "offset_out_of_range", &json!({"0": low, "1": 0})));
    let wanted: Vec<i64> = (low..high).collect();
    assert_eq!(offsets(&socket.messages("a", wanted.len()).await, 0), wanted);
    let mut without = back(&json!({"0": 2}), &Value::Null);
    without["sub"] = json!("b");
    let refused = socket.refused(without, "offset_out_of_range").await;
    let marks = (&refused["low_watermark"], &refused["high_watermark"]);
    assert_eq!(marks, (&json!(low), &json!(high)), "{refused}");
    socket.close().await;
    live.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_another_timeline_is_told() {
    let (_database, node, client) = one_node().await;
    put(&client, "orders").await;
    client.publish("orders", numbered(0, 5)).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    let ok = socket.call(back(&json!("earliest"), &Value::Null)).await;
    socket.call(json!({"op": "unsubscribe", "sub": "a"})).await;
    let log = ok["log"].as_str().expect("a log");
    let (same, timeline) = log.rsplit_once('-').expect("a timeline");
    let other = u32::from_str_radix(timeline, 16).expect("a number") + 1;
    let other = json!(format!("{same}-{other:08x}"));
    socket.forget("a");
    let again = socket.call(back(&json!({"0": 5}), &other)).await;
    assert_eq!(told(&again), (false, "log_truncated", &json!({"0": 0, "1": 0})));
    assert_eq!(offsets(&socket.messages("a", 5).await, 0), [0, 1, 2, 3, 4]);
    // Above the end with a log that stands: the end of what is there.
    socket.call(json!({"op": "unsubscribe", "sub": "a"})).await;
    let above = back(&json!({"0": 6}), &ok["log"]);
    let told_of = socket.call(above).await;
    assert_eq!(told(&told_of).1, "offset_out_of_range", "{told_of}");
    socket.close().await;
    node.stop().await.expect("stops");
}
