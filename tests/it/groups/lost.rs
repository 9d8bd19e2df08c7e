//! Members that are heard no more, and what nodes leave behind.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{fill, look, one, orders, park, settle, stop, two, unpark};
use crate::support::{Member, Node, TestDatabase, eventually, group::places};

fn short() -> serde_json::Value {
    json!({"topics": ["orders"], "session_timeout": "3s"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_member_is_expired_by_any_node() {
    let (_database, [a, b], [through_a, through_b]) = two().await;
    through_a.put_topic("orders", json!({"partitions": 4})).await;
    let mut lives = Member::join(&through_b, "billing", short()).await;
    let mut dies = Member::join(&through_a, "billing", short()).await;
    settle(&mut [&mut lives, &mut dies], &[2, 2]).await;
    fill(&through_a, "orders", dies.has()[0].1, 0, 5).await;
    let kept = lives.has();
    dies.poll(look()).await;
    let since = Instant::now();
    a.stop().await.expect("stops");
    eventually("the other has it all", async || {
        lives.poll(json!({"wait": "1s"})).await;
        (lives.has().len() == 4).then_some(())
    })
    .await;
    let took = since.elapsed();
    assert!(took > Duration::from_millis(2_500), "not before its session timeout: {took:?}");
    assert!(took < Duration::from_millis(4_500), "{took:?}");
    assert!(kept.iter().all(|held| lives.has().contains(held)), "what stays keeps its epoch");
    dies.client = through_b;
    // What it says late counts for nothing.
    let (topic, partition, _) = dies.has()[0].clone();
    let late = json!([dies.commit(&topic, partition, 5)]);
    let poll = json!({"wait": "0s", "commit": late});
    dies.try_poll(poll).await.problem(404, "unknown_member", "none");
    let path = "/v1/groups/billing/offsets";
    let told = dies.client.json(reqwest::Method::POST, path, &json!({"offsets": late})).await;
    assert_eq!(told.ok()["commit_errors"][0]["code"], "stale_epoch");
    let group = dies.client.get("/v1/groups/billing").await.ok();
    assert_eq!(group["partitions"][partition as usize]["committed_offset"], 0);
    b.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_the_work_is_committed_and_all_members_die_the_next_begins_exactly_there() {
    let (_database, nodes, [a, b]) = two().await;
    a.put_topic("orders", json!({"partitions": 2})).await;
    fill(&a, "orders", 0, 0, 20).await;
    fill(&a, "orders", 1, 0, 20).await;
    let mut first = Member::join(&a, "billing", short()).await;
    let mut second = Member::join(&a, "billing", short()).await;
    settle(&mut [&mut first, &mut second], &[1, 1]).await;
    for member in [&mut first, &mut second] {
        member.poll(json!({"wait": "0s", "max": 20})).await;
        let (topic, partition, _) = member.has()[0].clone();
        let commit = member.commit(&topic, partition, 10);
        member.poll(json!({"max": 0, "commit": [commit]})).await;
    }
    // Nobody says another word.
    let mut next = Member::join(&b, "billing", short()).await;
    let mut seen = Vec::new();
    eventually("the next has it all", async || {
        seen.extend(places(&next.poll(json!({"wait": "1s"})).await));
        (next.has().len() == 2 && seen.len() >= 20).then_some(())
    })
    .await;
    for partition in 0..2 {
        let of_it = seen.iter().filter(|place| place.1 == partition);
        let offsets: Vec<i64> = of_it.map(|place| place.2).collect();
        assert_eq!(offsets, (10..20).collect::<Vec<i64>>(), "of partition {partition}");
    }
    stop(nodes).await;
}

/// A node that died between a change and its effect left a partition unowned for ever.
#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_of_every_node_repairs_what_is_not_as_it_should_be() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 4})).await;
    let mut member = Member::join(&client, "billing", orders()).await;
    let before = member.epoch("orders", 2);
    let waiting = park(&member, json!({"wait": "10s"}));
    database.run("update postrider.assignments set member_id = null where index = 2").await;
    let mut told = unpark(&mut member, waiting).await;
    while member.has().len() < 4 {
        told = member.poll(json!({"wait": "2s"})).await;
    }
    assert!(member.epoch("orders", 2) > before, "{told}");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_just_begun_does_not_expire_whom_nobody_could_hear() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut member = Member::join(&client, "billing", short()).await;
    node.stop().await.expect("stops");
    // The only node is away for longer than the session timeout.
    let sql = "update postrider.member_heartbeats set seen_at = seen_at - interval '1 minute'";
    database.run(sql).await;
    let node = Node::on(&database).await;
    member.client = node.client();
    let before = member.epoch("orders", 0);
    member.poll(json!({"wait": "1s"})).await;
    member.poll(json!({"wait": "1s"})).await;
    assert_eq!(member.epoch("orders", 0), before);
    node.stop().await.expect("stops");
}
