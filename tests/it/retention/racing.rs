//! Readers of every kind on two nodes, while limits hide, buckets go and rows are removed.

use std::time::Duration;

use serde_json::json;

use crate::{
    chaos::{
        load::{Load, Plan, make_topic},
        rig::Rig,
    },
    history::{Recorder, Seen},
    support::{TestDatabase, seed, within},
};

/// L12, and everything else that a reader was promised.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_readers_that_race_with_retention_are_told_the_truth() {
    let seed = seed();
    let database = TestDatabase::with_windows("2 seconds").await;
    let url = database.url().to_owned();
    let rig = Rig::through(database, url, 2).await;
    let recorder = Recorder::new(seed);
    let mut topics = Vec::new();
    // A limit of bytes hides what is young: its messages have no time that they are kept for.
    for (name, settings, keeps) in [
        ("by-time", json!({"partitions": 2, "retention": "2s"}), 2),
        (
            "by-bytes",
            json!({"partitions": 2, "retention": "forever", "retention_bytes": 30_000}),
            0,
        ),
        ("by-both", json!({"partitions": 1, "retention": "1s", "retention_bytes": 10_000}), 0),
    ] {
        let keeps = Some(Duration::from_secs(keeps));
        topics.push(make_topic(&rig.addresses, &recorder, name, settings, keeps).await);
    }
    let plan = Plan { scanners: 4, batch_max: 30, ..Plan::usual(seed, 2) };
    let load = Load::start(&plan, &rig.addresses, &recorder, &topics);
    // Lows have moved past the middle of several buckets, and buckets have gone.
    within(Duration::from_secs(60), "lows move again and again", async || {
        let moved = rig
            .numbers(
                "select count(*) from (select 1 from postrider.partition_lows
                where low_offset > 2000) s",
            )
            .await[0];
        let dropped = rig
            .numbers(
                "select min(bucket_id) from postrider.buckets
            where retention_class = 1",
            )
            .await[0];
        (moved >= 4 && dropped > 4).then_some(())
    })
    .await;
    let history = load.judge(1).await;
    let extent = history.extent();
    let outside = history
        .reads
        .iter()
        .filter(|read| matches!(read.seen, Seen::OutOfRange { low, .. } if low > 0))
        .count();
    println!("{extent:?}, {outside} reads fell behind");
    assert!(extent.acked > 5_000 && extent.pages > 500, "{extent:?}");
    assert!(outside > 10, "only {outside} reads were below a low watermark");
}
