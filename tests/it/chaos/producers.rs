//! Idempotent producers while nodes are killed and the topic grows: every request is sent until
//! its fate is known, through any node, and some of them again afterwards.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::future::join_all;
use rand::{Rng, rngs::StdRng};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Client, Topic},
    load::{Load, Plan, make_topic},
    message::{Kind, Message, Parcel},
    rig::{Fault, Rig},
    stream,
    wire::Request,
};
use crate::{
    history::{Extent, Fate, Invariant, Recorder, Violation, check},
    support::seed,
};

const ADMIT: &str = include_str!("../../../migrations/functions/admit.sql");
const STANDING: &str = include_str!("../../../migrations/functions/standing_mark.sql");

/// Sequences of a producer that are under way together.
const DEEP: usize = 64;
/// After so many tries a request has an unknown fate for good.
const TRIES: usize = 200;

/// A request of a producer.
struct Numbered {
    claim: u64,
    messages: Vec<Message>,
    parcel: Parcel,
}

/// One producer.
struct Producer {
    id: u128,
    sequence: u64,
    topic: Arc<Topic>,
    random: StdRng,
}

impl Producer {
    fn next(&mut self) -> Numbered {
        let sequence = self.sequence;
        self.sequence += 1;
        let way = self.random.random_range(0..3);
        let count = if way == 2 { self.random.random_range(2..6) } else { 1 };
        let messages: Vec<Message> = (0..count)
            .map(|_| {
                let key = (way > 0).then(|| format!("key-{}", self.random.random_range(0..50)));
                Message::new(Kind::Json, key, None, 10)
            })
            .collect();
        let id = uuid::Uuid::from_u128(self.id).to_string();
        let parcel = Parcel::numbered(&self.topic.name, &messages, &id, sequence);
        let claim = (self.id as u64) << 32 | sequence;
        Numbered { claim, messages, parcel }
    }
}

/// Sends a request until its fate is known, each time through another node.
async fn until_known(client: &mut Client, nodes: usize, topic: &Topic, request: &Numbered) {
    let invoked = client.now();
    let mut last = vec![Fate::Fail; request.messages.len()];
    for try_number in 0..TRIES {
        let node = (request.claim as usize + try_number) % nodes;
        let sent = (&request.parcel, &request.messages[..]);
        let told = client.attempt(node, topic, request.claim, sent).await;
        match told {
            Some(told) if told.iter().all(|fate| matches!(fate, Fate::Ok { .. })) => {
                return client.ended(topic, invoked, &request.messages, &told);
            }
            // A later refusal says nothing of an earlier try that was lost.
            Some(told) if told.contains(&Fate::Info) => last = told,
            Some(_) | None => {}
        }
        sleep(Duration::from_millis(20)).await;
    }
    client.ended(topic, invoked, &request.messages, &last);
}

/// One request after the other, and now and then one of the last ones again.
async fn one_by_one(
    mut producer: Producer,
    mut client: Client,
    nodes: usize,
    s: CancellationToken,
) {
    let topic = Arc::clone(&producer.topic);
    let mut sent: VecDeque<Numbered> = VecDeque::new();
    while !s.is_cancelled() {
        let request = producer.next();
        until_known(&mut client, nodes, &topic, &request).await;
        sent.push_front(request);
        sent.truncate(DEEP - 4);
        if producer.random.random_bool(0.4) {
            let again = &sent[producer.random.random_range(0..sent.len())];
            let node = producer.random.random_range(0..nodes);
            let _ =
                client.attempt(node, &topic, again.claim, (&again.parcel, &again.messages)).await;
        }
    }
}

/// 64 requests at a time, every one of them sent twice at once.
async fn deep(mut producer: Producer, rig: Vec<Client>, nodes: usize, s: CancellationToken) {
    let topic = Arc::clone(&producer.topic);
    let mut clients = rig;
    while !s.is_cancelled() {
        let requests: Vec<Numbered> = (0..DEEP).map(|_| producer.next()).collect();
        let (firsts, seconds) = clients.split_at_mut(DEEP);
        let first = requests.iter().zip(firsts);
        let first = first.map(|(request, client)| until_known(client, nodes, &topic, request));
        let second = requests.iter().zip(seconds).map(|(request, client)| {
            let node = (request.claim as usize + 1) % nodes;
            client.attempt(node, &topic, request.claim, (&request.parcel, &request.messages))
        });
        tokio::join!(join_all(first), join_all(second));
    }
}

