//! Nodes are killed while they drain.

use std::{collections::HashMap, time::Duration};

use serde_json::json;

use super::run;
use crate::{
    chaos::rig::{Fault, Rig},
    history::Recorder,
    support::{Client, seed, within},
};

const SESSIONS: u64 = 4;
const ROUNDS: u64 = 30;
const EACH: u64 = 100;

/// Each of them counts for its own key, a hundred in each transaction.
async fn publish(rig: &Rig, number: u64) {
    let mut session = rig.session().await;
    for round in 0..ROUNDS {
        let (first, last) = (round * EACH, (round + 1) * EACH - 1);
        let sql = format!(
            "select count(postrider.publish('counted', g::text, 'key {number}'))
             from generate_series({first}, {last}) g"
        );
        run(&mut session, &sql).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_it_drains_loses_and_doubles_nothing_kill() {
    let seed = seed();
    let mut random = rand::SeedableRng::seed_from_u64(seed);
    let mut rig = Rig::shared(2).await;
    let recorder = Recorder::new(seed);
    let settings = json!({"partitions": 3});
    crate::chaos::load::make_topic(&rig.addresses, &recorder, "counted", settings, None).await;
    for number in 0..SESSIONS {
        publish(&rig, number).await;
        // The drainer is in the middle of it, or on its way to be another one.
        rig.inject(Fault::Node, &mut random).await;
    }
    rig.ready().await;
    let address = rig.addresses.read().expect("not poisoned")[0];
    let client = Client::new(&format!("http://{address}"));
    let all = (SESSIONS * ROUNDS * EACH) as i64;
    let arrived = async || {
        let mut sum = 0;
        for partition in 0..3 {
            sum += client.watermarks("counted", partition).await.1;
        }
        assert!(sum <= all, "{sum} messages of {all}");
        (sum == all).then_some(())
    };
    within(Duration::from_secs(60), "everything arrives", arrived).await;
    let mut next: HashMap<String, u64> = HashMap::new();
    for partition in 0..3 {
        for message in client.read_all("counted", partition).await {
            let next = next.entry(message["key"].as_str().expect("a key").to_owned()).or_default();
            assert_eq!(message["value_text"], next.to_string(), "{message}");
            *next += 1;
        }
    }
    assert_eq!(next.len() as u64, SESSIONS);
    assert!(next.values().all(|count| *count == ROUNDS * EACH), "{next:?}");
    // Steps were undone, or other nodes went on: the shard was drained by several sessions.
    let slots = "select count(distinct slot) from postrider.wakes";
    assert!(rig.numbers(slots).await[0] > 1, "one drainer did it all");
}
