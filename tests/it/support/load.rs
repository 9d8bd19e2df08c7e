//! A load of publishes that remembers what it was told, and checks it against the log.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use postrider::lifecycle::Lifecycle;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Client;

/// Tasks that publish one numbered message after the other until they are told to stop.
pub struct Load {
    tasks: Vec<JoinHandle<Told>>,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    life: Lifecycle,
}

/// What a load was told.
#[derive(Debug, Default)]
pub struct Told {
    /// Number, partition and offset of each acknowledged message.
    pub acked: Vec<(u64, u32, i64)>,
    /// Numbers of messages that were refused with effect none.
    pub refused: Vec<u64>,
    /// Numbers of messages of which nobody knows.
    pub unknown: Vec<u64>,
    /// Status and code of each refusal.
    pub problems: Vec<(u16, String)>,
    /// The longest wait for an answer.
    pub longest: Duration,
}

impl Load {
    /// `tasks` publishers into `topic`, message `n` with key `n % keys` and `padding` bytes.
    pub fn start(clients: &[Client], topic: &str, tasks: u64, padding: usize) -> Self {
        let life = Lifecycle::new();
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let path = format!("/v1/topics/{topic}/messages");
        let spawn = |task: u64| {
            let client = clients[task as usize % clients.len()].clone();
            let (path, stop, acked) = (path.clone(), Arc::clone(&stop), Arc::clone(&acked));
            life.spawn(async move {
                let mut told = Told::default();
                let mut number = task;
                while !stop.load(Ordering::Relaxed) {
                    told.publish(&client, &path, number, padding).await;
                    acked.fetch_max(told.acked.len() as u64, Ordering::Relaxed);
                    number += tasks;
                }
                told
            })
        };
        let tasks = (0..tasks).map(spawn).collect();
        Self { tasks, stop, acked, life }
    }

    /// How many messages the busiest of its tasks has had acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Stops it and says what it was told.
    pub async fn stop(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for task in self.tasks {
            let told = task.await.expect("no panic");
            all.acked.extend(told.acked);
            all.refused.extend(told.refused);
            all.unknown.extend(told.unknown);
            all.problems.extend(told.problems);
            all.longest = all.longest.max(told.longest);
        }
        self.life.finished().await;
        all
    }
}

impl Told {
    async fn publish(&mut self, client: &Client, path: &str, number: u64, padding: usize) {
        let more = noise(padding);
        let message = json!({"key": format!("k{}", number % 7), "value": [number, more]});
        let body = json!({"messages": [message]});
        let since = Instant::now();
        let answer = client.try_send(client.request(Method::POST, path).json(&body)).await;
        self.longest = self.longest.max(since.elapsed());
        let Some(answer) = answer else {
            self.unknown.push(number);
            return;
        };
        if answer.status == 200 {
            let (partition, offset) = answer.results()[0];
            self.acked.push((number, partition, offset));
            return;
        }
        let problem = answer.value();
        self.problems.push((answer.status, problem["code"].as_str().unwrap_or("?").to_owned()));
        if problem["effect"] == "none" {
            self.refused.push(number);
        } else {
            self.unknown.push(number);
        }
    }

    /// Checks that every acknowledged message is where it was said to be.
    pub async fn is_there(&self, client: &Client, topic: &str, partitions: u32) {
        let mut logs = Vec::new();
        for partition in 0..partitions {
            logs.push(client.read_all(topic, partition).await);
        }
        for (number, partition, offset) in &self.acked {
            let message = &logs[*partition as usize][*offset as usize];
            assert_eq!(message["offset"], *offset, "a gap in partition {partition}");
            assert_eq!(message["value"][0], *number, "message {number} was acknowledged");
        }
        for message in logs.iter().flatten() {
            let number = message["value"][0].as_u64();
            let is_refused = number.is_some_and(|number| self.refused.contains(&number));
            assert!(!is_refused, "message {number:?} was refused and is there");
        }
    }

    /// Checks the log: offsets without a gap, every acknowledged message where it was said to be,
    /// nothing twice, nothing that was refused, nothing that nobody sent.
    pub async fn holds(&self, client: &Client, topic: &str, partitions: u32) {
        let mut found: HashMap<u64, (u32, i64)> = HashMap::new();
        for partition in 0..partitions {
            for (at, message) in client.read_all(topic, partition).await.iter().enumerate() {
                assert_eq!(message["offset"], at as i64, "a gap in partition {partition}");
                let number = number(message);
                let before = found.insert(number, (partition, at as i64));
                assert!(before.is_none(), "message {number} is there twice");
            }
        }
        for (number, partition, offset) in &self.acked {
            let place = found.remove(number);
            assert_eq!(place, Some((*partition, *offset)), "message {number} was acknowledged");
        }
        for number in &self.refused {
            assert!(!found.contains_key(number), "message {number} was refused and is there");
        }
        for number in found.keys() {
            assert!(self.unknown.contains(number), "message {number} was never sent");
        }
    }
}

/// Letters that no compression makes much smaller.
fn noise(length: usize) -> &'static str {
    static NOISE: LazyLock<String> = LazyLock::new(|| {
        (0..1 << 20).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect()
    });
    let start = rand::random_range(0..=NOISE.len() - length);
    &NOISE[start..start + length]
}

fn number(message: &Value) -> u64 {
    message["value"][0].as_u64().unwrap_or_else(|| panic!("{message}"))
}