/// Producers over a topic of two partitions on all nodes.
async fn start(rig: &Rig, seed: u64, name: &str) -> (Load, JoinSet<()>, CancellationToken) {
    let recorder = Recorder::new(seed);
    let settings = json!({ "partitions": 2, "retention": "7d" });
    let topic = make_topic(&rig.addresses, &recorder, name, settings, None).await;
    let plan = Plan { publishers: 1, scanners: 0, batch_max: 5, ..Plan::usual(seed, rig.nodes()) };
    let load = Load::start(&plan, &rig.addresses, &recorder, std::slice::from_ref(&topic));
    let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
    let client = || Client::new(&rig.addresses, &recorder);
    for n in 0..5 {
        let mut random = stream(seed, &format!("producer {n}"));
        let id = u128::from(random.random::<u64>()) << 64 | (n + 1);
        let producer = Producer { id, sequence: 0, topic: Arc::clone(&topic), random };
        let (nodes, stop) = (rig.nodes(), stop.clone());
        if n == 0 {
            let clients = (0..2 * DEEP).map(|_| client()).collect();
            tasks.spawn(deep(producer, clients, nodes, stop));
        } else {
            tasks.spawn(one_by_one(producer, client(), nodes, stop));
        }
    }
    (load, tasks, stop)
}

/// The topic grows by some partitions, which are read from then on.
async fn grow(rig: &Rig, load: &mut Load, partitions: u32) {
    let topic = Arc::clone(&load.topics[0]);
    let target = format!("/v1/topics/{}", topic.name);
    let body = json!({ "partitions": partitions }).to_string();
    let mut client = Client::new(&rig.addresses, &Recorder::new(0));
    let answer = client.ask(0, &Request::json("PATCH", &target, body.as_bytes())).await;
    assert_eq!(answer.expect("an answer").status, 200);
    topic.partitions.store(partitions, std::sync::atomic::Ordering::Relaxed);
}

async fn finish(
    (mut load, mut tasks, stop): (Load, JoinSet<()>, CancellationToken),
    patience: Duration,
) -> (Vec<Violation>, Extent, usize) {
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a producer does not panic");
    }
    load.finish(0, patience).await;
    let history = load.recorder.history();
    println!("{:?}", load.recorder.notes());
    (check(&history), history.extent(), history.attempts.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_idempotent_producers_are_exactly_once_over_killed_nodes_and_growth() {
    let mut rig = Rig::shared(2).await;
    let seed = seed();
    let mut random = stream(seed, "faults");
    let (mut load, tasks, stop) = start(&rig, seed, "once").await;
    for partitions in [3, 5, 8] {
        load.acked(load.recorder.acked() + 300).await;
        rig.inject(Fault::Node, &mut random).await;
        load.acked(load.recorder.acked() + 100).await;
        rig.ready().await;
        grow(&rig, &mut load, partitions).await;
    }
    load.acked(load.recorder.acked() + 300).await;
    let patience = super::PATIENCE;
    let (found, extent, attempts) = finish((load, tasks, stop), patience).await;
    println!("{extent:?}, {attempts} attempts");
    assert_eq!(found, [], "seed {seed}");
    assert!(extent.acked >= 1_300 && attempts > 1_000, "an empty run: {extent:?}");
}

/// Marks by partition, where a repeat that goes elsewhere after growth finds none.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_planted_marks_by_partition_are_caught() {
    let rig = Rig::shared(2).await;
    let seed = seed();
    for planted in [false, true] {
        if planted {
            let begun = "begin\n  for _ in";
            assert!(ADMIT.contains(begun), "the function has changed");
            let by_partition = "begin
              owners := array(
                select ids[part_ids[u.first]]
                from unnest(firsts[:marks]) with ordinality u (first, n) order by n);
              for _ in";
            rig.run(&ADMIT.replacen(begun, by_partition, 1)).await;
            let by_owner = "m.owner_id = of_owner and ";
            assert!(STANDING.contains(by_owner), "the function has changed");
            rig.run(&STANDING.replacen(by_owner, "", 1)).await;
        }
        let name = format!("planted-{planted}");
        let (mut load, tasks, stop) = start(&rig, seed, &name).await;
        for partitions in [3, 5, 8] {
            load.acked(load.recorder.acked() + 200).await;
            grow(&rig, &mut load, partitions).await;
        }
        load.acked(load.recorder.acked() + 200).await;
        let patience = Duration::from_secs(5);
        let (found, extent, attempts) = finish((load, tasks, stop), patience).await;
        println!("planted {planted}: {} violations, {extent:?}, {attempts}", found.len());
        if !planted {
            assert_eq!(found, [], "seed {seed}");
            continue;
        }
        assert!(found.iter().any(|v| v.invariant == Invariant::L7), "not caught: {found:?}");
    }
}
