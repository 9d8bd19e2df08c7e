//! What a publish can be told to do once, or only at one place.

mod expect_offset;
mod keys;
mod producers;
mod prune;

use reqwest::Method;
use serde_json::Value;

use crate::support::{Answer, TwoNodes};

const ORDERS: &str = "/v1/topics/orders/messages";

impl TwoNodes {
    /// Publishes to `orders` through one of the nodes.
    async fn publish(&self, node: usize, body: &Value) -> Answer {
        self.clients[node].json(Method::POST, ORDERS, body).await
    }
}
