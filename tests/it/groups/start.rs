//! Where a group begins.

use serde_json::json;

use super::{fill, look, one};
use crate::support::{Client, Member, eventually, group::places};

#[tokio::test(flavor = "multi_thread")]
async fn start_counts_for_partitions_that_exist_at_the_first_join_later_ones_begin_at_0() {
    let (_database, node, client) = one().await;
    client.put_topic("a.old", json!({"partitions": 1})).await;
    fill(&client, "a.old", 0, 0, 5).await;
    let body = json!({"topics": ["a.*"], "start": "latest"});
    let mut member = Member::join(&client, "g", body).await;
    assert_eq!(member.assignments[0]["offset"], 5);
    // What comes after the join is read, whether its partition is assigned yet or not.
    fill(&client, "a.old", 0, 5, 1).await;
    client.put_topic("a.new", json!({"partitions": 1})).await;
    fill(&client, "a.new", 0, 0, 3).await;
    let mut read = Vec::new();
    eventually("all of it", async || {
        read.extend(places(&member.poll(json!({"wait": "500ms"})).await));
        (read.len() == 4).then_some(())
    })
    .await;
    assert!(read.contains(&("a.old".to_owned(), 0, 5)), "{read:?}");
    assert!(read.contains(&("a.new".to_owned(), 0, 0)), "{read:?}");
    // `start` of a later member changes nothing.
    member.leave().await;
    let body = json!({"topics": ["a.*"], "start": "earliest"});
    let next = Member::join(&client, "g", body).await;
    let offsets: Vec<i64> =
        next.assignments.iter().map(|held| held["offset"].as_i64().expect("an offset")).collect();
    assert_eq!(offsets, [0, 5], "a.new, a.old: {next:?}");
    node.stop().await.expect("stops");
}

/// Retention has taken everything below an offset.
async fn dropped(database: &crate::support::TestDatabase, low: i64) {
    let sql =
        "insert into postrider.partition_lows select partition_id, {} from postrider.partitions";
    database.run(&sql.replace("{}", &low.to_string())).await;
}

async fn group(client: &Client) -> serde_json::Value {
    client.get("/v1/groups/g").await.ok()["partitions"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_retention_outran_a_group_it_goes_on_at_the_low_watermark_and_says_so() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 10).await;
    let body = json!({"topics": ["orders"]});
    let mut member = Member::join(&client, "g", body.clone()).await;
    assert!(member.assignments[0].get("gap").is_none());
    member.poll(json!({"wait": "0s", "max": 2})).await;
    member.poll(json!({"max": 0, "commit": [member.commit("orders", 0, 2)]})).await;
    dropped(&database, 6).await;
    let read = member.poll(look()).await;
    let offsets: Vec<i64> = places(&read).iter().map(|place| place.2).collect();
    assert_eq!(offsets, [6, 7, 8, 9], "{read}");
    assert_eq!(read["assignments"][0]["gap"], 4, "{read}");
    assert_eq!(
        (&group(&client).await["lag"], &group(&client).await["committed_offset"]),
        (&json!(4), &json!(2))
    );
    let told = member.poll(look()).await;
    assert!(told["assignments"][0].get("gap").is_none(), "once: {told}");
    member.leave().await;
    let next = Member::join(&client, "g", body).await;
    assert_eq!(
        (&next.assignments[0]["offset"], &next.assignments[0]["gap"]),
        (&json!(6), &json!(4))
    );
    node.stop().await.expect("stops");
}
