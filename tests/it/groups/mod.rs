//! Consumer groups over HTTP, sentence by sentence.

mod life;

use serde_json::{Value, json};

use crate::support::{Client, Node, TestDatabase};

/// A node on a database of its own.
async fn one() -> (TestDatabase, Node, Client) {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    (database, node, client)
}

/// Two nodes on one database.
async fn two() -> (TestDatabase, [Node; 2], [Client; 2]) {
    let database = TestDatabase::new().await;
    let nodes = [Node::on(&database).await, Node::on(&database).await];
    let clients = [nodes[0].client(), nodes[1].client()];
    (database, nodes, clients)
}

/// Publishes `count` messages into one partition, numbered from `from` on.
async fn fill(client: &Client, topic: &str, partition: u64, from: i64, count: i64) {
    let message = |number: i64| json!({"value": number, "partition": partition});
    let messages: Vec<Value> = (from..from + count).map(message).collect();
    client.publish(topic, json!(messages)).await;
}

/// A join's body for one topic.
fn orders() -> Value {
    json!({"topics": ["orders"]})
}

/// What a poll says that looks and does not wait.
fn look() -> Value {
    json!({"wait": "0s"})
}
