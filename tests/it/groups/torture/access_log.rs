//! A real log file, keyed by the address of the client, read by two groups of three members that
//! join, leave, die and stand still, through three nodes.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::sleep;

use super::{
    Scene, Texts,
    crowd::{Crowd, Fate, Life},
    process::Habits,
};
use crate::{
    groups::stop,
    history::Recorder,
    support::{Client, Node, TestDatabase, seed, within},
};

const PARTITIONS: u32 = 8;
/// Lines of one publish, and how long the publisher rests then: 10,000 lines take about 15 s.
const LINES: usize = 100;
const REST: Duration = Duration::from_millis(120);
/// On a machine that others use too.
const DRAINED: Duration = Duration::from_secs(90);

fn life() -> Life {
    let habits = Habits { max: 50, wait: "500ms", commits: 60, sends_cursor: true };
    let fates = vec![Fate::Leaves, Fate::Dies, Fate::Sleeps, Fate::Returns, Fate::Haunts];
    Life { habits, thinks: 0..60, polls: 5..25, fates }
}

#[tokio::test(flavor = "multi_thread")]
async fn torture_of_members_loses_no_line_of_an_access_log_and_no_order() {
    let seed = seed();
    let database = TestDatabase::new().await;
    let nodes = [Node::on(&database).await, Node::on(&database).await, Node::on(&database).await];
    let clients: Vec<Client> = nodes.iter().map(Node::client).collect();
    clients[0].put_topic("access", json!({"partitions": PARTITIONS})).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/apache_access.log");
    let file = std::fs::read_to_string(file).expect("the log file");
    let lines: Vec<&str> = file.lines().collect();

    let recorder = Recorder::new(seed);
    let topic = recorder.topic("access", None);
    let scene = |(number, name)| {
        Arc::new(Scene::new(&recorder, (number, name), (topic, "access"), &clients))
    };
    let scenes = [(0, "billing"), (1, "audit")].map(scene);
    let crowds = scenes.each_ref().map(|scene| Crowd::start(scene, &life(), 3, seed));

    for (at, lines) in lines.chunks(LINES).enumerate() {
        let message = |line: &&str| json!({"key": address(line), "value": line});
        let messages: Vec<_> = lines.iter().map(message).collect();
        clients[at % 3].publish("access", json!(messages)).await;
        for scene in &scenes {
            scene.lag(at).await;
        }
        sleep(REST).await;
    }
    for scene in &scenes {
        let mut at = 0;
        within(DRAINED, "everything is committed and every fate came to pass", async || {
            at += 1;
            let fates = scene.fates();
            let all = life().fates.len() <= fates.len() && fates.contains_key("gone");
            (scene.lag(at).await == Some(0) && all).then_some(())
        })
        .await;
    }
    scenes.iter().for_each(|scene| scene.end());
    for (crowd, scene) in crowds.into_iter().zip(&scenes) {
        crowd.left().await;
        println!("{}: {:?}", scene.group, scene.fates());
    }

    let history = recorder.verdict().unwrap_or_else(|broken| panic!("{broken}"));
    println!("{:?} {:?}", history.extent(), recorder.notes());
    let log = log(&clients[1]).await;
    in_order(&log, &lines);
    for scene in &scenes {
        assert!(scene.texts() == log, "{} did not get every line as it is", scene.group);
        scene.came_in_order();
    }
    stop(nodes).await;
}

fn address(line: &str) -> &str {
    line.split(' ').next().expect("an address")
}

/// The log as a reader sees it.
async fn log(client: &Client) -> Texts {
    let mut texts = Texts::new();
    for partition in 0..PARTITIONS {
        for message in client.read_all("access", partition).await {
            let offset = message["offset"].as_i64().expect("an offset");
            texts.insert((partition, offset), super::text(&message));
        }
    }
    texts
}

/// The lines of each address stand in the log in the order of the file. (Members get them in the
/// order of the log: [`Scene::came_in_order`].)
fn in_order(log: &Texts, lines: &[&str]) {
    let by_address = |lines: &mut dyn Iterator<Item = &str>| {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in lines {
            found.entry(address(line).to_owned()).or_default().push(line.to_owned());
        }
        found
    };
    let found = by_address(&mut log.values().map(String::as_str));
    let wanted = by_address(&mut lines.iter().copied());
    assert!(found == wanted, "the order of the file is not that of the log");
}
