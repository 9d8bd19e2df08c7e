//! Negative controls: the faults that the design is built against, planted into a database of the
//! test's own. The checker must find each, and nothing in the same run without it.

use std::time::Duration;

use serde_json::json;

use super::{
    load::{Load, Plan, make_topic},
    rig::{Fault, Rig},
    stream,
};
use crate::{
    history::{Extent, Invariant, Recorder, Violation, check},
    support::{OwnServer, seed},
};

const APPEND: &str = include_str!("../../../migrations/bucket/append.sql");
const SEAL: &str = include_str!("../../../migrations/functions/seal_bucket.sql");
/// The class of a retention of a week.
const CLASS: i64 = 3;
/// Class of the lock of a bucket, as in `store::lock`.
const BUCKET_LOCK: i64 = 1 << 56;
/// How often a bug gets the chance to show itself.
const TRIES: u64 = 20;

/// `text` with one passage replaced, which must be there.
fn with(text: &str, passage: &str, other: &str) -> String {
    assert!(text.contains(passage), "the function has changed: no {passage:?}");
    text.replacen(passage, other, 1)
}

/// The append function, which takes a rest between reading the end of the log and writing.
fn slow_append() -> String {
    let now = "greatest(clock_timestamp(), last.appended_at";
    with(APPEND, now, "greatest(clock_timestamp() + nap(), last.appended_at")
}

/// Two nodes, a database of their own, and one topic of the class in every run.
struct Planted {
    rig: Rig,
    seed: u64,
}

impl Planted {
    async fn new(nap: Duration) -> Self {
        let rig = Rig::shared(2).await;
        let seconds = nap.as_secs_f64();
        rig.run(&format!(
            "create function postrider.nap() returns interval language sql volatile as
             $$ select pg_sleep({seconds}); select interval '0' $$"
        ))
        .await;
        Self { rig, seed: seed() }
    }

    /// Buckets of the class in one state, the oldest first.
    async fn buckets(&self, state: &str) -> Vec<i64> {
        self.rig
            .numbers(&format!(
                "select bucket_id from postrider.buckets
                 where retention_class = {CLASS} and state = '{state}' order by bucket_id"
            ))
            .await
    }

    /// Replaces the append function of a bucket.
    async fn install(&self, bucket: i64, append: &str) {
        let lock = (BUCKET_LOCK + bucket).to_string();
        let append = append
            .replace("$bucket$", &bucket.to_string())
            .replace("$class$", &CLASS.to_string())
            .replace("$lock$", &lock);
        self.rig.run(&append).await;
    }

    async fn start(&self, round: u64) -> Load {
        let seed = self.seed.wrapping_add(round);
        let recorder = Recorder::new(seed);
        let settings = json!({ "partitions": 2, "retention": "7d" });
        let name = format!("planted-{round}");
        let topic = make_topic(&self.rig.addresses, &recorder, &name, settings, None).await;
        // Small and many: what is planted is about flushes that meet.
        let plan = Plan { batch_max: 5, pace: Duration::ZERO, ..Plan::usual(seed, 2) };
        Load::start(&plan, &self.rig.addresses, &recorder, &[topic])
    }

    /// A short load, judged.
    async fn run(&self, round: u64) -> (Vec<Violation>, Extent) {
        let load = self.start(round).await;
        load.acked(1_500).await;
        verdict(load).await
    }
}

async fn verdict(mut load: Load) -> (Vec<Violation>, Extent) {
    // A broken log may have no end that can be read.
    load.finish(0, Duration::from_secs(3)).await;
    let history = load.recorder.history();
    (check(&history), history.extent())
}

/// Whether each of `wanted` is among what was found.
fn names(found: &[Violation], wanted: &[Invariant]) -> bool {
    wanted.iter().all(|invariant| found.iter().any(|v| v.invariant == *invariant))
}

/// The planted bug is caught within [`TRIES`].
async fn is_caught(planted: &Planted, wanted: &[Invariant]) {
    for round in 1..=TRIES {
        let (found, extent) = planted.run(round).await;
        if names(&found, wanted) {
            return println!("caught in round {round}, {} violations, {extent:?}", found.len());
        }
        println!("round {round}: {} violations, {extent:?}", found.len());
    }
    panic!("{wanted:?} were not found");
}

async fn is_clean(planted: &Planted) {
    let (found, extent) = planted.run(0).await;
    assert_eq!(found, [], "{extent:?}");
    assert!(extent.acked >= 1_500 && extent.finally == extent.acked, "{extent:?}");
}

const ROW_LOCK: &str = "order by p.partition_id for no key update;";

#[tokio::test(flavor = "multi_thread")]
async fn chaos_planted_offsets_from_a_stale_read_are_caught() {
    let planted = Planted::new(Duration::from_millis(3)).await;
    let bucket = planted.buckets("open").await[0];
    planted.install(bucket, &slow_append()).await;
    is_clean(&planted).await;
    planted
        .rig
        .run(&format!(
            "alter table postrider.batches_{bucket} drop constraint batches_{bucket}_pkey;
             create index on postrider.batches_{bucket} (partition_id, base_offset)"
        ))
        .await;
    planted.install(bucket, &with(&slow_append(), ROW_LOCK, "order by p.partition_id;")).await;
    is_caught(&planted, &[Invariant::L1, Invariant::L3]).await;
}

