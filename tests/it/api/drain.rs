//! What a stop does to connections.

use std::time::Duration;

use postrider::api::{accept::AcceptSettings, extract::Bodies};
use tokio::net::TcpStream;

use super::{Node, get_of, soon};

#[tokio::test]
async fn a_drain_finishes_what_runs_and_closes_what_rests() {
    let node = Node::usual().await;
    let mut idle = node.connect().await;
    idle.send(get_of("/healthz")).await;
    assert_eq!(idle.answer().await.expect("an answer").status, 200);
    let mut fresh = node.connect().await;
    node.is_well().await;
    let mut running = node.connect().await;
    running.send(get_of("/wait")).await;
    soon(node.shared.entered.acquire()).await.expect("open").forget();

    node.shared.lifecycle.stop();
    // For a moment more it takes requests, each of which ends its connection.
    let mut late = node.connect().await;
    late.send(get_of("/healthz")).await;
    let answer = late.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    late.closed().await;
    idle.closed().await;
    fresh.closed().await;
    assert!(soon(TcpStream::connect(node.address)).await.is_err(), "it still listens");
    assert!(!node.served.is_finished(), "it did not wait for what runs");

    node.shared.gate.add_permits(1);
    let answer = running.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "waited"));
    running.closed().await;
    soon(node.served).await.expect("no panic");
    soon(node.shared.lifecycle.finished()).await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let settings =
        AcceptSettings { drain_timeout: Duration::from_millis(100), ..AcceptSettings::default() };
    let node = Node::start(settings, Bodies::default()).await;
    let mut running = node.connect().await;
    running.send(get_of("/wait")).await;
    soon(node.shared.entered.acquire()).await.expect("open").forget();
    node.shared.lifecycle.stop();
    running.closed().await;
    soon(node.served).await.expect("no panic");
    soon(node.shared.lifecycle.finished()).await;
}

#[tokio::test]
async fn a_second_stop_ends_at_once() {
    let node = Node::usual().await;
    let mut running = node.connect().await;
    running.send(get_of("/wait")).await;
    soon(node.shared.entered.acquire()).await.expect("open").forget();
    node.shared.lifecycle.stop();
    node.shared.lifecycle.stop();
    running.closed().await;
    soon(node.served).await.expect("no panic");
}
