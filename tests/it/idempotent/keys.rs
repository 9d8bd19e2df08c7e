//! `Idempotency-Key`: the first answer is given again, byte for byte.

use futures_util::future::join_all;
use postrider::lifecycle::Lifecycle;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use super::{ORDERS, TwoNodes};
use crate::support::{Answer, Client, eventually};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const RAW: &str = "/v1/topics/orders/messages/raw";

async fn keyed(client: &Client, path: &str, key: &str, (kind, body): (&str, &str)) -> Answer {
    let request = client.request(Method::POST, path).body(body.to_owned());
    client.send(request.header("content-type", kind).header("idempotency-key", key)).await
}

fn is_replay_of(answer: &Answer, first: &Answer) {
    assert_eq!((answer.status, answer.text()), (200, first.text()), "{answer:?}");
    assert_eq!(answer.headers["idempotency-replayed"], "true");
    assert_eq!(answer.headers["content-type"], first.headers["content-type"]);
    assert!(!first.headers.contains_key("idempotency-replayed"), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_replays_the_first_answer_through_any_node_also_after_the_topic_grew() {
    let pair = TwoNodes::new().await;
    let [one, two] = &pair.clients;
    one.put_topic("orders", json!({"partitions": 3})).await;
    let batch = r#"{"messages":[{"key":"a","value":1},{"key":"b","value":2},{"value":3}]}"#;
    let first = keyed(one, ORDERS, "batch", (JSON, batch)).await;
    let raw = keyed(one, RAW, "batch", ("text/plain", "hello")).await;
    assert_eq!((first.results().len(), raw.results().len()), (3, 1));
    for grown in [false, true] {
        if grown {
            one.json(Method::PATCH, "/v1/topics/orders", &json!({"partitions": 9})).await.ok();
        }
        for client in [one, two] {
            is_replay_of(&keyed(client, ORDERS, "batch", (JSON, batch)).await, &first);
            is_replay_of(&keyed(client, RAW, "batch", ("text/plain", "hello")).await, &raw);
        }
    }
    // Another key is another request.
    let other = keyed(two, ORDERS, "other", (JSON, batch)).await;
    assert_ne!(other.text(), first.text());
    let mut count = 0;
    for partition in 0..9 {
        count += one.read_all("orders", partition).await.len();
    }
    assert_eq!(count, 7);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_body_is_refused() {
    let pair = TwoNodes::new().await;
    let [one, two] = &pair.clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    let body = r#"{"messages":[{"value":1}]}"#;
    keyed(one, ORDERS, "k", (JSON, body)).await.results();
    let other = r#"{"messages":[{"value":2}]}"#;
    for client in [one, two] {
        keyed(client, ORDERS, "k", (JSON, other)).await.problem(422, "body_differs", "none");
    }
    // What makes a raw message is more than its body.
    keyed(one, RAW, "k", ("text/plain", "1")).await.results();
    keyed(two, RAW, "k", (JSON, "1")).await.problem(422, "body_differs", "none");
    let request = one.request(Method::POST, RAW).body("1").header("content-type", "text/plain");
    let request = request.header("idempotency-key", "k").header("postrider-key", "x");
    one.send(request).await.problem(422, "body_differs", "none");
    assert_eq!(one.watermarks("orders", 0).await, (0, 2));
    pair.stop().await;
}

/// A refusal leaves no record: there is nothing that it protects.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_can_come_again_with_its_key() {
    let pair = TwoNodes::new().await;
    let [one, two] = &pair.clients;
    let body = r#"{"messages":[{"value":1,"partition":0}],"expect_offset":1}"#;
    keyed(one, ORDERS, "k", (JSON, body)).await.problem(404, "not_found", "none");
    one.put_topic("orders", json!({"partitions": 1})).await;
    keyed(two, ORDERS, "k", (JSON, body)).await.problem(412, "wrong_offset", "none");
    one.publish("orders", json!([{"value": 0}])).await;
    let first = keyed(two, ORDERS, "k", (JSON, body)).await;
    assert_eq!(first.results(), [(0, 1)]);
    is_replay_of(&keyed(one, ORDERS, "k", (JSON, body)).await, &first);
    // A topic that is made again has keys of its own.
    let gone = one.request(Method::DELETE, "/v1/topics/orders");
    assert_eq!(one.send(gone).await.status, 204);
    one.put_topic("orders", json!({"partitions": 1})).await;
    keyed(one, ORDERS, "k", (JSON, body)).await.problem(412, "wrong_offset", "none");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_key_is_refused() {
    let pair = TwoNodes::new().await;
    let [one, _] = &pair.clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    let body = r#"{"messages":[{"value":1}]}"#;
    for key in ["", "a b", "ä", &"k".repeat(256)] {
        keyed(one, ORDERS, key, (JSON, body)).await.problem(422, "invalid", "none");
        keyed(one, RAW, key, (JSON, "1")).await.problem(422, "invalid", "none");
        keyed(one, ORDERS, key, (NDJSON, r#"{"value":1}"#)).await.problem(422, "invalid", "none");
    }
    let two = one.request(Method::POST, ORDERS).body(body).header("idempotency-key", "a");
    one.send(two.header("idempotency-key", "b")).await.problem(422, "invalid", "none");
    let both = r#"{"messages":[{"value":1}],
        "producer":{"id":"00000000-0000-4000-8000-000000000000","sequence":1}}"#;
    keyed(one, ORDERS, "k", (JSON, both)).await.problem(422, "invalid", "none");
    assert_eq!(one.watermarks("orders", 0).await, (0, 0));
    keyed(one, ORDERS, &"k".repeat(255), (JSON, body)).await.results();
    pair.stop().await;
}

/// While the first runs, the same node says so; another node waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_first_request_runs_is_told_so() {
    let pair = TwoNodes::new().await;
    let [one, two] = &pair.clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    let body = r#"{"messages":[{"value":1}]}"#;
    let mut session = pair.database.connect().await;
    let mut held = session.begin().await.expect("begins");
    held.execute("select from postrider.partitions for update").await.expect("locks");
    let first = Lifecycle::new().spawn({
        let client = one.clone();
        async move { keyed(&client, ORDERS, "k", (JSON, body)).await }
    });
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the first one waits for the lock", async || {
        (pair.database.number(waiting).await == 1).then_some(())
    })
    .await;
    let other = r#"{"messages":[{"value":2}]}"#;
    for body in [body, other] {
        let told = keyed(one, ORDERS, "k", (JSON, body)).await;
        assert_eq!(told.problem(409, "in_progress", "none")["retryable"], true);
    }
    let release = async { held.rollback().await.expect("lets go") };
    let (elsewhere, ()) = tokio::join!(keyed(two, ORDERS, "k", (JSON, body)), release);
    let first = first.await.expect("answered");
    let told = [&first, &elsewhere].map(|answer| answer.headers.get("idempotency-replayed"));
    assert!(told[0].is_some() != told[1].is_some(), "{first:?} {elsewhere:?}");
    assert_eq!(first.text(), elsewhere.text());
    assert_eq!(one.watermarks("orders", 0).await, (0, 1));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_with_one_key_are_one_append() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 4})).await;
    for round in 0..10 {
        let body = json!({"messages": [{"value": round}]}).to_string();
        let key = format!("round-{round}");
        let sent = (0..16).map(|n| keyed(&pair.clients[n % 2], ORDERS, &key, (JSON, &body)));
        let answers = join_all(sent).await;
        let good: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert!(good.windows(2).all(|two| two[0].text() == two[1].text()), "{good:?}");
        let firsts = good.iter().filter(|a| !a.headers.contains_key("idempotency-replayed"));
        assert_eq!(firsts.count(), 1);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.problem(409, "in_progress", "none");
        }
    }
    let mut count = 0;
    for partition in 0..4 {
        count += pair.clients[1].read_all("orders", partition).await.len();
    }
    assert_eq!(count, 10);
    pair.stop().await;
}

