//! What a message queue is for, each of the six advantages as something that is seen to happen.

use std::collections::BTreeSet;

use postrider::model::Clock;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Node, OwnServer, Process, TestDatabase, eventually};

const ORDERS: &str = "/v1/topics/orders/messages";

async fn publish(client: &Client, from: u64, until: u64) -> Answer {
    let messages: Vec<Value> = (from..until).map(|n| json!({"value": n})).collect();
    client.json(Method::POST, ORDERS, &json!({"messages": messages})).await
}

/// Every value of a topic, in the order of its partitions.
async fn values(client: &Client, partitions: u32) -> Vec<u64> {
    let mut found = Vec::new();
    for partition in 0..partitions {
        let messages = client.read_all("orders", partition).await;
        for (offset, message) in messages.iter().enumerate() {
            assert_eq!(message["offset"], offset, "dense: {message}");
            found.push(message["value"].as_u64().expect("a number"));
        }
    }
    found
}

fn sorted(mut values: Vec<u64>) -> Vec<u64> {
    values.sort_unstable();
    values
}

/// Nobody is there to receive; the sender is done all the same, and may be gone before anybody
/// comes.
#[tokio::test(flavor = "multi_thread")]
async fn asynchronous_senders_are_done_before_anybody_receives() {
    let database = TestDatabase::new().await;
    let sender = Node::on(&database).await;
    sender.client().put_topic("orders", json!({"partitions": 1})).await;
    assert_eq!(publish(&sender.client(), 0, 500).await.results().len(), 500);
    sender.stop().await.expect("stops");

    let receiver = Node::on(&database).await;
    assert_eq!(values(&receiver.client(), 1).await, (0..500).collect::<Vec<_>>());
    // And one who waits for what comes later does not hold the sender up.
    let client = receiver.client();
    let waiting = client.read("orders", 0, "from=500&wait=30s");
    let sending = async {
        let since = std::time::Instant::now();
        assert_eq!(publish(&client, 500, 501).await.results(), [(0, 500)]);
        since.elapsed()
    };
    let (page, sent) = tokio::join!(waiting, sending);
    assert_eq!(page.ok()["messages"][0]["value"], 500);
    assert!(sent < std::time::Duration::from_secs(5), "{sent:?}");
    receiver.stop().await.expect("stops");
}

/// A sender knows a name and one node; receivers that it never hears of come, go, and each read
/// at their own place through another.
#[tokio::test(flavor = "multi_thread")]
async fn decoupled_receivers_come_and_go_unknown_to_the_sender() {
    let database = TestDatabase::new().await;
    let (here, there) = (Node::on(&database).await, Node::on(&database).await);
    let (sender, receiver) = (here.client(), there.client());
    sender.put_topic("orders", json!({"partitions": 1})).await;
    let mut first = Vec::new();
    let mut from = 0;
    for round in 0..10 {
        publish(&sender, round * 10, round * 10 + 10).await.results();
        // The first receiver is not there for half of the time.
        if round % 2 == 1 {
            let page = receiver.read("orders", 0, &format!("from={from}")).await.ok();
            first.extend(page["messages"].as_array().expect("messages").clone());
            from = page["next_offset"].as_i64().expect("an offset");
        }
    }
    assert_eq!(first.len(), 100);
    // One that comes last reads the same from the beginning, bit for bit.
    assert_eq!(receiver.read_all("orders", 0).await, first);
    // Where the sender's node has gone, receivers do not notice.
    here.stop().await.expect("stops");
    assert_eq!(receiver.read_all("orders", 0).await, first);
    there.stop().await.expect("stops");
}

/// A node dies in the middle; whoever used it goes on through another one where it was.
#[tokio::test(flavor = "multi_thread")]
async fn resilient_to_a_killed_node() {
    let database = TestDatabase::new().await;
    let url = database.url().to_owned();
    let serve = || {
        let url = url.clone();
        tokio::task::block_in_place(move || Process::serve(&["--database-url", &url]))
    };
    let (doomed, other) = (serve(), serve());
    let (client, spare) = (Client::new(doomed.url()), Client::new(other.url()));
    for client in [&client, &spare] {
        eventually("a node is ready", async || {
            (client.get("/readyz").await.status == 200).then_some(())
        })
        .await;
    }
    client.put_topic("orders", json!({"partitions": 1})).await;
    publish(&client, 0, 100).await.results();
    let page = client.read("orders", 0, "from=0&limit=40").await.ok();
    let from = page["next_offset"].as_u64().expect("an offset");
    assert_eq!(from, 40);

    doomed.kill();
    assert_eq!(publish(&spare, 100, 200).await.results()[0], (0, 100));
    let page = spare.read("orders", 0, &format!("from={from}&limit=10000")).await.ok();
    let rest = page["messages"].as_array().expect("messages").iter();
    let rest: Vec<u64> = rest.map(|message| message["value"].as_u64().expect("n")).collect();
    assert_eq!(rest, (from..200).collect::<Vec<_>>());
}

