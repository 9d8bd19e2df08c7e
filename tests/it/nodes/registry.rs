//! Who serves the database: `GET /v1/nodes`.

use postrider::{lifecycle::Lifecycle, store};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{Client, TwoNodes, eventually};

async fn nodes(client: &Client) -> Vec<Value> {
    let mut page = client.get("/v1/nodes").await.ok();
    assert_eq!(page["next_page_token"], Value::Null);
    let Value::Array(items) = page["items"].take() else { panic!("{page}") };
    items
}

/// The id of the node that answers.
async fn id(client: &Client) -> String {
    let nodes = nodes(client).await;
    let answering: Vec<_> = nodes.iter().filter(|node| node["answering"] == true).collect();
    assert_eq!(answering.len(), 1, "{nodes:?}");
    answering[0]["id"].as_str().expect("an id").to_owned()
}

/// The state of a node as another shows it; none where it is not listed.
async fn state(client: &Client, id: &str) -> Option<String> {
    let nodes = nodes(client).await;
    let node = nodes.iter().find(|node| node["id"] == id)?;
    Some(node["state"].as_str().expect("a state").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_lists_all_of_them() {
    let pair = TwoNodes::new().await;
    let [a, b] = &pair.clients;
    let (of_a, of_b) = (nodes(a).await, nodes(b).await);
    assert_eq!((of_a.len(), of_b.len()), (2, 2));
    for (one, other) in of_a.iter().zip(&of_b) {
        assert_eq!((&one["id"], &one["started_at"]), (&other["id"], &other["started_at"]));
        assert_ne!(one["answering"], other["answering"]);
        assert_eq!((&one["name"], &one["state"]), (&json!("test"), &json!("alive")));
        assert_eq!(one["version"], env!("CARGO_PKG_VERSION"));
        assert!(one["heartbeat_age_ms"].as_i64().is_some_and(|age| age < 15_000), "{one}");
        assert!(one["heartbeat_at"].as_str() >= one["started_at"].as_str(), "{one}");
    }
    assert_ne!(id(a).await, id(b).await);
    pair.database
        .run(
            "insert into postrider.nodes (name, heartbeat_at)
             values ('web-1', clock_timestamp() - interval '16 s'),
               ('web-2', clock_timestamp() - interval '1 s')",
        )
        .await;
    let page = a.get("/v1/nodes?prefix=web&page_size=1").await.ok();
    let silent = &page["items"][0];
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1));
    assert_eq!((&silent["name"], &silent["state"]), (&json!("web-1"), &json!("silent")));
    assert!(silent["heartbeat_age_ms"].as_i64() >= Some(16_000), "{silent}");
    assert_eq!((&silent["version"], &silent["answering"]), (&json!(""), &json!(false)));
    let token = page["next_page_token"].as_str().expect("a token");
    let next = a.get(&format!("/v1/nodes?prefix=web&page_token={token}")).await.ok();
    assert_eq!(
        (&next["items"][0]["name"], &next["items"][0]["state"]),
        (&json!("web-2"), &json!("alive"))
    );
    assert_eq!(next["next_page_token"], Value::Null);
    for wrong in ["page_token=x", "page_size=0", "prefix=%2F", "state=alive"] {
        let answer = a.get(&format!("/v1/nodes?{wrong}")).await;
        let code = if wrong.starts_with("state") { "unknown_field" } else { "invalid" };
        answer.problem(422, code, "none");
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_says_so_and_is_gone() {
    let TwoNodes { nodes: [one, other], clients: [a, b], database } = TwoNodes::new().await;
    a.put_topic("orders", json!({"partitions": 1})).await;
    a.publish("orders", json!([{"value": 1}])).await;
    let stopping = id(&a).await;
    assert_eq!(state(&b, &stopping).await.as_deref(), Some("alive"));
    // A body that does not come keeps the node.
    let mut upload = TcpStream::connect(one.address()).await.expect("connected");
    let head = "POST /v1/topics/orders/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";
    upload.write_all(head.as_bytes()).await.expect("sent");
    let stopped = Lifecycle::new().spawn(one.stop());
    eventually("the others see it drain", async || {
        (state(&b, &stopping).await.as_deref() == Some("draining")).then_some(())
    })
    .await;
    drop(upload);
    stopped.await.expect("no panic").expect("stops");
    assert_eq!(state(&b, &stopping).await, None, "a node that stopped is listed");

    // What it appended last may not have been heard of yet: its wakes stay for a while.
    let slots = format!("select count(*) from postrider.wake_slots where node_id = {stopping}");
    let rows = format!("select count(*) from postrider.nodes where node_id = {stopping}");
    let mut session = database.connect().await;
    store::wakes::prune_slots(&mut session).await.expect("pruned");
    store::nodes::prune(&mut session).await.expect("pruned");
    assert_eq!((database.number(&slots).await, database.number(&rows).await), (1, 1));
    let aged = "update postrider.nodes set heartbeat_at = heartbeat_at - interval '11 minutes'
        where node_id = ";
    database.run(&format!("{aged}{stopping}")).await;
    store::wakes::prune_slots(&mut session).await.expect("pruned");
    store::nodes::prune(&mut session).await.expect("pruned");
    assert_eq!((database.number(&slots).await, database.number(&rows).await), (0, 0));
    other.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_taken_for_gone_enters_again_as_itself() {
    let pair = TwoNodes::new().await;
    let [a, b] = &pair.clients;
    let before = nodes(b).await;
    let removed = id(a).await;
    pair.database.run(&format!("delete from postrider.nodes where node_id = {removed}")).await;
    assert_eq!(state(b, &removed).await, None);
    eventually("it enters again", async || state(b, &removed).await).await;
    let second = |node: &Value| node["started_at"].as_str().map(|at| at[..17].to_owned());
    for (before, after) in before.iter().zip(nodes(b).await) {
        assert_eq!((&before["id"], &before["name"]), (&after["id"], &after["name"]));
        assert_eq!((&before["version"], &after["state"]), (&after["version"], &json!("alive")));
        assert_eq!(second(before), second(&after), "it did not start again");
    }
    pair.stop().await;
}
