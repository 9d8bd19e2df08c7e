//! Who has what: balanced, sticky, by names and patterns, as topics come, grow and go.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use super::{fill, look, one, orders, park, settle, unpark};
use crate::support::{Member, eventually, group::places};

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_balanced_within_one_and_every_one_has_one_owner() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 11})).await;
    let mut members = Vec::new();
    for shares in [vec![11], vec![6, 5], vec![4, 4, 3], vec![3, 3, 3, 2]] {
        members.push(Member::join(&client, "billing", orders()).await);
        let mut all: Vec<&mut Member> = members.iter_mut().collect();
        eventually("shares differ by one at most", async || {
            settle_once(&mut all).await;
            let mut has: Vec<usize> = all.iter().map(|member| member.has().len()).collect();
            has.sort_unstable_by(|a, b| b.cmp(a));
            (has == shares).then_some(())
        })
        .await;
        let owned: Vec<_> = members.iter().flat_map(Member::has).collect();
        let partitions: BTreeSet<u64> = owned.iter().map(|held| held.1).collect();
        assert_eq!((owned.len(), partitions.len()), (11, 11));
    }
    node.stop().await.expect("stops");
}

async fn settle_once(members: &mut [&mut Member]) {
    for member in members.iter_mut() {
        let told = member.poll(json!({"max": 0})).await;
        let revoked = crate::support::group::revoked(&told);
        member.poll(json!({"max": 0, "revoked": revoked})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_need_not_move_keeps_its_owner_and_epoch() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 6})).await;
    let mut first = Member::join(&client, "billing", orders()).await;
    let mut second = Member::join(&client, "billing", orders()).await;
    settle(&mut [&mut first, &mut second], &[3, 3]).await;
    let (one, two) = (first.has(), second.has());
    let mut third = Member::join(&client, "billing", orders()).await;
    settle(&mut [&mut first, &mut second, &mut third], &[2, 2, 2]).await;
    let kept = |now: &[(String, u64, i64)], before: &[(String, u64, i64)]| {
        now.iter().all(|held| before.contains(held))
    };
    assert!(kept(&first.has(), &one) && kept(&second.has(), &two));
    node.stop().await.expect("stops");
}

/// The member's partitions, polled until they are as many.
async fn has(member: &mut Member, count: usize) -> Vec<(String, u64)> {
    let since = Instant::now();
    eventually("the assignments follow the topics", async || {
        member.poll(json!({"wait": "500ms"})).await;
        (member.has().len() == count).then_some(())
    })
    .await;
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    member.has().into_iter().map(|(topic, partition, _)| (topic, partition)).collect()
}

fn named(places: &[(&str, u64)]) -> Vec<(String, u64)> {
    places.iter().map(|(topic, partition)| ((*topic).to_owned(), *partition)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn assignments_follow_topics_that_appear_grow_and_go() {
    let (_database, node, client) = one().await;
    for topic in ["audit.a", "audit.a.b", "audits", "orders"] {
        client.put_topic(topic, json!({"partitions": 1})).await;
    }
    let body = json!({"topics": ["audit.*", "later"]});
    let mut member = Member::join(&client, "watch", body).await;
    assert_eq!(has(&mut member, 1).await, named(&[("audit.a", 0)]));
    let epoch = member.epoch("audit.a", 0);
    // A poll that waits is woken by the topic that appears.
    let waiting = park(&member, json!({"wait": "10s"}));
    client.put_topic("audit.c", json!({"partitions": 1})).await;
    unpark(&mut member, waiting).await;
    assert_eq!(has(&mut member, 2).await, named(&[("audit.a", 0), ("audit.c", 0)]));
    client.put_topic("later", json!({"partitions": 1})).await;
    has(&mut member, 3).await;
    let grown = client.json(Method::PATCH, "/v1/topics/audit.c", &json!({"partitions": 2})).await;
    assert_eq!(grown.status, 200);
    let all = named(&[("audit.a", 0), ("audit.c", 0), ("audit.c", 1), ("later", 0)]);
    assert_eq!(has(&mut member, 4).await, all);
    let gone = client.send(client.request(Method::DELETE, "/v1/topics/audit.c")).await;
    assert_eq!(gone.status, 204);
    assert_eq!(has(&mut member, 2).await, named(&[("audit.a", 0), ("later", 0)]));
    assert_eq!(member.epoch("audit.a", 0), epoch, "nobody touched it");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_one_group_may_ask_for_different_topics() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 2})).await;
    client.put_topic("invoices", json!({"partitions": 2})).await;
    let mut both =
        Member::join(&client, "billing", json!({"topics": ["orders", "invoices"]})).await;
    let mut one = Member::join(&client, "billing", json!({"topics": ["orders"]})).await;
    settle(&mut [&mut both, &mut one], &[2, 2]).await;
    let topics = |member: &Member| -> BTreeSet<String> {
        member.has().into_iter().map(|held| held.0).collect()
    };
    assert_eq!(topics(&one), BTreeSet::from(["orders".to_owned()]));
    assert_eq!(topics(&both), BTreeSet::from(["invoices".to_owned()]));
    // Nobody asks for it any more: nobody has it, and what was committed stays.
    fill(&client, "invoices", 0, 0, 5).await;
    both.poll(look()).await;
    both.poll(json!({"max": 0, "commit": [both.commit("invoices", 0, 3)]})).await;
    both.leave().await;
    has(&mut one, 2).await;
    let group = client.get("/v1/groups/billing").await.ok();
    let invoices: Vec<&Value> = group["partitions"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|partition| partition["topic"] == "invoices")
        .collect();
    assert_eq!((invoices.len(), &invoices[0]["member_id"]), (2, &Value::Null), "{group}");
    let mut back = Member::join(&client, "billing", json!({"topics": ["invoices"]})).await;
    assert_eq!(back.has().len(), 2);
    assert_eq!(places(&back.poll(look()).await)[0].2, 3);
    node.stop().await.expect("stops");
}