/// Nodes and partitions are added under way; all nodes take part, and all see everything.
#[tokio::test(flavor = "multi_thread")]
async fn scalable_by_nodes_and_partitions_under_way() {
    let database = TestDatabase::new().await;
    let mut nodes = vec![Node::on(&database).await];
    nodes[0].client().put_topic("orders", json!({"partitions": 1, "keyless": "round_robin"})).await;
    let mut sent = 0;
    for partitions in [1, 4, 8] {
        let grown = json!({"partitions": partitions});
        nodes[0].client().json(Method::PATCH, "/v1/topics/orders", &grown).await.ok();
        for node in &nodes {
            let client = node.client();
            // A node that has not heard of it yet goes on with the partitions that it knows.
            let used = eventually("every partition is used", async || {
                let results = publish(&client, sent, sent + 80).await.results();
                sent += 80;
                let used: BTreeSet<u32> =
                    results.into_iter().map(|(partition, _)| partition).collect();
                (used.len() == partitions as usize).then_some(used)
            })
            .await;
            assert_eq!(used, (0..partitions).collect());
        }
        nodes.push(Node::on(&database).await);
    }
    for node in nodes {
        assert_eq!(sorted(values(&node.client(), 8).await), (0..sent).collect::<Vec<_>>());
        node.stop().await.expect("stops");
    }
}

/// A burst that no receiver keeps up with is taken in, kept, and worked off at the receiver's
/// pace; and it may be read again.
#[tokio::test(flavor = "multi_thread")]
async fn flexible_about_bursts_and_about_the_pace_of_receivers() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1})).await;
    const BURST: u64 = 20_000;
    let mut burst = tokio::task::JoinSet::new();
    for nth in 0..20 {
        let client = client.clone();
        burst.spawn(async move { publish(&client, nth * 1_000, nth * 1_000 + 1_000).await.ok() });
    }
    // Meanwhile it is read a few at a time.
    let page = client.read("orders", 0, "from=0&limit=7&wait=10s").await.ok();
    assert!(page["messages"].as_array().expect("messages").len() <= 7);
    while let Some(taken) = burst.join_next().await {
        taken.expect("the burst is taken in");
    }
    assert_eq!(sorted(values(&client, 1).await), (0..BURST).collect::<Vec<_>>());
    let again = client.read("orders", 0, "from=0&limit=7").await.ok();
    assert_eq!(again["messages"].as_array().expect("messages").len(), 7);
    node.stop().await.expect("stops");
}

/// What was acknowledged is there after the whole database was killed, byte for byte, and no more
/// than that.
#[tokio::test(flavor = "multi_thread")]
async fn reliable_when_the_database_is_killed() {
    let server = OwnServer::start().await;
    let node = Node::start(server.url(), Clock::default()).await;
    node.is_ready().await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1})).await;
    let value = r#"{"price":1.0,"id":12345678901234567890,"id":2}"#;
    let body = format!(r#"{{"messages":[{{"key":"ada","value":{value}}}]}}"#);
    let answer = client.post(ORDERS, "application/json", body).await;
    assert_eq!(answer.results(), [(0, 0)]);
    publish(&client, 1, 300).await.results();
    let before = client.read("orders", 0, "from=0&limit=10000").await;
    assert!(before.text().contains(value), "{}", before.text());

    server.signal_all("KILL");
    let after = eventually("the database is back", async || {
        Some(client.read("orders", 0, "from=0&limit=10000").await).filter(|page| page.status == 200)
    })
    .await;
    assert_eq!(after.text(), before.text());
    let next = eventually("it takes the next", async || {
        Some(publish(&client, 300, 301).await).filter(|answer| answer.status == 200)
    })
    .await;
    // One may have been written before it that nobody was told of.
    assert!(next.results()[0].1 >= 300, "{next:?}");
    node.stop().await.expect("stops");
    server.stop().await;
}