/// With the key on `base_offset` a stale base is an error; on `last_offset` it is none.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_planted_key_on_last_offset_is_caught() {
    let planted = Planted::new(Duration::from_millis(3)).await;
    let bucket = planted.buckets("open").await[0];
    // Without the row lock, but with the right key: requests are refused, nothing is broken.
    planted.install(bucket, &with(&slow_append(), ROW_LOCK, "order by p.partition_id;")).await;
    is_clean(&planted).await;
    planted
        .rig
        .run(&format!(
            "alter table postrider.batches_{bucket} drop constraint batches_{bucket}_pkey;
             alter table postrider.batches_{bucket} add constraint batches_{bucket}_pkey
               primary key (partition_id, last_offset)"
        ))
        .await;
    is_caught(&planted, &[Invariant::L1, Invariant::L3]).await;
}

/// Rolls buckets under a load, as maintenance does, but without a rest.
async fn roll_under_load(planted: &Planted, round: u64) -> (Vec<Violation>, Extent) {
    let load = planted.start(round).await;
    let mut rolled = 0;
    while rolled < 6 {
        load.acked(load.recorder.acked() + 100).await;
        let ahead = planted.buckets("ahead").await;
        let Some(next) = ahead.first() else { continue };
        planted.install(*next, &slow_append()).await;
        let due = format!(
            "update postrider.buckets set opens_at = clock_timestamp() where bucket_id = {next};
             select postrider.roll_buckets({CLASS}::smallint)"
        );
        planted.rig.run(&due).await;
        for closed in planted.buckets("closed").await {
            planted.rig.run(&format!("select postrider.seal_bucket({closed})")).await;
        }
        rolled += 1;
    }
    load.acked(load.recorder.acked() + 300).await;
    verdict(load).await
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_planted_seal_without_its_barrier_is_caught() {
    let planted = Planted::new(Duration::from_millis(10)).await;
    let bucket = planted.buckets("open").await[0];
    planted.install(bucket, &slow_append()).await;
    let (found, extent) = roll_under_load(&planted, 0).await;
    assert_eq!(found, [], "with the barrier nothing is lost: {extent:?}");
    let barrier = "if not pg_try_advisory_xact_lock";
    planted.rig.run(&with(SEAL, barrier, "if false and not pg_try_advisory_xact_lock")).await;
    for round in 1..=TRIES {
        let (found, extent) = roll_under_load(&planted, round).await;
        if names(&found, &[Invariant::L1]) {
            return println!("caught in round {round}, {} violations, {extent:?}", found.len());
        }
    }
    panic!("no message was lost in {TRIES} rounds");
}

/// An answer before the commit is on disk, where the server then dies.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_planted_answer_before_the_commit_is_caught() {
    let server = OwnServer::start().await;
    let mut rig = Rig::on(server, 2).await;
    rig.run("alter system set wal_writer_delay = '10s'").await;
    rig.run("alter system set wal_writer_flush_after = '1GB'").await;
    rig.run("select pg_reload_conf()").await;
    // A default of the database is not enough: flush sessions say for themselves that they wait.
    rig.run(
        "create function postrider.wait_for_nothing() returns trigger language plpgsql as $$
         begin
           perform set_config('synchronous_commit', 'off', true);
           return new;
         end $$;
         create trigger wait_for_nothing before insert on postrider.wakes
         for each row execute function postrider.wait_for_nothing()",
    )
    .await;
    let seed = seed();
    let mut random = stream(seed, "faults");
    for round in 1..=TRIES {
        let planted = Planted { rig, seed };
        let load = planted.start(round).await;
        load.acked(1_500).await;
        rig = planted.rig;
        rig.inject(Fault::Postmaster, &mut random).await;
        rig.ready().await;
        let (found, extent) = verdict(load).await;
        if names(&found, &[Invariant::L1]) {
            return println!("caught in round {round}, {} violations, {extent:?}", found.len());
        }
        println!("round {round}: {} violations, {extent:?}", found.len());
    }
    panic!("no message was lost in {TRIES} rounds");
}

/// The other side of it: the rows of an append come before its commit, which then fails. Whoever
/// answers at the rows acknowledges what is not there.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_an_append_whose_commit_fails_is_not_acknowledged() {
    let planted = Planted::new(Duration::ZERO).await;
    let bucket = planted.buckets("open").await[0];
    planted
        .rig
        .run(&format!(
            "create function postrider.fail_sometimes() returns trigger language plpgsql as $$
             begin
               if random() < 0.05 then raise exception 'planted'; end if;
               return null;
             end $$;
             create constraint trigger fail_sometimes after insert
             on postrider.batches_{bucket} deferrable initially deferred
             for each row execute function postrider.fail_sometimes()"
        ))
        .await;
    let (found, extent) = planted.run(0).await;
    assert_eq!(found, [], "{extent:?}");
    assert!(extent.failed > 0, "no commit failed: {extent:?}");
    assert!(extent.acked >= 1_500 && extent.finally == extent.acked, "{extent:?}");
}
