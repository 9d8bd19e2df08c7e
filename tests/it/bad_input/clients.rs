//! Clients that lie, stop in the middle, or do nothing at all.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Scene;
use crate::support::{eventually, soon};

fn request(body: &str, length: usize) -> String {
    format!(
        "POST /v1/topics/orders/messages HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

async fn connect(scene: &Scene) -> TcpStream {
    soon("a connection", TcpStream::connect(scene.node.address())).await.expect("it listens")
}

/// Sends bytes and no more, and returns what came back until the node closed.
async fn exchange(scene: &Scene, bytes: &str) -> String {
    let mut stream = connect(scene).await;
    stream.write_all(bytes.as_bytes()).await.expect("taken");
    stream.shutdown().await.expect("half closed");
    let mut read = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut read)).await;
    String::from_utf8_lossy(&read).into_owned()
}

/// The node still serves, and the database has nothing left of anybody who went.
async fn is_well(scene: &Scene) {
    let open = "select count(*) from pg_stat_activity
        where datname = current_database() and state like 'idle in transaction%'";
    eventually("no session stays in a transaction", async || {
        (scene.database.number(open).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_length_that_lies_changes_nothing() {
    let scene = Scene::new().await;
    let body = r#"{"messages":[{"value":1,"partition":0}]}"#;
    // More is promised than comes: it never was a whole request.
    for more in [1, 100, 1_000_000] {
        let told = exchange(&scene, &request(body, body.len() + more)).await;
        assert!(!told.contains(" 200 "), "{told}");
    }
    // Less is promised: the body is cut, and its rest is no request.
    for less in [1, 10, body.len()] {
        let told = exchange(&scene, &request(body, body.len() - less)).await;
        assert!(told.contains(" 400 ") && told.contains("malformed"), "{told}");
        assert!(!told.contains(" 200 "), "{told}");
    }
    let both = request(body, body.len()).replace("\r\n\r\n", "\r\ncontent-length: 3\r\n\r\n");
    assert!(exchange(&scene, &both).await.contains(" 400 "));
    scene.is_unchanged().await;
    is_well(&scene).await;
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_last_byte_has_published_nothing() {
    let scene = Scene::new().await;
    let body = r#"{"messages":[{"value":"a value","key":"k","partition":0}]}"#;
    let whole = request(body, body.len());
    for end in 1..whole.len() {
        let mut stream = connect(&scene).await;
        stream.write_all(&whole.as_bytes()[..end]).await.expect("taken");
        drop(stream);
    }
    is_well(&scene).await;
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_answer_has_published_once_or_not() {
    let scene = Scene::new().await;
    let count = 300;
    for n in 0..count {
        let body = format!("{{\"messages\":[{{\"value\":{n},\"partition\":0}}]}}");
        let mut stream = connect(&scene).await;
        stream.write_all(request(&body, body.len()).as_bytes()).await.expect("taken");
        if n % 3 == 0 {
            // A reset instead of an end.
            stream.set_zero_linger().expect("set");
        }
        drop(stream);
    }
    // What is in the log when a message that was sent after all of them is acknowledged.
    let last = scene.client.publish("orders", json!([{"value": count, "partition": 0}])).await;
    eventually("the requests end", async || {
        let (_, high) = scene.client.watermarks("orders", 0).await;
        (high > last[0].1).then_some(())
    })
    .await;
    let read = scene.client.read_all("orders", 0).await;
    let mut values: Vec<i64> =
        read.iter().skip(3).map(|message| message["value"].as_i64().expect("a number")).collect();
    for (at, message) in read.iter().enumerate() {
        assert_eq!(message["offset"], at as i64);
    }
    let published = values.len();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), published, "a message is there twice");
    assert!(values.iter().all(|value| (0..=count).contains(value)));
    is_well(&scene).await;
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_bodies_hold_up_nobody_and_publish_nothing() {
    let scene = Scene::new().await;
    let body = r#"{"messages":[{"value":1,"partition":0}]}"#;
    let whole = request(body, body.len());
    let mut slow = Vec::new();
    for n in 0..100 {
        let mut stream = connect(&scene).await;
        let half = whole.len() * (n % 10) / 10;
        stream.write_all(&whole.as_bytes()[..half]).await.expect("taken");
        slow.push(stream);
    }
    let served = tokio::time::timeout(Duration::from_secs(2), scene.is_unchanged()).await;
    assert!(served.is_ok(), "neighbours wait for slow clients");
    for stream in &mut slow {
        // A drop more, which completes nothing.
        let _ = stream.write_all(b"x").await;
    }
    drop(slow);
    is_well(&scene).await;
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_connections_leave_the_log_to_their_neighbours() {
    let scene = Scene::new().await;
    let mut idle = Vec::new();
    for _ in 0..2_000 {
        idle.push(connect(&scene).await);
    }
    for offset in 3..103 {
        let publish = scene.client.publish("orders", json!([{"value": 1, "partition": 0}]));
        let at = tokio::time::timeout(Duration::from_secs(2), publish).await;
        assert_eq!(at.expect("served"), [(0, offset)]);
    }
    let read: Vec<Value> = scene.client.read_all("orders", 0).await;
    assert_eq!(read.len(), 103);
    drop(idle);
    scene.node.stop().await.expect("stops");
}
