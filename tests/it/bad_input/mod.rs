//! Bad input gets a clear error and loses nothing: each way to be wrong, with status, code and
//! effect, and the log as it was.

mod bodies;
mod clients;
mod database;
mod disk;
mod kept;
mod messages;
mod names;
mod offsets;
mod settings;
mod starts;

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::{Answer, Client, Node, TestDatabase};

const JSON: &str = "application/json";
const MESSAGES: &str = "/v1/topics/orders/messages";
const RAW: &str = "/v1/topics/orders/messages/raw";

/// A node with a topic `orders` of two partitions, three messages in each.
struct Scene {
    database: TestDatabase,
    node: Node,
    client: Client,
    before: Snapshot,
}

/// Everything that a refused request must leave alone.
#[derive(Debug, PartialEq)]
struct Snapshot {
    partitions: Vec<((i64, i64), Vec<Value>)>,
    rows: Vec<String>,
}

impl Snapshot {
    async fn of(database: &TestDatabase, client: &Client) -> Self {
        let mut partitions = Vec::new();
        for number in [0, 1] {
            let marks = client.watermarks("orders", number).await;
            partitions.push((marks, client.read_all("orders", number).await));
        }
        let mut rows = Vec::new();
        for table in ["topics", "partitions", "segments", "partition_lows", "batches"] {
            let sql = format!("select t::text from postrider.{table} t order by 1");
            let found = database.rows(&sql).await;
            rows.extend(
                found
                    .iter()
                    .map(|row| format!("{table} {}", row.try_get::<String, _>(0).expect("text"))),
            );
        }
        Self { partitions, rows }
    }
}

impl Scene {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let node = Node::on(&database).await;
        let client = node.client();
        client.put_topic("orders", json!({"partitions": 2})).await;
        for partition in [0, 1] {
            let message = |n: i64| json!({"key": "k", "value": n, "partition": partition});
            let at = client.publish("orders", json!([message(0), message(1), message(2)])).await;
            assert_eq!(at, [(partition, 0), (partition, 1), (partition, 2)]);
        }
        let before = Snapshot::of(&database, &client).await;
        Self { database, node, client, before }
    }

    /// POST of a JSON body to the topic.
    async fn publish(&self, body: impl Into<Bytes>) -> Answer {
        self.client.post(MESSAGES, JSON, body).await
    }

    /// PUT of settings to a topic.
    async fn put(&self, topic: &str, settings: Value) -> Answer {
        self.client.json(Method::PUT, &format!("/v1/topics/{topic}"), &settings).await
    }

    /// PATCH of the topic.
    async fn patch(&self, settings: Value) -> Answer {
        self.client.json(Method::PATCH, "/v1/topics/orders", &settings).await
    }

    /// The log and the catalog are as they were.
    async fn is_unchanged(&self) {
        let now = Snapshot::of(&self.database, &self.client).await;
        assert_eq!(now, self.before, "the log changed");
    }

    /// The log is as it was, the next good message gets the next offset, and the node stops.
    async fn ends_unchanged(self) {
        self.is_unchanged().await;
        for partition in [0, 1] {
            let good = json!([{"value": "good", "partition": partition}]);
            assert_eq!(self.client.publish("orders", good).await, [(partition, 3)]);
        }
        self.node.stop().await.expect("stops");
    }
}

/// Where the problem says that the mistake is.
fn pointer(problem: &Value) -> &str {
    problem["errors"][0]["pointer"].as_str().unwrap_or("nowhere")
}
