//! The promises without faults: everything that clients and operators do at the same time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rand::{Rng, seq::IndexedRandom};
use serde_json::json;
use tokio::time::sleep;

use super::{
    client::{Client, Topic},
    load::{Load, Plan, make_topic},
    message::{Form, Kind, Message},
    rig::Rig,
    stream,
    wire::Request,
};
use crate::{
    history::{Recorder, Seen},
    support::{is_long, seed},
};

fn time() -> Duration {
    Duration::from_secs(if is_long() { 60 } else { 8 })
}

/// Between two changes: what they change must be used before the next.
const CHANGE_EACH: Duration = Duration::from_millis(300);

/// The next bucket of every class is due now; the node that has this duty opens it.
const DUE: &str = "update postrider.buckets set opens_at = clock_timestamp() where state = 'ahead'";

async fn patch(client: &mut Client, node: usize, topic: &Topic, settings: serde_json::Value) {
    let target = format!("/v1/topics/{}", topic.name);
    let body = settings.to_string();
    let answer = client.ask(node, &Request::json("PATCH", &target, body.as_bytes())).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_without_faults_every_promise_holds() {
    let seed = seed();
    let mut random = stream(seed, "changes");
    let rig = Rig::shared(2).await;
    let recorder = Recorder::new(seed);
    let mut topics = Vec::new();
    for (name, partitions) in [("wide", 4), ("narrow", 1), ("apart", 2)] {
        let keyless = if name == "apart" { "round_robin" } else { "sticky" };
        let settings = json!({ "partitions": partitions, "keyless": keyless });
        topics.push(make_topic(&rig.addresses, &recorder, name, settings, None).await);
    }
    let plan = Plan { scanners: 3, ..Plan::usual(seed, 2) };
    let mut load = Load::start(&plan, &rig.addresses, &recorder, &topics);
    let mut client = Client::new(&rig.addresses, &recorder);
    let (begun, mut grown, mut moved) = (Instant::now(), 0, 0);
    while begun.elapsed() < time() {
        let topic = Arc::clone(topics.choose(&mut random).expect("there are topics"));
        let node = random.random_range(0..2);
        match random.random_range(0..4) {
            0 if topic.partitions.load(Ordering::Relaxed) < 8 => {
                let more = topic.partitions.load(Ordering::Relaxed) + 1;
                patch(&mut client, node, &topic, json!({ "partitions": more })).await;
                topic.partitions.store(more, Ordering::Relaxed);
                load.follow(&plan, &topic, more - 1);
                grown += 1;
            }
            0 | 1 => {
                let retention = ["1h", "1d", "7d", "30d", "forever"].choose(&mut random);
                patch(&mut client, node, &topic, json!({ "retention": retention })).await;
                moved += 1;
            }
            2 => {
                let compression = ["none", "lz4", "zstd"].choose(&mut random);
                patch(&mut client, node, &topic, json!({ "compression": compression })).await;
            }
            _ => rig.run(DUE).await,
        }
        sleep(CHANGE_EACH).await;
    }
    load.acked(10_000).await;
    println!("{:?}", recorder.notes());
    let history = load.judge(1).await;
    let extent = history.extent();
    println!("grown {grown}, moved {moved}: {extent:?}");
    let sealed = rig.numbers("select count(*) from postrider.buckets where state = 'sealed'").await;
    assert!(grown > 0 && moved > 0 && sealed[0] > 0, "{grown} {moved} {sealed:?}");
    assert!(extent.acked >= 10_000 && extent.finally == extent.acked, "{extent:?}");
    assert_eq!((extent.failed, extent.unknown), (0, 0), "nothing was in the way: {extent:?}");
    let unanswered = history.reads.iter().filter(|read| read.seen == Seen::Nothing).count();
    assert_eq!(unanswered, 0, "reads without an answer");
}

/// A change that one node answered counts on the others, though they have not heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_topic_that_grew_on_one_node_is_so_on_the_others() {
    let rig = Rig::shared(2).await;
    let recorder = Recorder::new(0);
    let settings = json!({ "partitions": 1 });
    let topic = make_topic(&rig.addresses, &recorder, "growing", settings, None).await;
    let mut client = Client::new(&rig.addresses, &recorder);
    for grown in 1..20 {
        let into = |partition| Message::new(Kind::Text, None, Some(partition), 8);
        // The other node knows the topic as it was.
        assert!(client.publish(1, &topic, &[into(grown - 1)], Form::Batch).await);
        patch(&mut client, 0, &topic, json!({ "partitions": grown + 1 })).await;
        let form = if grown % 2 == 0 { Form::Batch } else { Form::Lines };
        let sent = [into(grown - 1), into(grown)];
        assert!(client.publish(1, &topic, &sent, form).await, "{:?}", recorder.notes());
    }
    let beyond = [Message::new(Kind::Text, None, Some(20), 8)];
    assert!(!client.publish(1, &topic, &beyond, Form::Batch).await);
    assert_eq!(recorder.notes()["422 partition_out_of_range"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_retention_takes_nothing_early_and_says_so() {
    let seed = seed();
    let rig = Rig::shared(2).await;
    let recorder = Recorder::new(seed);
    let keep = Duration::from_secs(1);
    let settings = json!({ "partitions": 3, "retention": "1s" });
    let topic = make_topic(&rig.addresses, &recorder, "short", settings, Some(keep)).await;
    let plan = Plan { scanners: 4, ..Plan::usual(seed, 2) };
    let load = Load::start(&plan, &rig.addresses, &recorder, &[topic]);
    let begun = Instant::now();
    while begun.elapsed() < time() {
        rig.run(DUE).await;
        sleep(CHANGE_EACH).await;
    }
    let history = load.judge(0).await;
    let extent = history.extent();
    println!("{extent:?}");
    let below = |seen: &Seen| match seen {
        Seen::Page { low, .. } => (*low > 0, false),
        Seen::OutOfRange { low, .. } => (*low > 0, true),
        Seen::Nothing => (false, false),
    };
    let seen: Vec<_> = history.reads.iter().map(|read| below(&read.seen)).collect();
    assert!(seen.contains(&(true, false)), "the low watermark never rose");
    assert!(seen.contains(&(true, true)), "nobody read below it");
    assert!(extent.finally < extent.acked && extent.failed == 0, "{extent:?}");
}
