//! Reads that wait.

use std::time::{Duration, Instant};

use postrider::lifecycle::Lifecycle;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{TwoNodes, median, message, one};
use crate::support::{Answer, Client, eventually};

/// A parked read, and when it was answered.
fn park(client: &Client, query: &str) -> JoinHandle<(Answer, Instant)> {
    let (client, query) = (client.clone(), query.to_owned());
    Lifecycle::new().spawn(async move {
        let answer = client.read("orders", 0, &query).await;
        (answer, Instant::now())
    })
}

/// Publishes while one read is parked on `reader`, and says how long after the publish was sent
/// and after it was answered the read was answered.
async fn wake(writer: &Client, reader: &Client) -> (Duration, Duration) {
    let (_, high) = reader.watermarks("orders", 0).await;
    let parked = park(reader, &format!("from={high}&wait=20s"));
    // Nothing tells when it is parked; whether it waits already or looks just then is all the same.
    assert!(!parked.is_finished());
    let sent = Instant::now();
    let at = writer.publish("orders", message(high)).await;
    let published = Instant::now();
    let (answer, answered) = parked.await.expect("no panic");
    assert_eq!(answer.ok()["messages"][0]["offset"], at[0].1);
    (answered.duration_since(sent), answered.saturating_duration_since(published))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_read_is_woken_at_once_on_the_same_node() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut times = Vec::new();
    for _ in 0..21 {
        times.push(wake(&client, &client).await.1);
    }
    let typical = median(times);
    assert!(typical < Duration::from_millis(50), "{typical:?}");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_read_is_woken_within_400_ms_by_another_node() {
    let pair = TwoNodes::new().await;
    let [a, b] = &pair.clients;
    a.put_topic("orders", json!({"partitions": 1})).await;
    let mut times = Vec::new();
    for _ in 0..11 {
        times.push(wake(a, b).await.0);
        times.push(wake(b, a).await.0);
    }
    let typical = median(times);
    assert!(typical < Duration::from_millis(400), "{typical:?}");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_as_long_as_it_says_and_no_longer() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let since = Instant::now();
    let page = client.read("orders", 0, "from=latest&wait=300ms").await.ok();
    let took = since.elapsed();
    assert_eq!((&page["messages"], &page["next_offset"]), (&json!([]), &json!(0)));
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    client.publish("orders", message(1)).await;
    let since = Instant::now();
    let page = client.read("orders", 0, "from=0&wait=30s").await.ok();
    assert_eq!(page["messages"][0]["value"], 1);
    assert!(since.elapsed() < Duration::from_secs(5), "there was something to read");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_reads_hold_no_connection() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let parked: Vec<_> = (0..300).map(|_| park(&client, "from=0&wait=30s")).collect();
    let busy = "select count(*) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    let quiet = &format!("{busy} and state <> 'idle'");
    // All have come, and all have looked when nothing is being read any more.
    let mut quiet_times = 0;
    eventually("all are parked", async || {
        let metrics = client.get("/metrics").await;
        let open =
            metrics.text().lines().find_map(|l| l.strip_prefix("postrider_api_connections "));
        let have_come = open.and_then(|n| n.parse::<f64>().ok()).is_some_and(|n| n >= 300.0);
        let is_quiet = have_come && database.number(quiet).await == 0;
        quiet_times = if is_quiet { quiet_times + 1 } else { 0 };
        (quiet_times == 5).then_some(())
    })
    .await;
    assert!(!parked.iter().any(JoinHandle::is_finished));
    let sessions = database.number(busy).await;
    assert!(sessions <= 20, "{sessions} sessions for 300 parked reads");
    assert_eq!(client.get("/v1/topics/orders").await.status, 200);
    assert_eq!(client.publish("orders", message(7)).await, [(0, 0)]);
    for read in parked {
        let (answer, _) = read.await.expect("no panic");
        assert_eq!(answer.ok()["messages"][0]["value"], 7);
    }
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_topic_tells_parked_readers_on_both_nodes() {
    let pair = TwoNodes::new().await;
    let mut times = Vec::new();
    for _ in 0..3 {
        pair.clients[0].put_topic("orders", json!({"partitions": 1})).await;
        let mut parked = Vec::new();
        for client in &pair.clients {
            eventually("the node knows the topic", async || {
                (client.read("orders", 0, "").await.status == 200).then_some(())
            })
            .await;
            parked.push(park(client, "from=latest&wait=20s"));
        }
        let gone =
            pair.clients[0].send(pair.clients[0].request(Method::DELETE, "/v1/topics/orders"));
        assert_eq!(gone.await.status, 204);
        let since = Instant::now();
        let mut longest = Duration::ZERO;
        for read in parked {
            let (answer, at) = read.await.expect("no panic");
            answer.problem(404, "not_found", "none");
            longest = longest.max(at.saturating_duration_since(since));
        }
        times.push(longest);
    }
    let typical = median(times);
    assert!(typical < Duration::from_secs(1), "{typical:?}");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_parked_reads_and_flushes_what_waits() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let parked = park(&client, "from=0&wait=30s");
    client.publish("orders", message(1)).await;
    let again = park(&client, "from=1&wait=30s");
    eventually("the first is answered", async || parked.is_finished().then_some(())).await;
    eventually("the second waits", async || {
        let metrics = postrider::telemetry::metrics::render();
        metrics.contains("\npostrider_read_parked 1\n").then_some(())
    })
    .await;
    node.stop().await.expect("stops");
    let (answer, _) = again.await.expect("no panic");
    assert_eq!(answer.ok()["messages"], json!([]));
    let rows = database.number("select count(*) from postrider.batches").await;
    assert_eq!(rows, 1);
}
