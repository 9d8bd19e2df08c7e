//! Members join, poll, commit and leave.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::{fill, look, one, orders, park, stop, two, unpark};
use crate::support::{
    Member,
    group::{places, revoked},
    soon,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_reads_commits_and_the_next_goes_on_there() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 10).await;
    let mut first = Member::join(&client, "billing", orders()).await;
    assert_eq!(first.has().len(), 1);
    assert_eq!(first.assignments[0]["offset"], 0);
    let read = first.poll(json!({"wait": "0s", "max": 4})).await;
    assert_eq!(places(&read), (0..4).map(|at| ("orders".to_owned(), 0, at)).collect::<Vec<_>>());
    assert_eq!(read["messages"][3]["value"], 3);
    let commit = first.commit("orders", 0, 3);
    let read = first.poll(json!({"wait": "0s", "max": 4, "commit": [commit]})).await;
    assert_eq!(places(&read)[0].2, 4, "a poll goes on from its cursor");
    assert_eq!(read["commit_errors"], json!([]));
    first.leave().await;
    let mut next = Member::join(&client, "billing", orders()).await;
    assert_eq!(next.assignments[0]["offset"], 3);
    assert!(next.epoch("orders", 0) > first.epoch("orders", 0));
    let read = next.poll(look()).await;
    assert_eq!(places(&read)[0].2, 3, "from the committed offset on");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_one_through_every_node() {
    let (_database, nodes, [a, b]) = two().await;
    a.put_topic("orders", json!({"partitions": 2})).await;
    fill(&a, "orders", 0, 0, 6).await;
    let mut member = Member::join(&a, "billing", orders()).await;
    for (turn, client) in [&b, &a, &b].into_iter().enumerate() {
        member.client = client.clone();
        let read = member.poll(json!({"wait": "1s", "max": 2})).await;
        let offsets: Vec<i64> = places(&read).iter().map(|place| place.2).collect();
        let turn = turn as i64;
        assert_eq!(offsets, [turn * 2, turn * 2 + 1], "{read}");
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_waits_is_woken_by_a_message_of_any_node() {
    let (_database, nodes, [a, b]) = two().await;
    a.put_topic("orders", json!({"partitions": 4})).await;
    let mut member = Member::join(&a, "billing", orders()).await;
    for (partition, writer) in [&a, &b, &a, &b].into_iter().enumerate() {
        let parked = park(&member, json!({"wait": "10s"}));
        let sent = Instant::now();
        fill(writer, "orders", partition as u64, 0, 1).await;
        let (answer, answered) = soon("the poll is answered", parked).await.expect("no panic");
        member.follow(&answer.ok());
        assert_eq!(places(&answer.ok()), [("orders".to_owned(), partition as u64, 0)]);
        let took = answered.duration_since(sent);
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn max_0_is_a_heartbeat_that_does_not_wait() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut member = Member::join(&client, "billing", orders()).await;
    fill(&client, "orders", 0, 0, 1).await;
    let since = Instant::now();
    let beat = member.poll(json!({"max": 0, "wait": "20s"})).await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert_eq!((&beat["messages"], member.has().len()), (&json!([]), 1));
    assert_eq!(places(&member.poll(look()).await).len(), 1, "it took nothing");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_cut_to_a_third_of_the_session_timeout() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let body = json!({"topics": ["orders"], "session_timeout": "3s"});
    let mut member = Member::join(&client, "billing", body).await;
    for _ in 0..5 {
        let since = Instant::now();
        let empty = member.poll(json!({"wait": "30s"})).await;
        let took = since.elapsed();
        assert_eq!((&empty["messages"], &empty["revoke"]), (&json!([]), &json!([])));
        assert!(took >= Duration::from_millis(990) && took < Duration::from_secs(3), "{took:?}");
    }
    assert_eq!(member.has().len(), 1, "a member that polls lives on");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_is_a_pure_read_of_its_cursor() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 2})).await;
    fill(&client, "orders", 0, 0, 5).await;
    let mut member = Member::join(&client, "billing", orders()).await;
    let before = member.clone();
    let read = member.poll(look()).await;
    assert_eq!(places(&read).len(), 5);
    // Its answer was lost: the same poll brings the same.
    assert_eq!(places(&before.try_poll(look()).await.ok()), places(&read));
    assert_eq!(places(&member.poll(look()).await), []);
    // Without a cursor it goes on at the committed offsets.
    let commit = json!({"wait": "0s", "commit": [member.commit("orders", 0, 2)]});
    member.poll(commit).await;
    let path = format!("/v1/groups/billing/members/{}/poll", member.id);
    let anew = client.json(Method::POST, &path, &look()).await.ok();
    assert_eq!(places(&anew).first().map(|place| place.2), Some(2));
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_share_one_poll_and_none_is_forgotten() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 6})).await;
    for partition in 0..6 {
        fill(&client, "orders", partition, 0, 50).await;
    }
    let mut member = Member::join(&client, "billing", orders()).await;
    let mut next = [0; 6];
    for _ in 0..100 {
        for (_, partition, offset) in places(&member.poll(json!({"wait": "0s", "max": 7})).await) {
            assert_eq!(offset, next[partition as usize], "of {partition}");
            next[partition as usize] += 1;
        }
    }
    assert_eq!(next, [50; 6]);
    node.stop().await.expect("stops");
}

/// 100 groups of 50 idle members are to cost next to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn polls_that_find_nothing_ask_the_database_nothing() {
    const MEMBERS: usize = 60;
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": MEMBERS})).await;
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        let body = json!({"topics": ["orders"], "session_timeout": "12s"});
        members.push(Member::join(&client, &format!("g{}", number % 6), body).await);
    }
    let asked = async || {
        let sql = "select xact_commit from pg_stat_database where datname = current_database()";
        database.number(sql).await
    };
    // Until every share is settled and counted (a backend that rests tells what it did within
    // 10 s), then one member alone, then all of them.
    let (mut alone, mut all) = (0, 0);
    for round in 0..26 {
        match round {
            16 => alone = -asked().await,
            21 => (alone, all) = (alone + asked().await, -asked().await),
            _ => {}
        }
        let some = if (16..21).contains(&round) { 1 } else { MEMBERS };
        let polls: Vec<_> =
            members[..some].iter().map(|member| park(member, json!({"wait": "1s"}))).collect();
        for (member, poll) in members.iter_mut().zip(polls) {
            let told = unpark(member, poll).await;
            let revoked = revoked(&told);
            if revoked != json!([]) {
                member.poll(json!({"max": 0, "revoked": revoked})).await;
            }
        }
    }
    all += asked().await;
    assert!(all - alone < 150, "{all} transactions for 300 polls, {alone} for 5");
    node.stop().await.expect("stops");
}
