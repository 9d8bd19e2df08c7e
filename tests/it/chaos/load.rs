//! Publishers and readers that go on until they are told to stop, or until their time is over.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    PATIENCE,
    client::{Addresses, Asked, Client, Topic},
    message::{Form, Kind, Message},
    stream,
    wire::Request,
};
use crate::{
    history::{From, History, Recorder},
    support::within,
};

/// No load goes on for longer, whatever becomes of the test.
const LOAD_TIME_MAX: Duration = Duration::from_secs(240);

/// What a load is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of everything random.
    pub seed: u64,
    /// How many publishers.
    pub publishers: usize,
    /// Between two requests of a publisher.
    pub pace: Duration,
    /// The most messages of a request.
    pub batch_max: usize,
    /// How many readers jump about; every partition has one that follows it besides.
    pub scanners: usize,
    /// Which nodes publishers use.
    pub publish_on: Vec<usize>,
    /// Which nodes readers use.
    pub read_on: Vec<usize>,
}

impl Plan {
    /// Enough for ten thousand messages in two seconds of an unoptimised build on a busy machine.
    pub fn usual(seed: u64, nodes: usize) -> Self {
        let all: Vec<usize> = (0..nodes).collect();
        Self {
            seed,
            publishers: 8,
            pace: Duration::from_millis(10),
            batch_max: 100,
            scanners: 2,
            publish_on: all.clone(),
            read_on: all,
        }
    }
}

/// A running load. Dropped, it ends.
pub struct Load {
    /// What it writes down.
    pub recorder: Recorder,
    /// What it uses.
    pub topics: Vec<Arc<Topic>>,
    addresses: Addresses,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Load {
    /// Begins.
    pub fn start(
        plan: &Plan,
        addresses: &Addresses,
        recorder: &Recorder,
        topics: &[Arc<Topic>],
    ) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let worker = |purpose: &str, on: &[usize]| Worker {
            client: Client::new(addresses, recorder),
            random: stream(plan.seed, purpose),
            nodes: on.to_vec(),
            until: Instant::now() + LOAD_TIME_MAX,
            stop: stop.clone(),
        };
        for n in 0..plan.publishers {
            let worker = worker(&format!("publisher {n}"), &plan.publish_on);
            tasks.spawn(worker.publish(topics.to_vec(), plan.pace, plan.batch_max));
        }
        for topic in topics {
            for partition in 0..topic.partitions.load(Ordering::Relaxed) {
                let purpose = format!("follower {} {partition}", topic.id);
                let worker = worker(&purpose, &plan.read_on);
                tasks.spawn(worker.follow(Arc::clone(topic), partition));
            }
        }
        for n in 0..plan.scanners {
            let worker = worker(&format!("scanner {n}"), &plan.read_on);
            tasks.spawn(worker.scan(topics.to_vec()));
        }
        let (recorder, topics) = (recorder.clone(), topics.to_vec());
        Self { recorder, topics, addresses: Arc::clone(addresses), stop, tasks }
    }

    /// Waits until so many messages are acknowledged.
    pub async fn acked(&self, count: usize) {
        within(PATIENCE, &format!("{count} acknowledged messages"), async || {
            (self.recorder.acked() >= count).then_some(())
        })
        .await;
    }

    /// Follows one more partition of a topic, on any of these nodes.
    pub fn follow(&mut self, plan: &Plan, topic: &Arc<Topic>, partition: u32) {
        let worker = Worker {
            client: Client::new(&self.addresses, &self.recorder),
            random: stream(plan.seed, &format!("follower {} {partition}", topic.id)),
            nodes: plan.read_on.clone(),
            until: Instant::now() + LOAD_TIME_MAX,
            stop: self.stop.clone(),
        };
        self.tasks.spawn(worker.follow(Arc::clone(topic), partition));
    }

    /// Ends the load.
    pub async fn end(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a load does not panic");
        }
    }

    /// Ends the load and reads everything once more through one node, within `patience` for each
    /// partition. Whatever is not read by then is missing in the history.
    pub async fn finish(&mut self, node: usize, patience: Duration) {
        self.end().await;
        for topic in &self.topics {
            let mut client = Client::new(&self.addresses, &self.recorder);
            for partition in 0..topic.partitions.load(Ordering::Relaxed) {
                let _ = timeout(patience, drain(&mut client, node, topic, partition)).await;
            }
        }
    }

    /// Ends the load, reads everything once more and judges.
    pub async fn judge(mut self, node: usize) -> History {
        self.finish(node, PATIENCE).await;
        self.recorder.verdict().unwrap_or_else(|broken| panic!("{broken}"))
    }
}

/// Reads a partition from its low watermark to its high one.
async fn drain(client: &mut Client, node: usize, topic: &Topic, partition: u32) {
    let mut from = From::Earliest;
    loop {
        let asked = Asked { partition, from, limit: 10_000, wait_ms: 0, is_final: true };
        let Some(stand) = client.read(node, topic, asked).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        if stand.next >= stand.high {
            return;
        }
        from = From::Offset(stand.next);
    }
}

