//! A topic's own limits: what they hide, when, from whom, and what becomes of it.

mod freeze;
mod limits;
mod purge;
mod racing;

use serde_json::{Value, json};

use crate::support::Client;

/// Messages `from` and on, as long as a reader of partition 0 can count.
fn batch(from: i64, count: i64) -> Value {
    (from..from + count).map(|n| json!({"value": n, "partition": 0})).collect()
}

/// Changes a topic's settings.
async fn patch(client: &Client, topic: &str, settings: Value) {
    let path = format!("/v1/topics/{topic}");
    let changed = client.json(reqwest::Method::PATCH, &path, &settings).await;
    assert_eq!(changed.status, 200, "{changed:?}");
}

async fn delete(client: &Client, topic: &str) {
    let path = format!("/v1/topics/{topic}");
    let gone = client.send(client.request(reqwest::Method::DELETE, &path)).await;
    assert_eq!(gone.status, 204);
}
