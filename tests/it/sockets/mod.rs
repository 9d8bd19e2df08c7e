//! `/v1/ws`, one socket by itself and beside others: what is wrong gets its documented error or
//! close code and touches nobody else; what is right comes whole, in order and within its credit.

mod bad_frames;
mod bad_subscriptions;
mod bad_wire;
mod credit;
mod filters;
mod patterns;
mod resume;
mod session;
mod tails;
mod upgrade;

use serde_json::{Value, json};

use crate::support::{Client, Node, Socket, TestDatabase, one_node};

/// A node with a topic `orders` of one partition, and a socket that reads it on.
struct Scene {
    _database: TestDatabase,
    node: Node,
    client: Client,
    neighbour: Socket,
    published: i64,
}

impl Scene {
    async fn new() -> Self {
        let (database, node, client) = one_node().await;
        client.put_topic("orders", json!({"partitions": 1})).await;
        let mut neighbour = Socket::open(&node.address().to_string()).await;
        tail(&mut neighbour, "n", "orders").await;
        Self { _database: database, node, client, neighbour, published: 0 }
    }

    fn base(&self) -> String {
        self.node.address().to_string()
    }

    async fn socket(&self) -> Socket {
        Socket::open(&self.base()).await
    }

    /// One message more, which the neighbour receives like all before.
    async fn neighbour_receives(&mut self) {
        let messages = json!([{"value": self.published}]);
        assert_eq!(self.client.publish("orders", messages).await, [(0, self.published)]);
        let received = self.neighbour.messages("n", 1).await;
        assert_eq!(received[0]["offset"], self.published, "{received:?}");
        self.neighbour.send(json!({"op": "credit", "sub": "n", "messages": 1})).await;
        self.published += 1;
    }

    async fn ends(mut self) {
        self.neighbour_receives().await;
        self.neighbour.close().await;
        self.node.stop().await.expect("stops");
    }
}

/// Reads a topic on from its end.
async fn tail(socket: &mut Socket, sub: &str, topic: &str) -> Value {
    socket.call(json!({"op": "subscribe", "sub": sub, "topic": topic})).await
}

/// Messages without keys whose values count from `from` on.
fn numbered(from: i64, count: i64) -> Value {
    (from..from + count).map(|n| json!({"value": n, "partition": 0})).collect()
}

/// The offsets of a partition's messages, in the order in which they came.
fn offsets(messages: &[Value], partition: u32) -> Vec<i64> {
    let of_partition = messages.iter().filter(|message| message["partition"] == partition);
    of_partition.map(|message| message["offset"].as_i64().expect("an offset")).collect()
}

/// The items of a `messages` frame as they count against credit: a comma stands behind each.
fn bytes(frame: &Value) -> usize {
    frame["messages"].to_string().len() - 1
}

/// Checks that a `messages` frame goes on where its partition stands in `next`, without a gap, and
/// how many messages it has.
fn is_dense(frame: &Value, next: &mut [i64]) -> i64 {
    let next = &mut next[frame["partition"].as_u64().expect("a partition") as usize];
    let messages = frame["messages"].as_array().expect("messages");
    assert!(!messages.is_empty(), "{frame}");
    for message in messages {
        assert_eq!(message["offset"], *next, "{frame}");
        *next += 1;
    }
    messages.len() as i64
}
