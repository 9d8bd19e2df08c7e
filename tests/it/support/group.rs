//! A member of a consumer group over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Client};

/// A member that joined, and where it stands. It says what it was answered and does nothing by
/// itself. Clones go on from the same place, as a process and its ghost would.
#[derive(Clone, Debug)]
pub struct Member {
    /// The node that it asks.
    pub client: Client,
    /// The group.
    pub group: String,
    /// Its id.
    pub id: String,
    /// Its generation.
    pub generation: i64,
    /// What goes into its next poll.
    pub cursor: String,
    /// What it was last told it has.
    pub assignments: Vec<Value>,
}

impl Member {
    /// Joins with a body such as `{"topics": ["orders"]}`.
    pub async fn join(client: &Client, group: &str, body: Value) -> Self {
        let answer = Self::try_join(client, group, &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let joined = answer.value();
        Self {
            client: client.clone(),
            group: group.to_owned(),
            id: joined["member_id"].as_str().expect("a member").to_owned(),
            generation: joined["generation"].as_i64().expect("a generation"),
            cursor: joined["cursor"].as_str().expect("a cursor").to_owned(),
            assignments: joined["assignments"].as_array().expect("a list").clone(),
        }
    }

    /// Joins, whatever comes of it.
    pub async fn try_join(client: &Client, group: &str, body: &Value) -> Answer {
        client.json(Method::POST, &format!("/v1/groups/{group}/members"), body).await
    }

    /// Polls with the member's cursor and `more`, such as `{"max": 10, "commit": […]}`, and goes on
    /// from the answer.
    pub async fn poll(&mut self, more: Value) -> Value {
        let answer = self.try_poll(more).await.ok();
        self.follow(&answer);
        answer
    }

    /// Goes on from an answer.
    pub fn follow(&mut self, answer: &Value) {
        self.cursor = answer["cursor"].as_str().expect("a cursor").to_owned();
        self.assignments = answer["assignments"].as_array().expect("a list").clone();
    }

    /// Polls with the member's cursor, whatever comes of it.
    pub async fn try_poll(&self, mut more: Value) -> Answer {
        if more.get("cursor").is_none() {
            more["cursor"] = json!(self.cursor);
        }
        self.client.json(Method::POST, &self.path("/poll"), &more).await
    }

    /// Leaves.
    pub async fn leave(&self) {
        let answer = self.client.send(self.client.request(Method::DELETE, &self.path(""))).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    fn path(&self, more: &str) -> String {
        format!("/v1/groups/{}/members/{}{more}", self.group, self.id)
    }

    /// Topic, partition and epoch of everything that it was last told it has.
    pub fn has(&self) -> Vec<(String, u64, i64)> {
        self.assignments.iter().map(assignment).collect()
    }

    /// An entry of `commit` for what it has of a partition.
    pub fn commit(&self, topic: &str, partition: u64, offset: i64) -> Value {
        let epoch = self.epoch(topic, partition);
        json!({"topic": topic, "partition": partition, "offset": offset, "epoch": epoch})
    }

    /// The epoch under which it has a partition.
    pub fn epoch(&self, topic: &str, partition: u64) -> i64 {
        let has = self.has();
        let found = has.iter().find(|(name, index, _)| name == topic && *index == partition);
        found.unwrap_or_else(|| panic!("{topic}/{partition} is not among {has:?}")).2
    }
}

/// Topic, partition and epoch of an entry of `assignments` or `revoke`.
pub fn assignment(entry: &Value) -> (String, u64, i64) {
    let topic = entry["topic"].as_str().expect("a topic").to_owned();
    let partition = entry["partition"].as_u64().expect("a partition");
    (topic, partition, entry["epoch"].as_i64().expect("an epoch"))
}

/// The entries of `revoked` that answer `revoke`.
pub fn revoked(answer: &Value) -> Value {
    let entries = answer["revoke"].as_array().expect("a list").iter().map(assignment);
    let entries = entries.map(
        |(topic, partition, epoch)| json!({"topic": topic, "partition": partition, "epoch": epoch}),
    );
    Value::Array(entries.collect())
}

/// Topic, partition and offset of each message.
pub fn places(answer: &Value) -> Vec<(String, u64, i64)> {
    let place = |message: &Value| {
        let topic = message["topic"].as_str().expect("a topic").to_owned();
        let partition = message["partition"].as_u64().expect("a partition");
        (topic, partition, message["offset"].as_i64().expect("an offset"))
    };
    answer["messages"].as_array().expect("a list").iter().map(place).collect()
}
