//! Nodes among others: who lives, and how soon one hears of what another did.

mod kill;
mod notify;
mod registry;

use std::time::{Duration, Instant};

use postrider::lifecycle::Lifecycle;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{Answer, Client, eventually, soon};

/// A metric of this process: of all its nodes together.
fn metric(name: &str) -> f64 {
    let all = postrider::telemetry::metrics::render();
    let of_name = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    all.lines().find_map(of_name).unwrap_or_else(|| panic!("no metric {name}"))
}

/// Runs a request to its end, which is told with its answer.
fn timed<F>(request: F) -> JoinHandle<(Answer, Instant)>
where
    F: Future<Output = Answer> + Send + 'static,
{
    Lifecycle::new().spawn(async move { (request.await, Instant::now()) })
}

/// Completes when so many requests wait for news, on all nodes together.
async fn are_parked(count: f64) {
    eventually("the requests wait", async || {
        (metric("postrider_read_parked") == count).then_some(())
    })
    .await;
}

/// How long after a publish through `writer` was answered a read that waited on `reader` was.
async fn wake(writer: &Client, reader: &Client) -> Duration {
    let (_, high) = reader.watermarks("orders", 0).await;
    let client = reader.clone();
    let parked =
        timed(async move { client.read("orders", 0, &format!("from={high}&wait=20s")).await });
    are_parked(1.0).await;
    let at = writer.publish("orders", json!([{"value": high, "partition": 0}])).await;
    let published = Instant::now();
    let (answer, answered) = soon("the read is answered", parked).await.expect("no panic");
    let message = &answer.ok()["messages"][0];
    assert_eq!((message["offset"].as_i64(), message["value"].as_i64()), (Some(high), Some(high)));
    assert_eq!(at, [(0, high)]);
    answered.saturating_duration_since(published)
}

/// The one in the middle: what a busy machine does to a single one is not the point.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
