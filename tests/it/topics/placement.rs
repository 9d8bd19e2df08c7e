//! Which partition a message goes to.

use std::collections::{BTreeMap, BTreeSet};

use postrider::publish::partition_of_key;
use serde_json::{Value, json};

use super::one;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_where_kafka_would_put_it() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 12})).await;
    let keys: Vec<String> = (0..500).map(|n| format!("key-{n}")).collect();
    let messages: Vec<Value> = keys.iter().map(|key| json!({"key": key, "value": 1})).collect();
    let placed = client.publish("orders", json!(messages)).await;
    for (key, (partition, _)) in keys.iter().zip(&placed) {
        assert_eq!(*partition, partition_of_key(key.as_bytes(), 12), "{key}");
    }
    let used: BTreeSet<u32> = placed.iter().map(|(partition, _)| *partition).collect();
    assert_eq!(used.len(), 12);
    // Kafka's own vectors (UtilsTest.testMurmur2): 21 is -973932308, "foobar" -790332482.
    let known = json!([{"key": "21", "value": 1}, {"key": "foobar", "value": 1}]);
    let positive = |hash: i32| (hash & 0x7fff_ffff) as u32 % 12;
    let placed = client.publish("orders", known).await;
    assert_eq!([placed[0].0, placed[1].0], [positive(-973_932_308), positive(-790_332_482)]);
    // The same bytes, however they are written.
    let both = json!([{"key": "hi", "value": 1}, {"key_base64": "aGk=", "value": 1}]);
    let placed = client.publish("orders", both).await;
    assert_eq!(placed[0].0, placed[1].0);
    let request = client.request(reqwest::Method::POST, "/v1/topics/orders/messages/raw");
    let raw = client.send(request.header("postrider-key", "hi").body("1")).await;
    assert_eq!(raw.results()[0].0, placed[0].0);
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_partition_wins_over_the_key() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 3})).await;
    for partition in 0..3 {
        let message = json!([{"key": "same", "value": 1, "partition": partition}]);
        assert_eq!(client.publish("orders", message).await, [(partition, 0)]);
    }
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn sticky_messages_of_a_request_stay_together_and_requests_spread() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 4})).await;
    let mut used = BTreeMap::new();
    for _ in 0..40 {
        let placed = client.publish("orders", json!(vec![json!({"value": 1}); 5])).await;
        let partitions: BTreeSet<u32> = placed.iter().map(|(partition, _)| *partition).collect();
        assert_eq!(partitions.len(), 1, "{placed:?}");
        *used.entry(placed[0].0).or_insert(0) += 1;
    }
    assert_eq!(used.len(), 4, "{used:?}");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_messages_are_spread_evenly() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 4, "keyless": "round_robin"})).await;
    let placed = client.publish("orders", json!(vec![json!({"value": 1}); 400])).await;
    for partition in 0..4 {
        assert_eq!(placed.iter().filter(|(at, _)| *at == partition).count(), 100);
    }
    let mut used = BTreeMap::new();
    for _ in 0..40 {
        let placed = client.publish("orders", json!([{"value": 1}])).await;
        *used.entry(placed[0].0).or_insert(0) += 1;
    }
    assert_eq!(used.values().collect::<Vec<_>>(), [&10; 4]);
    node.stop().await.expect("stops");
}
