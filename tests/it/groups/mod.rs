//! Consumer groups over HTTP, sentence by sentence.

mod admin;
mod assign;
mod bad_input;
mod commits;
mod crowd;
mod epochs;
mod life;
mod lost;
mod once;
mod rebalance;
mod start;
mod torture;

use std::time::Instant;

use postrider::lifecycle::Lifecycle;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{
    Answer, Client, Member, Node, TestDatabase, TwoNodes, eventually, group::revoked,
    one_node as one, soon,
};

/// Two nodes on one database.
async fn two() -> (TestDatabase, [Node; 2], [Client; 2]) {
    let TwoNodes { nodes, clients, database } = TwoNodes::new().await;
    (database, nodes, clients)
}

/// Publishes `count` messages into one partition, numbered from `from` on.
async fn fill(client: &Client, topic: &str, partition: u64, from: i64, count: i64) {
    let message = |number: i64| json!({"value": number, "partition": partition});
    let messages: Vec<Value> = (from..from + count).map(message).collect();
    client.publish(topic, json!(messages)).await;
}

/// A join's body for one topic.
fn orders() -> Value {
    json!({"topics": ["orders"]})
}

/// What a poll says that looks and does not wait.
fn look() -> Value {
    json!({"wait": "0s"})
}

/// A poll that waits, in a task of its own.
fn park(member: &Member, more: Value) -> JoinHandle<(Answer, Instant)> {
    let member = member.clone();
    Lifecycle::new().spawn(async move {
        let answer = member.try_poll(more).await;
        (answer, Instant::now())
    })
}

/// The answer of a poll that waited, from which the member goes on.
async fn unpark(member: &mut Member, parked: JoinHandle<(Answer, Instant)>) -> Value {
    let (answer, _) = soon("the poll is answered", parked).await.expect("no panic");
    member.follow(&answer.ok());
    answer.ok()
}

/// Polls until the member has so many partitions, confirming whatever it is told to give up.
async fn settle(members: &mut [&mut Member], shares: &[usize]) {
    eventually("every member has its share", async || {
        for member in members.iter_mut() {
            let told = member.poll(json!({"wait": "0s", "max": 0})).await;
            if told["revoke"] != json!([]) {
                member.poll(json!({"wait": "0s", "max": 0, "revoked": revoked(&told)})).await;
            }
        }
        let has: Vec<usize> = members.iter().map(|member| member.has().len()).collect();
        (has == shares).then_some(())
    })
    .await;
}

/// Stops all nodes.
async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.stop().await.expect("stops");
    }
}
