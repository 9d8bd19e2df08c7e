//! `expect_offset`: appended at that place or not at all.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{ORDERS, TwoNodes};
use crate::support::Client;

fn at(partition: u32, offset: i64, value: &str) -> Value {
    json!({"messages": [{"value": value, "partition": partition}], "expect_offset": offset})
}

async fn values(client: &Client, partition: u32) -> Vec<Value> {
    let messages = client.read_all("orders", partition).await;
    messages.into_iter().map(|mut message| message["value"].take()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_appended_at_the_expected_offset_or_not_at_all() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 2})).await;
    assert_eq!(pair.publish(0, &at(1, 0, "a")).await.results(), [(1, 0)]);
    for (node, offset) in [(0, 0), (1, 0), (1, 2), (0, (1 << 53) - 1)] {
        let problem = pair.publish(node, &at(1, offset, "b")).await;
        let problem = problem.problem(412, "wrong_offset", "none");
        assert_eq!((&problem["next_offset"], &problem["retryable"]), (&json!(1), &json!(false)));
    }
    assert_eq!(pair.publish(1, &at(1, 1, "c")).await.results(), [(1, 1)]);
    // Several messages of one partition; the offset is the first one's.
    let two = json!({"messages": [{"key": "k", "value": 1}, {"key": "k", "value": 2}],
        "expect_offset": 0});
    let places = pair.publish(0, &two).await;
    let (partition, other) = (places.results()[0].0, places.results()[1]);
    if partition == 0 {
        assert_eq!(other, (0, 1));
    }
    assert_eq!(values(&pair.clients[0], 1).await[..2], ["a", "c"]);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_over_two_partitions_or_out_of_range_is_refused() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 2})).await;
    let both = json!({"messages": [{"value": 1, "partition": 0}, {"value": 2, "partition": 1}],
        "expect_offset": 0});
    let wrong = [both, at(0, -1, "a"), at(0, 1 << 53, "a")];
    let kinds = [json!("0"), json!(null), json!(0.5)];
    let kinds = kinds.map(|offset| {
        let mut body = at(0, 0, "a");
        body["expect_offset"] = offset;
        body
    });
    for body in wrong.iter().chain(&kinds) {
        let problem = pair.publish(0, body).await.problem(422, "invalid", "none");
        assert_eq!(problem["errors"][0]["pointer"], "/expect_offset", "{problem}");
    }
    for partition in [0, 1] {
        assert_eq!(pair.clients[0].watermarks("orders", partition).await, (0, 0));
    }
    pair.stop().await;
}

/// X4: of many that expect one offset exactly one gets it, and plain neighbours in the same
/// flushes are all appended.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_gets_the_offset_and_neighbours_go_unharmed() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 1})).await;
    let mut appended = 0;
    for round in 0..5 {
        let (_, next) = pair.clients[0].watermarks("orders", 0).await;
        assert_eq!(next, appended);
        let bodies: Vec<Value> = (0..60)
            .map(|n| match n % 3 {
                0 => json!({"messages": [{"value": format!("plain {round} {n}")}]}),
                _ => at(0, next, &format!("expecting {round} {n}")),
            })
            .collect();
        // Most of the plain ones may come first, and then none gets its offset.
        let sent = bodies.iter().enumerate().map(|(n, body)| pair.publish(n % 2, body));
        let answers = join_all(sent).await;
        let mut winners = 0;
        for (n, answer) in answers.iter().enumerate() {
            if n % 3 == 0 {
                answer.results();
                appended += 1;
            } else if answer.status == 200 {
                assert_eq!(answer.results(), [(0, next)]);
                winners += 1;
                appended += 1;
            } else {
                let problem = answer.problem(412, "wrong_offset", "none");
                assert!(problem["next_offset"].as_i64() > Some(next), "{problem}");
            }
        }
        assert!(winners <= 1, "{winners} were told that they got {next}");
    }
    assert_eq!(values(&pair.clients[1], 0).await.len() as i64, appended);
    pair.stop().await;
}

/// A writer alone that takes each next offset from the last answer never loses a race.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_expectations_is_a_log_of_one_writer() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({})).await;
    for offset in 0..20 {
        let answer = pair.publish(offset as usize % 2, &at(0, offset, "x")).await;
        assert_eq!(answer.results(), [(0, offset)]);
    }
    let late = pair.clients[1].json(reqwest::Method::POST, ORDERS, &at(0, 7, "x")).await;
    assert_eq!(late.problem(412, "wrong_offset", "none")["next_offset"], 20);
    pair.stop().await;
}
