//! The primary is killed and its standby promoted, under a load whose history is judged.

use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::json;

use crate::{
    chaos::{
        load::{Load, Plan, make_topic, random_settings},
        rig::Rig,
        stream,
    },
    history::{Extent, Invariant, Recorder, Violation, check},
    support::{is_long, seed, within},
};

/// Fewer acknowledged messages than that show nothing.
const ACKED_MIN: usize = 3_000;
/// How soon after there is a synchronous standby again publishes are acknowledged.
const BACK_WITHIN: Duration = Duration::from_secs(10);

fn rounds() -> u64 {
    if is_long() { 20 } else { 3 }
}

/// One round: load, kill -9 of the primary, promotion, a new standby, more load, judgement.
async fn one_round(rig: &mut Rig, seed: u64) -> Extent {
    let mut random = stream(seed, "promotion");
    let recorder = Recorder::new(seed);
    let mut settings = random_settings(&mut random, 4);
    settings["durability"] = json!("replicated");
    let name = format!("promoted-{seed:x}");
    let topic = make_topic(&rig.addresses, &recorder, &name, settings, None).await;
    let load = Load::start(&Plan::usual(seed, rig.nodes()), &rig.addresses, &recorder, &[topic]);
    load.acked(random.random_range(500..2_000)).await;
    rig.servers().kill_primary();
    let killed = Instant::now();
    rig.servers().promote().await;
    let promoted = killed.elapsed();
    rig.servers().follow().await;
    let (before, followed) = (recorder.acked(), Instant::now());
    within(BACK_WITHIN, "the service is back", async || (recorder.acked() > before).then_some(()))
        .await;
    let back = followed.elapsed();
    load.acked((recorder.acked() + 1_000).max(ACKED_MIN)).await;
    rig.ready().await;
    let notes = format!("{:?}", recorder.notes());
    let extent = load.judge(0).await.extent();
    println!(
        "seed {seed}: promoted in {promoted:?}, back {back:?} after a standby was, {extent:?}"
    );
    println!("{notes}");
    assert!(extent.acked >= ACKED_MIN && extent.finally >= extent.acked, "{extent:?}");
    extent
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_promoted_standby_has_all_that_was_acknowledged() {
    let seed = seed();
    let mut rig = Rig::pair(3).await;
    let mut unknown = 0;
    for round in 0..rounds() {
        unknown += one_round(&mut rig, seed.wrapping_add(round)).await.unknown;
    }
    assert!(unknown > 0, "no request was in flight when a primary died");
}

/// A few publishes after the standby was cut off, then its promotion; judged.
async fn cut_and_promoted(rig: &mut Rig, seed: u64) -> (Vec<Violation>, Extent) {
    let recorder = Recorder::new(seed);
    let settings = json!({"partitions": 1, "retention": "7d", "durability": "replicated"});
    let name = format!("cut-{seed:x}");
    let topic = make_topic(&rig.addresses, &recorder, &name, settings, None).await;
    let plan = Plan { publishers: 2, scanners: 0, ..Plan::usual(seed, rig.nodes()) };
    let mut load = Load::start(&plan, &rig.addresses, &recorder, &[topic]);
    load.acked(200).await;
    rig.servers().cut_standby().await;
    let cut = recorder.acked();
    // Long enough for a node to be told that nobody knows, or to be told a lie.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) && recorder.acked() < cut + 1_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.servers().kill_primary();
    load.end().await;
    rig.servers().promote().await;
    rig.servers().follow().await;
    rig.ready().await;
    load.finish(0, Duration::from_secs(20)).await;
    let history = recorder.history();
    (check(&history), history.extent())
}

/// The negative control: flushes that do not wait for the standby lose what they acknowledge.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_planted_flushes_that_wait_for_no_standby_are_caught() {
    let seed = seed();
    let mut rig = Rig::pair(1).await;
    let (found, extent) = cut_and_promoted(&mut rig, seed).await;
    assert_eq!(found, [], "{extent:?}");
    assert!(extent.acked >= 200 && extent.unknown > 0, "{extent:?}");

    // The setting is made in the statement; what runs later in it has the last word.
    rig.run(
        "create function postrider.wait_for_none() returns trigger language plpgsql as $$
         begin
           perform set_config('synchronous_commit', 'local', true);
           return new;
         end $$;
         create trigger wait_for_none before insert on postrider.wakes
         for each row execute function postrider.wait_for_none()",
    )
    .await;
    let (found, extent) = cut_and_promoted(&mut rig, seed.wrapping_add(1)).await;
    let lost = found.iter().filter(|violation| violation.invariant == Invariant::L1).count();
    println!("{lost} acknowledged messages were lost: {extent:?}");
    assert!(lost > 0, "nothing was lost: {found:?} {extent:?}");
}