/// An upload that broke off goes on where it stopped: each commit has its own record.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_lines_that_is_sent_again_goes_on_where_it_stopped() {
    let pair = TwoNodes::new().await;
    let [one, two] = &pair.clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    let lines: Vec<String> = (0..2_500).map(|n| format!("{{\"value\":{n}}}\n")).collect();
    let begun = keyed(one, ORDERS, "upload", (NDJSON, &lines[..2_000].concat())).await;
    assert_eq!(begun.text().lines().count(), 2_000);
    let whole = lines.concat();
    let again = keyed(two, ORDERS, "upload", (NDJSON, &whole)).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.text().lines().count(), 2_500);
    assert!(again.text().starts_with(begun.text()));
    let read: Vec<Value> =
        one.read_all("orders", 0).await.iter().map(|message| message["value"].clone()).collect();
    assert_eq!(read, (0..2_500).map(Value::from).collect::<Vec<_>>());
    // With another line in a part that stands, that part ends it.
    let mut changed = lines.clone();
    changed[1_500] = "{\"value\":\"other\"}\n".to_owned();
    let changed = keyed(two, ORDERS, "upload", (NDJSON, &changed.concat())).await;
    let last = changed.text().lines().last().expect("a line");
    let last: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(last["error"]["code"], "body_differs");
    assert_eq!(changed.text().lines().count(), 1_001);
    pair.stop().await;
}
