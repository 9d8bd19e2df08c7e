//! Topics over REST: settings, publishing, reading.

use serde_json::json;

use crate::support::{Node, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_published_and_read() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1})).await;
    assert_eq!(client.publish("orders", json!([{"key": "a", "value": 1}])).await, [(0, 0)]);
    let read = client.read_all("orders", 0).await;
    assert_eq!(read[0]["value"], 1);
    node.stop().await.expect("stops");
}
