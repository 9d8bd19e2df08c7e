//! Topics over REST: settings, publishing, reading, and what several nodes know of each other.

mod encodings;
mod log_file;
mod placement;
mod polls;
mod read;
mod settings;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Node, TestDatabase};

/// Two nodes on one database, and a client of each.
struct Pair {
    nodes: [Node; 2],
    clients: [Client; 2],
    database: TestDatabase,
}

impl Pair {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let nodes = [Node::on(&database).await, Node::on(&database).await];
        let clients = [nodes[0].client(), nodes[1].client()];
        Self { nodes, clients, database }
    }

    async fn stop(self) {
        for node in self.nodes {
            node.stop().await.expect("stops");
        }
    }
}

/// One node and its client.
async fn one() -> (TestDatabase, Node, Client) {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    (database, node, client)
}

/// The field of each message.
fn each<'a>(messages: &'a [Value], field: &str) -> Vec<&'a Value> {
    messages.iter().map(|message| &message[field]).collect()
}

/// The one in the middle: what a busy machine does to a single one is not the point.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A message for partition 0.
fn message(value: impl Into<Value>) -> Value {
    json!([{"value": value.into(), "partition": 0}])
}
