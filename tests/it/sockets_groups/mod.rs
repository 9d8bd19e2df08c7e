//! Members of consumer groups over sockets, sentence by sentence, then under faults.

mod credit;
mod ends;
mod life;
mod mixed;
mod revoke;
mod silence;
mod takeover;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Node, Socket, TwoNodes, eventually, group::assignment};

/// A node's address as sockets take it.
fn at(node: &Node) -> String {
    node.address().to_string()
}

/// A `subscribe` to `orders` as a member of `billing`, with `more`.
fn subscribe(sub: &str, more: Value) -> Value {
    let mut frame =
        json!({"op": "subscribe", "sub": sub, "topics": ["orders"], "group": "billing"});
    for (field, value) in more.as_object().expect("fields") {
        frame[field] = value.clone();
    }
    frame
}

/// Joins over a socket: the `ok`, and everything that the member was first told it has.
async fn join(socket: &mut Socket, sub: &str, more: Value) -> (Value, Vec<Value>) {
    let ok = socket.call(subscribe(sub, more)).await;
    (ok, assigned(socket, sub).await)
}

/// The next whole list of what a member has.
async fn assigned(socket: &mut Socket, sub: &str) -> Vec<Value> {
    let mut frame = socket.of(sub, "assigned").await;
    let Value::Array(entries) = frame["assignments"].take() else { panic!("{frame}") };
    entries
}

/// Waits until a member has so many partitions.
async fn has(socket: &mut Socket, sub: &str, count: usize) -> Vec<Value> {
    loop {
        let entries = assigned(socket, sub).await;
        if entries.len() == count {
            return entries;
        }
    }
}

/// Topic, partition and epoch of entries.
fn held(entries: &[Value]) -> Vec<(String, u64, i64)> {
    entries.iter().map(assignment).collect()
}

/// An entry of `commit` for an entry of `assigned`.
fn next(entry: &Value, offset: i64) -> Value {
    let (topic, partition, epoch) = assignment(entry);
    json!({"topic": topic, "partition": partition, "offset": offset, "epoch": epoch})
}

/// Gives up what a `revoke` names and commits these offsets with it.
fn release(sub: &str, revoke: &Value, offsets: Value) -> Value {
    json!({"op": "release", "sub": sub, "assignments": revoke["assignments"], "offsets": offsets})
}

fn commit(sub: &str, offsets: Value) -> Value {
    json!({"op": "commit", "sub": sub, "offsets": offsets})
}

/// Publishes `count` messages into one partition, numbered from `from` on.
async fn fill(client: &Client, partition: u64, from: i64, count: i64) {
    let message = |number: i64| json!({"value": number, "partition": partition});
    let messages: Vec<Value> = (from..from + count).map(message).collect();
    client.publish("orders", json!(messages)).await;
}

/// The offsets of messages, which are all of one partition and carry this epoch.
fn offsets(messages: &[Value], partition: u64, epoch: i64) -> Vec<i64> {
    let offset = |message: &Value| {
        assert_eq!((&message["topic"], &message["epoch"]), (&json!("orders"), &json!(epoch)));
        assert_eq!(message["partition"], partition, "{message}");
        message["offset"].as_i64().expect("an offset")
    };
    messages.iter().map(offset).collect()
}

/// The group as others see it: member ids and generations.
async fn members(client: &Client) -> Vec<(String, i64)> {
    let group = client.get("/v1/groups/billing").await;
    if group.status == 404 {
        return Vec::new();
    }
    let group = group.ok();
    let member = |member: &Value| {
        let id = member["member_id"].as_str().expect("an id").to_owned();
        (id, member["generation"].as_i64().expect("a generation"))
    };
    group["members"].as_array().expect("a list").iter().map(member).collect()
}

/// Committed offsets by partition.
async fn committed(client: &Client) -> Vec<i64> {
    let group = client.get("/v1/groups/billing").await.ok();
    let offset = |entry: &Value| entry["committed_offset"].as_i64().expect("an offset");
    group["partitions"].as_array().expect("a list").iter().map(offset).collect()
}

/// Two nodes and a topic of so many partitions.
async fn two_with(partitions: u32) -> TwoNodes {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": partitions})).await;
    // The other node has heard of it.
    eventually("both know the topic", async || {
        (pair.clients[1].get("/v1/topics/orders").await.status == 200).then_some(())
    })
    .await;
    pair
}

/// How long a step took.
async fn timed<T>(step: impl Future<Output = T>) -> (T, Duration) {
    let since = Instant::now();
    (step.await, since.elapsed())
}

async fn delete(client: &Client, path: &str) {
    let answer = client.send(client.request(Method::DELETE, path)).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}
