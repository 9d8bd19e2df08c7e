//! The standby is stopped, shut down, never was, or is taken away.

use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use super::{high, node_on};
use crate::support::{Answer, Client, Node, Pair, TestDatabase, eventually};

/// How soon everything is answered, whatever that is.
const SOON: Duration = Duration::from_secs(5);

async fn publish(client: &Client, topic: &str) -> Answer {
    let since = Instant::now();
    let body = json!({"messages": [{"value": 1}]});
    let answer = client.json(Method::POST, &format!("/v1/topics/{topic}/messages"), &body).await;
    assert!(since.elapsed() < SOON, "{topic}: {:?}", since.elapsed());
    answer
}

async fn is_published(client: &Client, topic: &str, durability: &str) -> i64 {
    let answer = publish(client, topic).await.ok();
    assert_eq!(answer["durability"], durability, "{answer}");
    answer["results"][0]["offset"].as_i64().expect("an offset")
}

async fn put_both(client: &Client) {
    client.put_topic("local", json!({"partitions": 1})).await;
    client.put_topic("both", json!({"partitions": 1, "durability": "replicated"})).await;
}

/// A publish that waits for the standby is told that nobody knows, and those behind it that
/// nothing happened; nothing of `local` notices.
async fn is_held_up(client: &Client) {
    let locals = async {
        for _ in 0..20 {
            let since = Instant::now();
            is_published(client, "local", "local").await;
            assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
            assert!(high(client, "both").await.is_number(), "readers are not held up");
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    };
    let first = publish(client, "both");
    let ((), answer) = tokio::join!(locals, first);
    answer.problem(504, "outcome_unknown", "unknown");
}

/// What comes behind a publish that waits, and what else would need its partition.
async fn waits_behind(client: &Client) {
    let behind = publish(client, "both").await;
    behind.problem(503, "database_unavailable", "none");
    let made = json!({"partitions": 1});
    let put = client.json(Method::PUT, "/v1/topics/another", &made).await;
    assert!(put.status == 201 || put.status == 200, "{put:?}");
    let deleted = client.request(Method::DELETE, "/v1/topics/both");
    client.send(deleted).await.problem(503, "database_unavailable", "none");
}

async fn waiting(pair: &Pair) -> i64 {
    pair.number("select count(*) from pg_stat_activity where wait_event = 'SyncRep'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_standby_holds_up_replicated_topics_only() {
    let mut pair = Pair::start().await;
    let node = node_on(&pair).await;
    let client = node.client();
    put_both(&client).await;
    assert_eq!(is_published(&client, "both", "replicated").await, 0);

    for shut_down in [false, true] {
        let before = high(&client, "both").await;
        if shut_down {
            pair.shut_standby_down();
        } else {
            pair.signal_standby(Signal::STOP);
        }
        is_held_up(&client).await;
        if shut_down {
            waits_behind(&client).await;
        }
        assert_eq!(high(&client, "both").await, before, "nobody reads what is not held");
        assert_eq!(waiting(&pair).await, 1, "one session waits, however often one publishes");
        if shut_down {
            pair.start_standby();
        } else {
            pair.signal_standby(Signal::CONT);
        }
        // What nobody knew of is there now, once.
        eventually("the wait ends", async || {
            (high(&client, "both").await.as_i64()? == before.as_i64()? + 1).then_some(())
        })
        .await;
        let offset = is_published(&client, "both", "replicated").await;
        assert_eq!(Some(offset), before.as_i64().map(|before| before + 1));
        assert_eq!(waiting(&pair).await, 0);
    }
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_standby_a_replicated_topic_is_refused() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    let wanted = json!({"partitions": 1, "durability": "replicated"});
    let put = client.json(Method::PUT, "/v1/topics/both", &wanted).await;
    let problem = put.problem(503, "replication_unavailable", "none");
    assert_eq!(problem["errors"][0]["pointer"], "/durability", "{problem}");
    client.get("/v1/topics/both").await.problem(404, "not_found", "none");
    client.put_topic("local", json!({"partitions": 1})).await;
    let patch = json!({"durability": "replicated"});
    let patch = client.json(Method::PATCH, "/v1/topics/local", &patch).await;
    patch.problem(503, "replication_unavailable", "none");
    assert_eq!(client.get("/v1/topics/local").await.ok()["durability"], "local");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_replicated_from_a_change_on() {
    let pair = Pair::start().await;
    let node = node_on(&pair).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1})).await;
    is_published(&client, "orders", "local").await;
    for durability in ["replicated", "local"] {
        let patch = json!({"durability": durability});
        let patched = client.json(Method::PATCH, "/v1/topics/orders", &patch).await;
        assert_eq!(patched.ok()["durability"], durability);
        is_published(&client, "orders", durability).await;
    }
    node.stop().await.expect("stops");
}

/// The names of the standbys go while a commit waits for them: PostgreSQL lets go of it without
/// a word, and so the node says that it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_taken_away_is_never_said_to_hold_anything() {
    let pair = Pair::start().await;
    let node = node_on(&pair).await;
    let client = node.client();
    put_both(&client).await;
    is_published(&client, "both", "replicated").await;
    pair.signal_standby(Signal::STOP);
    let taken = async {
        eventually("it waits", async || (waiting(&pair).await == 1).then_some(())).await;
        pair.set("synchronous_standby_names", "").await;
    };
    let (answer, ()) = tokio::join!(publish(&client, "both"), taken);
    answer.problem(504, "outcome_unknown", "unknown");
    publish(&client, "both").await.problem(503, "replication_unavailable", "none");
    is_published(&client, "local", "local").await;
    let put = json!({"partitions": 1, "durability": "replicated"});
    let put = client.json(Method::PUT, "/v1/topics/both", &put).await;
    put.problem(503, "replication_unavailable", "none");

    pair.signal_standby(Signal::CONT);
    pair.set("synchronous_standby_names", "*").await;
    pair.is_followed().await;
    assert_eq!(is_published(&client, "both", "replicated").await, 2);
    node.stop().await.expect("stops");
}

/// The wait is cancelled by hand: the answer is that of a commit, with a warning.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_wait_acknowledges_nothing() {
    let pair = Pair::start().await;
    let node = node_on(&pair).await;
    let client = node.client();
    put_both(&client).await;
    is_published(&client, "both", "replicated").await;
    pair.signal_standby(Signal::STOP);
    let cancelled = async {
        eventually("it waits", async || (waiting(&pair).await == 1).then_some(())).await;
        let sql = "select count(pg_cancel_backend(pid)) from pg_stat_activity
            where wait_event = 'SyncRep'";
        assert_eq!(pair.number(sql).await, 1);
        // It waits once more, for a commit that covers the first.
        eventually("it is read", async || {
            (high(&client, "both").await.as_i64() == Some(2)).then_some(())
        })
        .await;
        eventually("it waits again", async || (waiting(&pair).await == 1).then_some(())).await;
    };
    let (answer, ()) = tokio::join!(publish(&client, "both"), cancelled);
    answer.problem(504, "outcome_unknown", "unknown");
    pair.signal_standby(Signal::CONT);
    assert_eq!(is_published(&client, "both", "replicated").await, 2);
    node.stop().await.expect("stops");
}
