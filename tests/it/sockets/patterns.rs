//! Subscriptions to several topics and to patterns of their names.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use super::{numbered, offsets};
use crate::support::{Client, Socket, eventually, one_node};

fn subscribe(sub: &str, topics: Value, from: Value) -> Value {
    json!({"op": "subscribe", "sub": sub, "topics": topics, "from": from, "credit": 100_000})
}

/// The offsets of each topic's partition 0, in the order in which they came.
fn by_topic(messages: &[Value]) -> BTreeMap<String, Vec<i64>> {
    let mut all: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for message in messages {
        let topic = message["topic"].as_str().expect("a topic").to_owned();
        all.entry(topic).or_default().push(message["offset"].as_i64().expect("an offset"));
    }
    all
}

async fn put(client: &Client, topic: &str) {
    client.put_topic(topic, json!({"partitions": 1})).await;
}

async fn delete(client: &Client, topic: &str) {
    let path = format!("/v1/topics/{topic}");
    assert_eq!(client.send(client.request(Method::DELETE, &path)).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_topics_are_read_each_from_its_own_place() {
    let (_database, node, client) = one_node().await;
    for topic in ["a", "b", "c", "d"] {
        put(&client, topic).await;
        client.publish(topic, numbered(0, 4)).await;
    }
    let mut socket = Socket::open(&node.address().to_string()).await;
    let from = json!({"a": {"0": 1}, "b": {"0": 4}, "d": {"0": 0}});
    let ok = socket.call(subscribe("s", json!(["a", "b", "c", "a"]), from)).await;
    let wanted = json!({"a": {"0": 1}, "b": {"0": 4}, "c": {"0": 0}});
    assert_eq!(ok["positions"], wanted, "a topic is read once, however often it is named: {ok}");
    let found = by_topic(&socket.messages("s", 7).await);
    assert_eq!(found["a"], [1, 2, 3]);
    assert_eq!(found["c"], [0, 1, 2, 3]);
    client.publish("b", numbered(4, 1)).await;
    client.publish("d", numbered(4, 1)).await;
    assert_eq!(by_topic(&socket.messages("s", 1).await)["b"], [4]);
    let refused = subscribe("x", json!(["a", "none"]), json!("latest"));
    socket.refused(refused, "not_found").await;
    socket.is_quiet_for(Duration::from_millis(50)).await;
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_means_what_is_there_and_what_comes() {
    let (_database, node, client) = one_node().await;
    for topic in ["audit.a", "audits", "orders"] {
        put(&client, topic).await;
        client.publish(topic, numbered(0, 2)).await;
    }
    let mut socket = Socket::open(&node.address().to_string()).await;
    let wanted = subscribe("s", json!(["audit.*", "orders"]), json!("latest"));
    let ok = socket.call(wanted).await;
    assert_eq!(ok["positions"], json!({"audit.a": {"0": 2}, "orders": {"0": 2}}));
    for topic in ["audit.b", "audit.c", "other"] {
        put(&client, topic).await;
        client.publish(topic, numbered(0, 3)).await;
    }
    let found = by_topic(&socket.messages("s", 6).await);
    assert_eq!(found["audit.b"], [0, 1, 2], "what comes is read from its beginning");
    assert_eq!(found["audit.c"], [0, 1, 2]);
    assert_eq!(found.len(), 2);
    // Of each that came, the client is told the history that its positions belong to.
    let mut known = BTreeMap::new();
    eventually("the log of all", async || {
        let told = socket.of("s", "position").await;
        known = serde_json::from_value(told["positions"].clone()).expect("positions");
        let log = told["log"].as_str().expect("a log");
        let all = ["audit.a:", "audit.b:", "audit.c:", "orders:"];
        all.iter().all(|name| log.contains(name)).then_some(())
    })
    .await;
    let known: BTreeMap<String, Value> = known;
    assert!(known.contains_key("audit.c") && !known.contains_key("audits"), "{known:?}");
    client.publish("audit.a", numbered(2, 1)).await;
    client.publish("audits", numbered(2, 1)).await;
    assert_eq!(by_topic(&socket.messages("s", 1).await)["audit.a"], [2]);
    socket.is_quiet_for(Duration::from_millis(50)).await;
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_come_in_a_rush_are_each_read_once() {
    let (_database, node, client) = one_node().await;
    let base = node.address().to_string();
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let mut socket = Socket::open(&base).await;
        for sub in ["s", "t"] {
            socket.call(subscribe(sub, json!(["rush.*"]), json!("latest"))).await;
        }
        sockets.push(socket);
    }
    let count = 40;
    for number in 0..count {
        let topic = format!("rush.{number}");
        put(&client, &topic).await;
        client.publish(&topic, numbered(0, 2)).await;
        if number % 8 == 0 {
            // One that subscribes in the middle misses nothing either.
            let mut socket = Socket::open(&base).await;
            for sub in ["s", "t"] {
                socket.ask(subscribe(sub, json!(["rush.*"]), json!("earliest"))).await;
            }
            sockets.push(socket);
        }
    }
    for socket in &mut sockets {
        for sub in ["s", "t"] {
            let found = by_topic(&socket.messages(sub, 2 * count).await);
            assert_eq!(found.len(), count);
            assert!(found.values().all(|offsets| offsets == &[0, 1]), "{found:?}");
        }
    }
    for socket in &mut sockets {
        socket.has_no_more("messages", Duration::from_millis(20)).await;
    }
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_means_nothing_yet_can_be_gone_on_with() {
    let (_database, node, client) = one_node().await;
    let base = node.address().to_string();
    let mut socket = Socket::open(&base).await;
    let ok = socket.call(subscribe("s", json!(["later.*"]), json!("earliest"))).await;
    assert_eq!(ok["positions"], json!({}));
    socket.close().await;
    put(&client, "later.a").await;
    client.publish("later.a", numbered(0, 3)).await;
    let mut socket = Socket::open(&base).await;
    let mut again = subscribe("s", json!(["later.*"]), ok["positions"].clone());
    again["log"] = ok["log"].clone();
    let ok = socket.call(again).await;
    assert_eq!(ok["recovered"], true, "{ok}");
    assert_eq!(offsets(&socket.messages("s", 3).await, 0), [0, 1, 2]);
    socket.close().await;

    // One more came while the client was away: it does not doubt what was there before.
    put(&client, "later.b").await;
    client.publish("later.b", numbered(0, 2)).await;
    let mut socket = Socket::open(&base).await;
    let mut again = subscribe("s", json!(["later.*"]), json!({"later.a": {"0": 2}}));
    again["log"] = ok["log"].clone();
    let ok = socket.call(again.clone()).await;
    assert_eq!(ok["recovered"], true, "{ok}");
    let found = by_topic(&socket.messages("s", 3).await);
    assert_eq!((&found["later.a"][..], &found["later.b"][..]), (&[2][..], &[0, 1][..]));

    // Positions in a topic whose history the client does not name could be of another one.
    again["from"] = json!({"later.a": {"0": 3}, "later.b": {"0": 1}});
    again["sub"] = json!("t");
    let ok = socket.call(again).await;
    let told = (&ok["recovered"], &ok["reason"], &ok["positions"]["later.b"]["0"]);
    assert_eq!(told, (&json!(false), &json!("topic_recreated"), &json!(0)), "{ok}");
    socket.close().await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_a_pattern_that_is_deleted_closes_its_subscription_and_says_which() {
    let (_database, node, client) = one_node().await;
    for topic in ["x.a", "x.b", "y"] {
        put(&client, topic).await;
    }
    let mut socket = Socket::open(&node.address().to_string()).await;
    socket.call(subscribe("s", json!(["x.*"]), json!("latest"))).await;
    socket.call(subscribe("y", json!(["y"]), json!("latest"))).await;
    delete(&client, "x.b").await;
    let closed = socket.of("s", "closed").await;
    assert_eq!(closed["error"]["code"], "not_found", "{closed}");
    assert!(closed["error"]["detail"].as_str().expect("text").contains("`x.b`"), "{closed}");
    client.publish("x.a", numbered(0, 1)).await;
    client.publish("y", numbered(0, 1)).await;
    assert_eq!(offsets(&socket.messages("y", 1).await, 0), [0]);
    // The name is free again.
    socket.call(subscribe("s", json!(["x.*"]), json!("earliest"))).await;
    assert_eq!(by_topic(&socket.messages("s", 1).await)["x.a"], [0]);
    socket.is_quiet_for(Duration::from_millis(50)).await;
    socket.close().await;
    node.stop().await.expect("stops");
}