/// Makes a topic through a node and enters it into the history.
pub async fn make_topic(
    addresses: &Addresses,
    recorder: &Recorder,
    name: &str,
    settings: serde_json::Value,
    retention: Option<Duration>,
) -> Arc<Topic> {
    let mut client = Client::new(addresses, recorder);
    let target = format!("/v1/topics/{name}");
    let body = settings.to_string();
    let made = within(PATIENCE, "a topic is made", async || {
        let request = Request::json("PUT", &target, body.as_bytes());
        client.ask(0, &request).await.ok().filter(|answer| matches!(answer.status, 200 | 201))
    })
    .await;
    let made: serde_json::Value = serde_json::from_slice(&made.body).expect("a topic");
    let partitions = made["partitions"].as_u64().expect("a number") as u32;
    let id = recorder.topic(name, retention);
    Arc::new(Topic { name: name.to_owned(), id, partitions: partitions.into() })
}

/// Settings that differ with the seed.
pub fn random_settings(random: &mut StdRng, partitions: u32) -> serde_json::Value {
    let mut one = |words: &[&str]| words.choose(random).expect("there are words").to_string();
    let retention = one(&["1h", "1d", "7d", "forever"]);
    let compression = one(&["none", "lz4", "zstd"]);
    let keyless = one(&["sticky", "round_robin"]);
    json!({
        "partitions": partitions,
        "retention": retention,
        "compression": compression,
        "keyless": keyless,
    })
}

struct Worker {
    client: Client,
    random: StdRng,
    nodes: Vec<usize>,
    until: Instant,
    stop: CancellationToken,
}

impl Worker {
    fn goes_on(&self) -> bool {
        !self.stop.is_cancelled() && Instant::now() < self.until
    }

    fn node(&mut self) -> usize {
        *self.nodes.choose(&mut self.random).expect("there is a node")
    }

    async fn pause(&self, time: Duration) {
        let _ = timeout(time, self.stop.cancelled()).await;
    }

    async fn publish(mut self, topics: Vec<Arc<Topic>>, pace: Duration, batch_max: usize) {
        while self.goes_on() {
            let node = self.node();
            let topic = Arc::clone(topics.choose(&mut self.random).expect("there is a topic"));
            let (form, messages) = self.messages(&topic, batch_max);
            let all = self.client.publish(node, &topic, &messages, form).await;
            // Whoever was refused does not knock at once.
            self.pause(if all { pace } else { pace.max(Duration::from_millis(20)) }).await;
        }
    }

    fn messages(&mut self, topic: &Topic, batch_max: usize) -> (Form, Vec<Message>) {
        let random = &mut self.random;
        let form = match random.random_range(0..10) {
            0 => Form::Raw,
            1 => Form::Lines,
            _ => Form::Batch,
        };
        let count = match (form, random.random_range(0..5)) {
            (Form::Raw, _) | (_, 0) => 1,
            _ => random.random_range(1..=batch_max),
        };
        let partitions = topic.partitions.load(Ordering::Relaxed);
        let way = random.random_range(0..3);
        let message = |random: &mut StdRng| {
            let kinds = [Kind::Json, Kind::Text, Kind::Base64];
            let kinds = if form == Form::Raw { &kinds[..2] } else { &kinds[..] };
            let kind = *kinds.choose(random).expect("there are kinds");
            let key = (way == 0).then(|| format!("key-{}", random.random_range(0..50)));
            let number =
                (way == 1 && form != Form::Raw).then(|| random.random_range(0..partitions));
            Message::new(kind, key, number, random.random_range(0..100))
        };
        (form, (0..count).map(|_| message(random)).collect())
    }

    /// Follows a partition from its beginning, each page through another node.
    async fn follow(mut self, topic: Arc<Topic>, partition: u32) {
        let mut from = From::Earliest;
        while self.goes_on() {
            let limit = self.random.random_range(1..=2_000);
            let asked = Asked { partition, from, limit, wait_ms: 200, is_final: false };
            let node = self.node();
            match self.client.read(node, &topic, asked).await {
                Some(stand) => from = From::Offset(stand.next),
                None => self.pause(Duration::from_millis(20)).await,
            }
        }
    }

    /// Reads here and there.
    async fn scan(mut self, topics: Vec<Arc<Topic>>) {
        let mut high = 1;
        while self.goes_on() {
            let topic = Arc::clone(topics.choose(&mut self.random).expect("there is a topic"));
            let partitions = topic.partitions.load(Ordering::Relaxed);
            let from = match self.random.random_range(0..6) {
                0 => From::Earliest,
                1 | 2 => From::Latest,
                _ => From::Offset(self.random.random_range(0..high + 2)),
            };
            let asked = Asked {
                partition: self.random.random_range(0..partitions),
                from,
                limit: self.random.random_range(1..=200),
                wait_ms: *[0, 0, 50].choose(&mut self.random).expect("there are waits"),
                is_final: false,
            };
            let node = self.node();
            if let Some(stand) = self.client.read(node, &topic, asked).await {
                high = stand.high.max(1);
            }
            self.pause(Duration::from_millis(5)).await;
        }
    }
}
