//! Nodes that disagree about the time.

use std::time::Duration;

use postrider::model::Clock;
use serde_json::json;

use crate::support::{Load, Node, TestDatabase, within};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_clocks_differ_by_more_than_a_bucket_share_the_log() {
    let database = TestDatabase::with_windows("1 second").await;
    let nodes = [
        Node::start(database.url(), Clock::shifted(-3_600_000)).await,
        Node::start(database.url(), Clock::shifted(7_200_000)).await,
    ];
    let clients = [nodes[0].client(), nodes[1].client()];
    for node in &nodes {
        node.is_ready().await;
    }
    clients[0].put_topic("orders", json!({"partitions": 3})).await;
    let load = Load::start(&clients, "orders", 8, 10);
    let buckets = "select count(distinct bucket_id) from postrider.segments";
    within(Duration::from_secs(60), "messages in six buckets", async || {
        (database.number(buckets).await >= 6).then_some(())
    })
    .await;
    let told = load.stop().await;
    assert_eq!(told.problems, []);
    assert!(told.acked.len() > 100, "only {} messages", told.acked.len());
    for client in &clients {
        told.holds(client, "orders", 3).await;
    }
    // The time that readers see is the database's.
    for partition in 0..3 {
        let read = clients[0].read_all("orders", partition).await;
        let times: Vec<&str> =
            read.iter().map(|message| message["timestamp"].as_str().expect("a time")).collect();
        assert!(times.is_sorted());
    }
    let sql = "select count(*) from postrider.batches
        where abs(extract(epoch from appended_at - clock_timestamp())) > 300";
    assert_eq!(database.number(sql).await, 0);
    for node in nodes {
        node.stop().await.expect("stops");
    }
}
