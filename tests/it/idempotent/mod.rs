//! What a publish can be told to do once, or only at one place.

mod expect_offset;
mod keys;
mod producers;
mod prune;

use reqwest::Method;
use serde_json::Value;

use crate::support::{Answer, Client, Node, TestDatabase};

const ORDERS: &str = "/v1/topics/orders/messages";

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

    /// Publishes to `orders` through one of the nodes.
    async fn publish(&self, node: usize, body: &Value) -> Answer {
        self.clients[node].json(Method::POST, ORDERS, body).await
    }

    async fn stop(self) {
        for node in self.nodes {
            node.stop().await.expect("stops");
        }
    }
}
