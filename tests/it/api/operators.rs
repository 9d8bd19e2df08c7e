//! What operators ask.

use axum::extract::State;
use postrider::api::{error::ErrorCode, http::ops};

use super::{Node, get_of};

#[tokio::test]
async fn readiness_follows_the_probe_and_the_drain() {
    let node = Node::usual().await;
    node.is_well().await;
    let starting = node.ask(get_of("/readyz")).await;
    assert_eq!(starting.problem(503, "not_ready", "none")["detail"], "starting");

    node.shared.readiness.set_ready();
    assert_eq!(node.ask(get_of("/readyz")).await.text(), r#"{"status":"ready"}"#);

    node.shared.readiness.set_unready("the database does not answer");
    let unready = node.ask(get_of("/readyz")).await.problem(503, "not_ready", "none");
    assert_eq!(unready["detail"], "the database does not answer");

    node.shared.readiness.set_ready();
    node.shared.lifecycle.stop();
    let (lifecycle, readiness) = (node.shared.lifecycle, node.shared.readiness);
    let refused = ops::get_readiness(State(lifecycle), State(readiness)).await;
    assert_eq!(refused.expect_err("it drains").code, ErrorCode::Draining);
}

#[tokio::test]
async fn metrics_count_what_was_answered() {
    let node = Node::usual().await;
    node.ask(get_of("/nothing")).await;
    let answer = node.ask(get_of("/metrics")).await;
    let text = answer.text();
    let count = text.lines().find_map(|line| {
        line.strip_prefix("postrider_api_requests_total{status=\"4xx\"} ")?.parse::<u64>().ok()
    });
    assert!(count.is_some_and(|count| count >= 1), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in samples {
        assert!(line.starts_with("postrider_"), "{line}");
    }
}
