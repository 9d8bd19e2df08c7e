//! kill -9 of a node, of a backend and of the postmaster under load. A round heals, reads
//! everything and is judged; one with fewer than 10,000 acknowledged messages is no round.

use std::time::Instant;

use rand::Rng;

use super::{
    load::{Load, Plan, make_topic, random_settings},
    rig::{Fault, Rig, fetched},
    stream,
};
use crate::{
    history::Recorder,
    support::{is_long, seed},
};

/// Fewer than that show nothing.
const ACKED_MIN: usize = 10_000;

fn rounds() -> u64 {
    if is_long() { 20 } else { 3 }
}

/// Rounds of one fault. Somewhere in them a request must have been caught without an answer.
async fn rounds_of(mut rig: Rig, fault: Fault) {
    let seed = seed();
    let mut unknown = 0;
    for round in 0..rounds() {
        unknown += one_round(&mut rig, fault, seed.wrapping_add(round)).await;
    }
    assert!(unknown > 0, "no request was in flight when something died");
}

/// One round: load, fault, more load, judgement. Returns of how many messages nobody knew.
async fn one_round(rig: &mut Rig, fault: Fault, seed: u64) -> usize {
    let mut random = stream(seed, "faults");
    let begun = Instant::now();
    let recorder = Recorder::new(seed);
    let name = format!("{fault:?}-{seed:x}").to_lowercase();
    let settings = random_settings(&mut random, 4);
    let topic = make_topic(&rig.addresses, &recorder, &name, settings, None).await;
    let plan = Plan::usual(seed, rig.nodes());
    let load = Load::start(&plan, &rig.addresses, &recorder, &[topic]);
    load.acked(random.random_range(1_000..5_000)).await;
    rig.inject(fault, &mut random).await;
    rig.ready().await;
    load.acked((recorder.acked() + 2_000).max(ACKED_MIN)).await;
    let notes = format!("{:?}", recorder.notes());
    let history = load.judge(0).await;
    println!("{notes}");
    let extent = history.extent();
    println!("{fault:?} seed {seed} in {:?}: {extent:?}", begun.elapsed());
    assert!(extent.acked >= ACKED_MIN, "an empty round: {extent:?}");
    assert!(extent.finally >= extent.acked && extent.pages > 0, "{extent:?}");
    extent.unknown
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_killed_node_loses_nothing() {
    rounds_of(Rig::external(2).await, Fault::Node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_killed_backend_loses_nothing() {
    rounds_of(Rig::external(2).await, Fault::Backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_killed_postmaster_loses_nothing() {
    rounds_of(Rig::external(2).await, Fault::Postmaster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_killed_node_with_the_fetched_server_loses_nothing() {
    rounds_of(Rig::embedded(Some(fetched().await)).await, Fault::Node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_killed_backend_of_the_fetched_server_loses_nothing() {
    rounds_of(Rig::embedded(Some(fetched().await)).await, Fault::Backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_killed_postmaster_of_the_fetched_server_loses_nothing() {
    rounds_of(Rig::embedded(Some(fetched().await)).await, Fault::Postmaster).await;
}
