//! One process of a member: it joins, polls with its cursor through node after node, commits what
//! it got and gives up what it is told to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
};

use rand::{Rng, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Scene, text};
use crate::{
    history::group::{Commit, Outcome, Part, Told},
    support::{Answer, Client},
};

/// How a process polls.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Messages of a poll, at the most.
    pub max: u32,
    /// How long a poll waits.
    pub wait: &'static str,
    /// Of a hundred polls so many commit what was got before.
    pub commits: u32,
    /// Whether it sends its cursor; the history says that it does anyhow.
    pub sends_cursor: bool,
}

/// A process that has joined.
pub struct Process {
    scene: Arc<Scene>,
    habits: Habits,
    /// The id of its member.
    pub id: String,
    number: u64,
    cursor: String,
    /// The answer that the cursor is of.
    follows: u64,
    parts: Vec<Part>,
    committed: HashMap<(u32, i64), i64>,
    node: usize,
}

/// An entry of a commit: its place in the history, partition and epoch, and as it is sent.
type Entry = (usize, (u32, i64), Value);

/// It is no member any more: it was silent for too long, or a later process has joined.
#[derive(Debug)]
pub struct Gone;

impl Process {
    /// Joins through any node that says yes; none when the scene is over before.
    pub async fn join(scene: &Arc<Scene>, habits: Habits, id: &str) -> Option<Self> {
        let number = scene.processes.fetch_add(1, Ordering::Relaxed);
        let body = json!({"topics": [scene.topic_name], "session_timeout": "3s", "member_id": id});
        let path = format!("/v1/groups/{}/members", scene.group);
        let mut node = number as usize;
        loop {
            if scene.is_over() {
                return None;
            }
            node += 1;
            let invoked = scene.recorder.now();
            let client = &scene.clients[node % scene.clients.len()];
            let Some(answer) = post(client, &path, &body).await else { continue };
            if answer.status != 201 {
                scene.recorder.note(&format!("join {}", answer.status));
                continue;
            }
            let (scene, id) = (Arc::clone(scene), id.to_owned());
            let (cursor, follows, parts) = (String::new(), 0, Vec::new());
            let committed = HashMap::new();
            let mut process =
                Self { scene, habits, id, number, cursor, follows, parts, committed, node };
            process.follow(&answer.value(), invoked, None);
            return Some(process);
        }
    }

    /// One poll.
    pub async fn step(&mut self, random: &mut StdRng) -> Result<(), Gone> {
        self.node += 1;
        let commits = self.commits(random);
        let given = self.parts.iter().filter(|part| part.is_revoked);
        let given: Vec<Value> = given.map(|part| self.entry(part)).collect();
        let entries: Vec<Value> = commits.iter().map(|(_, _, entry)| entry.clone()).collect();
        let Habits { max, wait, sends_cursor, .. } = self.habits;
        let mut body = json!({"max": max, "wait": wait, "commit": entries, "revoked": given});
        if sends_cursor {
            body["cursor"] = json!(self.cursor);
        }
        let invoked = self.scene.recorder.now();
        let path = format!("/v1/groups/{}/members/{}/poll", self.scene.group, self.id);
        let answer = post(self.client(), &path, &body).await;
        let Some(answer) = answer else { return Ok(()) };
        match answer.status {
            200 => {}
            404 | 409 => return Err(Gone),
            status => {
                self.scene.recorder.note(&format!("poll {status}"));
                return Ok(());
            }
        }
        let answer = answer.value();
        self.committed(commits, &answer);
        self.follow(&answer, invoked, Some(self.follows));
        Ok(())
    }

    /// Commits without a poll, which may be refused where the commit was not.
    pub async fn commit(&mut self, random: &mut StdRng) {
        let commits = self.commits(random);
        let entries: Vec<Value> = commits.iter().map(|(_, _, entry)| entry.clone()).collect();
        let path = format!("/v1/groups/{}/offsets", self.scene.group);
        let answer = post(self.client(), &path, &json!({"offsets": entries})).await;
        if let Some(answer) = answer.filter(|answer| answer.status == 200) {
            self.committed(commits, &answer.value());
        }
    }

