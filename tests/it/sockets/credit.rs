//! Credit: the node sends what it was allowed, to the message and to the byte, and no more.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::{bytes, is_dense, numbered, offsets, tail};
use crate::support::{Load, Socket, one_node, seed};

const QUIET: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn messages_stop_at_the_credit_and_go_on_with_more() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    client.publish("orders", numbered(0, 100)).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    let none = json!({"op": "subscribe", "sub": "a", "topic": "orders", "from": 0, "credit": 0});
    socket.call(none).await;
    socket.is_quiet_for(QUIET).await;
    let mut next = 0;
    for more in [1, 0, 7, 30, 2] {
        socket.send(json!({"op": "credit", "sub": "a", "messages": more})).await;
        let messages = socket.messages("a", more as usize).await;
        assert_eq!(offsets(&messages, 0), (next..next + more).collect::<Vec<_>>());
        next += more;
        socket.is_quiet_for(QUIET).await;
    }
    // What is published adds nothing, and credit that is not used is kept.
    client.publish("orders", numbered(100, 10)).await;
    socket.is_quiet_for(QUIET).await;
    socket.send(json!({"op": "credit", "sub": "a", "messages": 1_000})).await;
    assert_eq!(offsets(&socket.messages("a", 70).await, 0), (40..110).collect::<Vec<_>>());
    client.publish("orders", numbered(110, 930)).await;
    assert_eq!(offsets(&socket.messages("a", 930).await, 0), (110..1_040).collect::<Vec<_>>());
    client.publish("orders", numbered(1_040, 1)).await;
    socket.is_quiet_for(QUIET).await;
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_stop_at_the_credit_and_are_refilled() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let large: Value = (0..20).map(|n| json!({"value": format!("{n:01000}")})).collect();
    client.publish("orders", large).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    let subscribe = json!({"op": "subscribe", "sub": "a", "topic": "orders", "from": 0,
        "credit": 100, "credit_bytes": 3_500});
    socket.call(subscribe).await;
    // Each of them has more than 1,000 bytes.
    let frame = socket.of("a", "messages").await;
    assert!(bytes(&frame) <= 3_500, "{frame}");
    let mut next = [0];
    assert_eq!(is_dense(&frame, &mut next), 3);
    socket.is_quiet_for(QUIET).await;
    let each = bytes(&frame) / 3;
    let left = 3_500 - bytes(&frame);
    // Bytes that are added are added to what is left.
    let add = |bytes: usize| json!({"op": "credit", "sub": "a", "messages": 0, "bytes": bytes});
    socket.send(add(each - left - 1)).await;
    socket.is_quiet_for(QUIET).await;
    socket.send(add(1)).await;
    assert_eq!(is_dense(&socket.of("a", "messages").await, &mut next), 1);
    socket.is_quiet_for(QUIET).await;
    // Messages alone fill the bytes up to where they began.
    for _ in 0..2 {
        socket.send(json!({"op": "credit", "sub": "a", "messages": 1})).await;
        assert_eq!(is_dense(&socket.of("a", "messages").await, &mut next), 3);
        socket.is_quiet_for(QUIET).await;
    }
    // A message that is larger than all of it waits for more.
    client.publish("orders", json!([{"value": "x".repeat(10_000)}])).await;
    socket.send(add(11 * each)).await;
    let mut seen = 10;
    while seen < 20 {
        seen += is_dense(&socket.of("a", "messages").await, &mut next);
    }
    socket.send(json!({"op": "credit", "sub": "a", "messages": 1})).await;
    socket.is_quiet_for(QUIET).await;
    socket.send(add(10_000)).await;
    assert_eq!(is_dense(&socket.of("a", "messages").await, &mut next), 1);
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_has_about_64_kib_unless_one_message_has_more() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let batch: Value = (0..300).map(|n| json!({"value": format!("{n:01000}")})).collect();
    client.publish("orders", batch).await;
    client.publish("orders", json!([{"value": "x".repeat(300_000)}, {"value": 1}])).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    let subscribe = json!({"op": "subscribe", "sub": "a", "topic": "orders", "from": 0});
    socket.call(subscribe).await;
    let mut next = [0];
    while next[0] < 302 {
        let frame = socket.of("a", "messages").await;
        let count = is_dense(&frame, &mut next);
        assert!(bytes(&frame) <= 65_536 || count == 1, "{} bytes", bytes(&frame));
    }
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_is_never_passed_whatever_comes_when() {
    let mut random = StdRng::seed_from_u64(seed());
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 3})).await;
    let message = |n: i64| {
        let value = "x".repeat(random.random_range(0..1_500));
        json!({"key": format!("k{n}"), "value": value})
    };
    client.publish("orders", (0..6_000).map(message).collect()).await;
    let load = Load::start(std::slice::from_ref(&client), "orders", 4, 500);
    let mut socket = Socket::open(&node.address().to_string()).await;
    let filters = [json!(null), json!({"key_prefix": "k"})];
    // Of each subscription: what it may have got at most, and what it got.
    let mut allowed = [[0_i64; 2]; 2];
    let mut got = [[0_i64; 2]; 2];
    let mut next = [[0; 3]; 2];
    for (at, filter) in filters.iter().enumerate() {
        let subscribe = json!({"op": "subscribe", "sub": at.to_string(), "topic": "orders",
            "from": "earliest", "credit": 5, "credit_bytes": 4_000, "filter": filter});
        socket.call(subscribe).await;
        allowed[at] = [5, 4_000];
    }
    for _ in 0..400 {
        let at = random.random_range(0..2);
        let (messages, bytes) = (random.random_range(0..40), random.random_range(0..20_000));
        let frame = json!({"op": "credit", "sub": at.to_string(), "messages": messages,
            "bytes": bytes});
        // Its answer is behind everything that was sent before it counted.
        socket.call(frame).await;
        while let Some(frame) = socket.waiting("messages") {
            let at: usize = frame["sub"].as_str().expect("a sub").parse().expect("a number");
            got[at][0] += is_dense(&frame, &mut next[at]);
            got[at][1] += super::bytes(&frame) as i64;
        }
        for at in 0..2 {
            assert!(
                got[at][0] <= allowed[at][0] && got[at][1] <= allowed[at][1],
                "{got:?} of {allowed:?}"
            );
        }
        allowed[at][0] += messages;
        allowed[at][1] += bytes;
    }
    assert!(got.iter().all(|[messages, _]| *messages > 1_000), "{got:?}");
    load.stop().await;
    // With enough of it everything comes.
    let ends = [0, 1, 2].map(|partition| client.watermarks("orders", partition));
    let ends = futures_util::future::join_all(ends).await;
    for at in 0..2 {
        let frame = json!({"op": "credit", "sub": at.to_string(), "messages": 900_000,
            "bytes": 500_000_000});
        socket.call(frame).await;
    }
    let all: i64 = ends.iter().map(|(_, high)| high).sum();
    while next.iter().flatten().sum::<i64>() < 2 * all {
        let frame = socket.expect("messages").await;
        let at: usize = frame["sub"].as_str().expect("a sub").parse().expect("a number");
        is_dense(&frame, &mut next[at]);
    }
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_without_credit_holds_up_no_other() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut socket = Socket::open(&node.address().to_string()).await;
    let none = json!({"op": "subscribe", "sub": "none", "topic": "orders", "credit": 0});
    socket.call(none).await;
    tail(&mut socket, "a", "orders").await;
    for number in 0..50 {
        client.publish("orders", numbered(number, 1)).await;
        assert_eq!(offsets(&socket.messages("a", 1).await, 0), [number]);
    }
    socket.call(json!({"op": "credit", "sub": "none", "messages": 60})).await;
    assert_eq!(offsets(&socket.messages("none", 50).await, 0), (0..50).collect::<Vec<_>>());
    socket.close().await;
    node.stop().await.expect("stops");
}
