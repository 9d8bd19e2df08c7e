//! Negative controls: the faults that groups are built against, planted into a database of the
//! test's own. The checker must find each, and nothing in the same run without it.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use super::{
    Scene,
    crowd::{Crowd, Fate, Life},
    process::Habits,
};
use crate::{
    groups::{stop, two},
    history::{
        Extent, Invariant, Recorder, Violation, check,
        group::{Outcome, Seek},
    },
    support::{Client, Node, TestDatabase, eventually, seed},
};

const COMMIT: &str = include_str!("../../../../migrations/functions/group_commit.sql");
const CONFIRM: &str = include_str!("../../../../migrations/functions/group_confirm.sql");
const COMMITTED: &str = include_str!("../../../../migrations/functions/group_committed.sql");
const NEXT_EPOCH: &str = include_str!("../../../../migrations/functions/group_next_epoch.sql");
const PARTITIONS: u32 = 4;
/// How often a bug gets the chance to show itself.
const TRIES: u32 = 10;

/// `text` with one passage replaced, which must be there.
fn with(text: &str, passage: &str, other: &str) -> String {
    assert!(text.contains(passage), "the function has changed: no {passage:?}");
    text.replacen(passage, other, 1)
}

/// Two nodes on a database of their own, where whoever gives out epochs takes its time.
struct Planted {
    database: TestDatabase,
    nodes: [Node; 2],
    clients: [Client; 2],
    seed: u64,
    sends_cursor: bool,
}

impl Planted {
    async fn new() -> Self {
        let (database, nodes, clients) = two().await;
        let slow = with(NEXT_EPOCH, "end\n$$", "perform pg_sleep(0.01);\nend\n$$");
        database.run(&slow).await;
        Self { database, nodes, clients, seed: seed(), sends_cursor: true }
    }

    /// A group lives for a while on a topic of its own.
    async fn run(&self, round: u32, seeks: bool) -> (Vec<Violation>, Extent) {
        let seed = self.seed.wrapping_add(u64::from(round));
        let recorder = Recorder::new(seed);
        let (topic, group) = (format!("topic-{round}"), format!("group-{round}"));
        self.clients[0].put_topic(&topic, json!({"partitions": PARTITIONS})).await;
        let number = recorder.topic(&topic, None);
        let scene = Arc::new(Scene::new(&recorder, (0, &group), (number, &topic), &self.clients));
        let sends_cursor = self.sends_cursor;
        let habits = Habits { max: 5, wait: "100ms", commits: 80, sends_cursor };
        // A ghost without a cursor says nothing of its generation, and would not be told to go;
        // polls without one do not wait, and whoever dies after a few of them leaves a group in
        // which nobody lives to read.
        let (fates, polls, counted) = match sends_cursor {
            true => (vec![Fate::Haunts, Fate::Leaves, Fate::Returns], 3..12, "haunted"),
            false => (vec![Fate::Leaves], 20..40, "left"),
        };
        let life = Life { habits, thinks: 0..5, polls, fates };
        let crowd = Crowd::start(&scene, &life, 3, seed);
        let mut turn = 0;
        eventually("enough came to pass", async || {
            turn += 1;
            self.fill(&topic, turn).await;
            scene.lag(turn).await;
            if seeks && turn % 8 == 0 {
                self.seek(&scene, turn).await;
            }
            sleep(Duration::from_millis(20)).await;
            let came = scene.fates().get(counted).copied().unwrap_or_default();
            (came >= 10 && recorder.history().extent().delivered > 500).then_some(())
        })
        .await;
        scene.end();
        crowd.left().await;
        println!("round {round}: {:?} {:?}", scene.fates(), recorder.notes());
        let history = recorder.history();
        (check(&history), history.extent())
    }

    async fn fill(&self, topic: &str, turn: usize) {
        let message = |at: u32| json!({"value": turn, "partition": at % PARTITIONS});
        let messages: Vec<_> = (0..PARTITIONS * 5).map(message).collect();
        self.clients[turn % 2].publish(topic, json!(messages)).await;
    }

    async fn seek(&self, scene: &Scene, turn: usize) {
        let (partition, offset) = (turn as u32 / 8 % PARTITIONS, turn as i64 / 2);
        let entry = json!({"topic": scene.topic_name, "partition": partition, "offset": offset});
        let body = json!({"to": {"offsets": [entry]}});
        let invoked = scene.recorder.now();
        let path = format!("/v1/groups/{}/seek", scene.group);
        let done = self.clients[turn % 2].json(Method::POST, &path, &body).await;
        let outcome = if done.status == 200 { Outcome::Ok } else { Outcome::Info };
        let (completed, group, topic) = (scene.recorder.now(), scene.number, scene.topic);
        scene.recorder.seek(Seek { group, topic, partition, offset, invoked, completed, outcome });
    }

    async fn is_clean(&self, round: u32) {
        let (found, extent) = self.run(round, round == 0).await;
        assert_eq!(found, [], "{extent:?}");
        assert!(extent.committed > 50 && extent.delivered > 500, "{extent:?}");
    }

    /// The bug is found within [`TRIES`].
    async fn catches(self, wanted: Invariant) {
        for round in 1..=TRIES {
            let (found, extent) = self.run(round, false).await;
            let named = found.iter().filter(|violation| violation.invariant == wanted);
            println!("round {round}: {} violations, {extent:?}", found.len());
            if let Some(violation) = named.clone().next() {
                println!("caught {} times in round {round}: {violation}", named.count());
                return stop(self.nodes).await;
            }
        }
        panic!("{wanted} was not found");
    }
}

/// With the lock in the statement that checks the epoch, the check sees what was before the lock
/// was waited for: 866 of 2,687 accepted commits came after the next owner's start.
#[tokio::test(flavor = "multi_thread")]
async fn torture_planted_epoch_check_in_the_statement_of_the_lock_is_caught() {
    let planted = Planted::new().await;
    planted.is_clean(0).await;
    let lock = "pg_advisory_xact_lock_shared(360287970189639680 + of_group)";
    let commit = with(COMMIT, &format!("perform {lock};"), "");
    let locked = format!("select a.* into standing from (select {lock} offset 0) l, assignments a");
    let commit = with(&commit, "select * into standing from assignments a", &locked);
    planted.database.run(&commit).await;
    planted.catches(Invariant::L9).await;
}

/// Where a member stands is in its cursor alone: a node that does not look at it reads on from the
/// committed offset, as for a poll that comes without one.
#[tokio::test(flavor = "multi_thread")]
async fn torture_planted_cursor_that_is_ignored_is_caught() {
    let planted = Planted { sends_cursor: false, ..Planted::new().await };
    planted.catches(Invariant::L11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn torture_planted_start_behind_the_committed_offset_is_caught() {
    let planted = Planted::new().await;
    let skips = with(COMMITTED, "select o.next_offset from", "select o.next_offset + 1 from");
    planted.database.run(&skips).await;
    planted.catches(Invariant::L9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn torture_planted_owner_under_the_epoch_of_the_last_one_is_caught() {
    let planted = Planted::new().await;
    let keeps = "revoke_deadline = null, epoch = new_epoch,";
    let keeps = with(CONFIRM, keeps, "revoke_deadline = null, epoch = a.epoch,");
    planted.database.run(&keeps).await;
    planted.catches(Invariant::L10).await;
}
