//! Topics as resources.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{TwoNodes, one};
use crate::support::{Client, Load, within};

async fn put(client: &Client, topic: &str, settings: Value) -> (u16, Value) {
    let answer = client.json(Method::PUT, &format!("/v1/topics/{topic}"), &settings).await;
    (answer.status, answer.value())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_confirmed_changed_and_deleted() {
    let (_database, node, client) = one().await;
    let (status, made) = put(&client, "orders", json!({})).await;
    assert_eq!(status, 201);
    let mut defaults = json!({
        "name": "orders", "partitions": 4, "retention": "7d", "retention_bytes": null,
        "durability": "local", "compression": "none", "max_message_bytes": 1_048_576,
        "keyless": "sticky",
    });
    defaults["created_at"] = made["created_at"].clone();
    assert_eq!(made, defaults);
    assert_eq!(put(&client, "orders", json!({"partitions": 4})).await, (200, defaults.clone()));
    assert_eq!(client.get("/v1/topics/orders").await.ok(), defaults);

    let settings = json!({
        "partitions": 9, "retention": "36h", "compression": "zstd",
        "max_message_bytes": 1_000, "keyless": "round_robin",
    });
    let changed = client.json(Method::PATCH, "/v1/topics/orders", &settings).await.ok();
    for (name, value) in settings.as_object().expect("an object") {
        assert_eq!(changed[name], *value, "{name}");
    }
    assert_eq!(client.get("/v1/topics/orders").await.ok(), changed);
    let back = json!({"retention": null, "keyless": null});
    let changed = client.json(Method::PATCH, "/v1/topics/orders", &back).await.ok();
    assert_eq!((&changed["retention"], &changed["keyless"]), (&json!("7d"), &json!("sticky")));
    assert_eq!((&changed["partitions"], &changed["compression"]), (&json!(9), &json!("zstd")));
    let forever = json!({"retention": "forever"});
    let changed = client.json(Method::PATCH, "/v1/topics/orders", &forever).await.ok();
    assert_eq!(changed["retention"], "forever");

    let gone = client.send(client.request(Method::DELETE, "/v1/topics/orders")).await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    client.get("/v1/topics/orders").await.problem(404, "not_found", "none");
    let again = client.send(client.request(Method::DELETE, "/v1/topics/orders")).await;
    again.problem(404, "not_found", "none");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_listed_by_name_page_by_page_and_by_prefix() {
    let (_database, node, client) = one().await;
    let mut names = ["b", "a.2", "a.1", "B", "a", "a-x", "~", "0", "a.10"];
    for name in names {
        client.put_topic(name, json!({"partitions": 1})).await;
    }
    names.sort_unstable();
    for size in [1, 2, 4, 9, 1_000] {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let page = client.get(&format!("/v1/topics?page_size={size}{token}")).await.ok();
            let items = page["items"].as_array().expect("items");
            assert!(items.len() <= size && !items.is_empty(), "{page}");
            found.extend(items.iter().map(|item| item["name"].as_str().expect("text").to_owned()));
            let Some(next) = page["next_page_token"].as_str() else { break };
            token = format!("&page_token={next}");
        }
        assert_eq!(found, names, "pages of {size}");
    }
    let listed = client.get("/v1/topics?prefix=a.").await.ok();
    let items = listed["items"].as_array().expect("items").iter();
    let found: Vec<&str> = items.map(|item| item["name"].as_str().expect("text")).collect();
    assert_eq!(found, ["a.1", "a.10", "a.2"]);
    assert_eq!(listed["items"][0], client.get("/v1/topics/a.1").await.ok());
    let none = json!({"items": [], "next_page_token": null});
    assert_eq!(client.get("/v1/topics?prefix=nothing").await.ok(), none);
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_grow_and_another_node_sees_it() {
    let pair = TwoNodes::new().await;
    let [a, b] = &pair.clients;
    a.put_topic("orders", json!({"partitions": 2})).await;
    let to = |partition: u32| json!([{"value": 1, "partition": partition}]);
    assert_eq!(b.publish("orders", to(1)).await, [(1, 0)]);
    let grown = json!({"partitions": 5});
    assert_eq!(a.json(Method::PATCH, "/v1/topics/orders", &grown).await.status, 200);
    assert_eq!(a.publish("orders", to(4)).await, [(4, 0)]);
    within(Duration::from_secs(2), "the other node publishes there too", async || {
        let body = json!({"messages": to(4)});
        let answer = b.json(Method::POST, "/v1/topics/orders/messages", &body).await;
        (answer.status == 200).then(|| assert_eq!(answer.results(), [(4, 1)]))
    })
    .await;
    assert_eq!(b.read_all("orders", 4).await.len(), 2);
    assert_eq!(b.read_all("orders", 1).await.len(), 1);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_retention_class_while_publishing_loses_nothing() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 3})).await;
    let load = Load::start(&pair.clients, "orders", 6, 10);
    // There and back again: a partition comes to buckets that it was in before.
    for (turn, retention) in ["1h", "7d", "30d", "1h", "forever", "7d", "1d"].iter().enumerate() {
        let before = load.acked();
        within(Duration::from_secs(20), "publishes go on", async || {
            (load.acked() > before + 10).then_some(())
        })
        .await;
        let client = &pair.clients[turn % 2];
        let change = json!({"retention": retention});
        assert_eq!(client.json(Method::PATCH, "/v1/topics/orders", &change).await.status, 200);
    }
    let told = load.stop().await;
    assert_eq!(told.problems, []);
    for client in &pair.clients {
        told.holds(client, "orders", 3).await;
    }
    let moves = pair.database.number("select count(*) from postrider.segments").await;
    assert!(moves >= 3 * 5, "only {moves} segments: the partitions did not move");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_begins_at_zero_on_every_node() {
    let pair = TwoNodes::new().await;
    let [a, b] = &pair.clients;
    for round in 0..3 {
        a.put_topic("orders", json!({"partitions": 1})).await;
        let first = json!([{"value": round}]);
        assert_eq!(a.publish("orders", first.clone()).await, [(0, 0)]);
        // The other node may still have the one before in memory: never its messages.
        assert_eq!(b.publish("orders", first).await, [(0, 1)]);
        for client in [a, b] {
            let read = client.read_all("orders", 0).await;
            assert_eq!(super::each(&read, "value"), [&json!(round), &json!(round)]);
        }
        let gone = b.send(b.request(Method::DELETE, "/v1/topics/orders")).await;
        assert_eq!(gone.status, 204);
        within(Duration::from_secs(2), "the first node knows", async || {
            (a.get("/v1/topics/orders").await.status == 404).then_some(())
        })
        .await;
    }
    pair.stop().await;
}
