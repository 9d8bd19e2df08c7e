//! Members join, poll, commit and leave.

use serde_json::json;

use super::{fill, look, one, orders, two};
use crate::support::{Member, group::places};

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
    for node in nodes {
        node.stop().await.expect("stops");
    }
}