    /// Writes down what became of commits.
    fn committed(&mut self, commits: Vec<Entry>, answer: &Value) {
        let errors = answer["commit_errors"].as_array().expect("a list");
        for (at, key, entry) in commits {
            let same = |error: &&Value| {
                ["partition", "epoch", "offset"].iter().all(|field| error[field] == entry[field])
            };
            let is_refused = errors.iter().any(|error| same(&error));
            if !is_refused {
                self.committed.insert(key, entry["offset"].as_i64().expect("an offset"));
            }
            let outcome = if is_refused { Outcome::Fail } else { Outcome::Ok };
            self.scene.recorder.committed(at, outcome);
        }
    }

    /// Leaves, if it still can.
    pub async fn leave(self) {
        let path = format!("/v1/groups/{}/members/{}", self.scene.group, self.id);
        let client = self.client();
        let _ = client.try_send(client.request(Method::DELETE, &path)).await;
    }

    fn client(&self) -> &Client {
        &self.scene.clients[self.node % self.scene.clients.len()]
    }

    fn entry(&self, part: &Part) -> Value {
        let (partition, epoch) = (part.partition, part.epoch);
        json!({"topic": self.scene.topic_name, "partition": partition, "epoch": epoch})
    }

    /// What is to be committed now, each with its place in the history.
    fn commits(&self, random: &mut StdRng) -> Vec<Entry> {
        let mut commits = Vec::new();
        for part in &self.parts {
            let (partition, epoch) = (part.partition, part.epoch);
            let offset = part.offset + part.messages.len() as i64;
            let key = (partition, epoch);
            let is_known = self.committed.get(&key).is_some_and(|known| *known >= offset);
            if is_known || random.random_range(0..100) >= self.habits.commits {
                continue;
            }
            let mut entry = self.entry(part);
            entry["offset"] = json!(offset);
            let recorder = &self.scene.recorder;
            let at = recorder.commits(Commit {
                group: self.scene.number,
                topic: self.scene.topic,
                partition,
                epoch,
                offset,
                invoked: recorder.now(),
                completed: u64::MAX,
                outcome: Outcome::Info,
            });
            commits.push((at, key, entry));
        }
        commits
    }

    fn follow(&mut self, answer: &Value, invoked: u64, follows: Option<u64>) {
        let mut messages: BTreeMap<u32, Vec<(i64, String)>> = BTreeMap::new();
        for message in answer["messages"].as_array().into_iter().flatten() {
            let partition = message["partition"].as_u64().expect("a partition") as u32;
            let offset = message["offset"].as_i64().expect("an offset");
            messages.entry(partition).or_default().push((offset, text(message)));
        }
        let is_revoked = |partition: u32| {
            let mut revoke = answer["revoke"].as_array().into_iter().flatten();
            revoke.any(|entry| entry["partition"] == partition)
        };
        let part = |entry: &Value| {
            let partition = entry["partition"].as_u64().expect("a partition") as u32;
            let got = messages.get(&partition).into_iter().flatten();
            Part {
                topic: self.scene.topic,
                partition,
                epoch: entry["epoch"].as_i64().expect("an epoch"),
                offset: entry["offset"].as_i64().expect("an offset"),
                gap: entry["gap"].as_i64().unwrap_or(0),
                is_revoked: is_revoked(partition),
                messages: got.map(|(offset, _)| *offset).collect(),
            }
        };
        self.parts = answer["assignments"].as_array().expect("a list").iter().map(part).collect();
        self.cursor = answer["cursor"].as_str().expect("a cursor").to_owned();
        let completed = self.scene.recorder.now();
        let (group, process, parts) = (self.scene.number, self.number, self.parts.clone());
        let told = Told { group, process, invoked, completed, follows, number: 0, parts };
        self.follows = self.scene.recorder.told(told);
        for (partition, messages) in &messages {
            let is_its = self.parts.iter().any(|part| part.partition == *partition);
            assert!(is_its, "messages of {partition}, which it has not: {answer}");
            self.scene.got(*partition, messages);
        }
    }
}

async fn post(client: &Client, path: &str, body: &Value) -> Option<Answer> {
    client.try_send(client.request(Method::POST, path).json(body)).await
}
