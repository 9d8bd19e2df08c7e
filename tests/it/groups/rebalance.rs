//! Partitions move: told, confirmed, received; or taken.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{fill, look, one, orders, park, settle, stop, two, unpark};
use crate::support::{
    Client, Member, eventually,
    group::{places, revoked},
};

/// One member has everything; another joins through `second`. Both polls wait meanwhile.
async fn joined(first: &Client, second: &Client) -> (Member, Member) {
    let mut one = Member::join(first, "billing", orders()).await;
    one.poll(look()).await;
    let waiting = park(&one, json!({"wait": "10s"}));
    let other = Member::join(second, "billing", orders()).await;
    assert_eq!(other.has(), [], "it has what it has now: nothing yet");
    let told = unpark(&mut one, waiting).await;
    assert_eq!(told["revoke"].as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(one.has().len(), 4, "`assignments` is the whole list");
    (one, other)
}

async fn one_round_trip(first: &Client, second: &Client) {
    first.put_topic("orders", json!({"partitions": 4})).await;
    for partition in 0..4 {
        fill(first, "orders", partition, 0, 3).await;
    }
    let mut one = Member::join(first, "billing", orders()).await;
    assert_eq!(places(&one.poll(look()).await).len(), 12);
    let waiting = park(&one, json!({"wait": "10s"}));
    let mut other = Member::join(second, "billing", orders()).await;
    let told = unpark(&mut one, waiting).await;
    let receives = park(&other, json!({"wait": "10s"}));
    let given = revoked(&told);
    let given_places = given.as_array().expect("a list").clone();
    let commit: Vec<_> = given_places
        .iter()
        .map(|entry| one.commit("orders", entry["partition"].as_u64().expect("a number"), 2))
        .collect();
    let kept = one.poll(json!({"wait": "0s", "revoked": given, "commit": commit})).await;
    assert_eq!((&kept["revoke"], &kept["commit_errors"]), (&json!([]), &json!([])), "{kept}");
    assert_eq!(one.has().len(), 2);
    let received = unpark(&mut other, receives).await;
    assert_eq!(other.has().len(), 2);
    // Committed in the poll that confirmed: read on from there and nothing twice.
    let offsets: Vec<i64> = places(&received).iter().map(|place| place.2).collect();
    assert!(!offsets.is_empty() && offsets.iter().all(|offset| *offset == 2), "{received}");
    for (topic, partition, epoch) in other.has() {
        let before = given_places.iter().find(|entry| entry["partition"] == partition);
        let before = before.and_then(|entry| entry["epoch"].as_i64());
        assert!(Some(epoch) > before, "{topic}/{partition}: {epoch} after {before:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_takes_one_round_trip_of_each_member() {
    let (_database, node, client) = one().await;
    one_round_trip(&client, &client).await;
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_takes_one_round_trip_through_two_nodes() {
    let (_database, nodes, [a, b]) = two().await;
    let since = Instant::now();
    one_round_trip(&a, &b).await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(4), "woken, not taken after 5 s: {took:?}");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_in_revoke_gets_nothing_new_and_may_still_be_committed() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 4})).await;
    let (mut one, _other) = joined(&client, &client).await;
    for partition in 0..4 {
        fill(&client, "orders", partition, 0, 3).await;
    }
    let read = one.poll(look()).await;
    let in_revoke: Vec<u64> = read["revoke"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["partition"].as_u64().expect("a number"))
        .collect();
    assert_eq!(in_revoke.len(), 2, "{read}");
    assert_eq!(places(&read).len(), 6, "of the two that stay: {read}");
    assert!(places(&read).iter().all(|(_, partition, _)| !in_revoke.contains(partition)));
    let deadline = read["revoke"][0]["deadline"].as_str().expect("a duration");
    assert!(postrider::model::duration::parse(deadline).is_ok(), "{deadline}");
    // What it did before still counts until it confirms.
    let commit = one.commit("orders", in_revoke[0], 1);
    let done = one.poll(json!({"wait": "0s", "commit": [commit]})).await;
    assert_eq!(done["commit_errors"], json!([]));
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_not_given_up_is_taken_after_5_s() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 4})).await;
    let (mut one, mut other) = joined(&client, &client).await;
    let since = Instant::now();
    let before = one.clone();
    eventually("it is taken", async || {
        one.poll(json!({"max": 0})).await;
        other.poll(json!({"wait": "1s"})).await;
        (other.has().len() == 2).then_some(())
    })
    .await;
    let took = since.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
    one.poll(json!({"max": 0})).await;
    let lost = before.has().into_iter().find(|held| !one.has().contains(held)).expect("two");
    let commit = before.commit("orders", lost.1, 1);
    let late = one.poll(json!({"max": 0, "commit": [commit]})).await;
    assert_eq!(late["commit_errors"][0]["code"], "stale_epoch", "{late}");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_once_in_revoke_never_comes_back_under_its_epoch() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 4})).await;
    let (mut one, other) = joined(&client, &client).await;
    let before = one.has();
    let told = one.poll(look()).await;
    let in_revoke: Vec<u64> = revoked(&told)
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["partition"].as_u64().expect("a number"))
        .collect();
    let waiting = park(&one, json!({"wait": "10s"}));
    other.leave().await;
    let back = unpark(&mut one, waiting).await;
    assert_eq!(back["revoke"], json!([]));
    assert_eq!(one.has().len(), 4);
    for (topic, partition, epoch) in before {
        let now = one.epoch(&topic, partition);
        if in_revoke.contains(&partition) {
            assert!(now > epoch, "{partition} came back under {epoch}");
        } else {
            assert_eq!(now, epoch, "{partition} was never told to go");
        }
    }
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_is_told_once_and_then_waits() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 4})).await;
    let (mut one, _other) = joined(&client, &client).await;
    let since = Instant::now();
    let still = one.poll(json!({"wait": "500ms"})).await;
    assert_eq!(still["revoke"].as_array().map(Vec::len), Some(2));
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(500), "no busy loop until the deadline: {took:?}");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_gives_everything_to_the_others_at_once() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 4})).await;
    let (mut one, mut other) = joined(&client, &client).await;
    settle(&mut [&mut one, &mut other], &[2, 2]).await;
    let kept = one.has();
    let waiting = park(&one, json!({"wait": "10s"}));
    other.leave().await;
    unpark(&mut one, waiting).await;
    assert_eq!(one.has().len(), 4);
    assert!(kept.iter().all(|held| one.has().contains(held)), "what stays keeps its epoch");
    let gone = other.try_poll(look()).await.problem(404, "unknown_member", "none");
    assert_eq!(gone["retryable"], false);
    node.stop().await.expect("stops");
}
