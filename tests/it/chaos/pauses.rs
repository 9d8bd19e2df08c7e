//! A node that stands still past every deadline, while another goes on, and then goes on too.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{
    PATIENCE,
    load::{Load, Plan, make_topic},
    rig::Rig,
};
use crate::{
    history::Recorder,
    support::{seed, within},
};

/// Longer than a publish waits for its answer.
const STANDSTILL: Duration = Duration::from_secs(5);

/// Opens the next bucket of the topic's class and seals the one before, beside the node that has
/// this duty and stands still.
const ROLL: &str = "
    update postrider.buckets set opens_at = clock_timestamp()
    where retention_class = 3 and state = 'ahead';
    select postrider.roll_buckets(3::smallint);
    select postrider.seal_bucket(bucket_id) from postrider.buckets
    where retention_class = 3 and state = 'closed'";

#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_node_that_stood_still_harms_nothing() {
    let seed = seed();
    let rig = Rig::shared(2).await;
    let recorder = Recorder::new(seed);
    let settings = json!({ "partitions": 3, "retention": "7d" });
    let topics = [make_topic(&rig.addresses, &recorder, "still", settings, None).await];
    let plan = |publish_on: usize, read_on: usize| Plan {
        publishers: 4,
        publish_on: vec![publish_on],
        read_on: vec![read_on],
        ..Plan::usual(seed ^ (publish_on as u64), 2)
    };
    // What one node appends is read on the other.
    let mut stopped = Load::start(&plan(0, 1), &rig.addresses, &recorder, &topics);
    let going = Load::start(&plan(1, 1), &rig.addresses, &recorder, &topics);
    going.acked(3_000).await;
    rig.signal_node(0, Signal::STOP);
    let (since, before) = (Instant::now(), recorder.acked());
    rig.run(ROLL).await;
    within(PATIENCE, "the other node goes on", async || {
        let more = recorder.acked() - before;
        (more > 2_000 && since.elapsed() > STANDSTILL).then_some(())
    })
    .await;
    rig.signal_node(0, Signal::CONT);
    // Its memory is old now; what it says of the log must not be.
    let mut woken = Load::start(&plan(0, 0), &rig.addresses, &recorder, &topics);
    going.acked(recorder.acked() + 3_000).await;
    woken.end().await;
    stopped.end().await;
    let history = going.judge(0).await;
    let extent = history.extent();
    println!("{extent:?}");
    let sealed = "select count(*) from postrider.buckets where state = 'sealed'";
    assert!(rig.numbers(sealed).await[0] > 0, "no bucket was sealed meanwhile");
    assert!(extent.acked >= 8_000 && extent.finally >= extent.acked, "{extent:?}");
}
