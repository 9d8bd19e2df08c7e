//! A synchronous standby: what `replicated` says, what happens when the standby is away, and
//! when it takes over.

mod incarnation;
mod local;
mod promotion;
mod standby;

use postrider::model::Clock;
use serde_json::Value;

use crate::support::{Client, Node, Pair};

/// A node on both servers.
async fn node_on(pair: &Pair) -> Node {
    let node = Node::start(&pair.url(), Clock::default()).await;
    node.is_ready().await;
    node
}

/// The high watermark of partition 0.
async fn high(client: &Client, topic: &str) -> Value {
    client.read(topic, 0, "from=latest").await.ok()["high_watermark"].take()
}
