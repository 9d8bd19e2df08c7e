//! A real log file that the program publishes, keyed by the address of the client, and two groups
//! of three members read through three nodes, while they join, leave, die and stand still.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use serde_json::json;

use super::{
    Scene, Texts,
    crowd::{Crowd, Fate, Life},
    process::Habits,
};
use crate::{
    groups::stop,
    history::Recorder,
    support::{Client, Node, Process, TestDatabase, seed, within},
};

const PARTITIONS: u32 = 8;
/// On a machine that others use too.
const DRAINED: Duration = Duration::from_secs(90);

/// Members that take so little at once read 10,000 lines in about 15 s.
fn life() -> Life {
    let habits = Habits { max: 70, wait: "500ms", commits: 60, sends_cursor: true };
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
    let text = std::fs::read_to_string(&file).expect("the log file");
    let lines: Vec<&str> = text.lines().collect();

    let recorder = Recorder::new(seed);
    let topic = recorder.topic("access", None);
    let scene = |(number, name)| {
        Arc::new(Scene::new(&recorder, (number, name), (topic, "access"), &clients))
    };
    let scenes = [(0, "billing"), (1, "audit")].map(scene);
    let crowds = scenes.each_ref().map(|scene| Crowd::start(scene, &life(), 3, seed));

    let url = format!("http://{}", nodes[0].address());
    let published = tokio::task::spawn_blocking(move || publish(&file, &url));
    for scene in &scenes {
        let mut at = 0;
        within(DRAINED, "everything is committed and every fate came to pass", async || {
            at += 1;
            let fates = scene.fates();
            let all = life().fates.len() <= fates.len() && fates.contains_key("gone");
            let lag = scene.lag(at).await;
            (published.is_finished() && lag == Some(0) && all).then_some(())
        })
        .await;
    }
    published.await.expect("published");
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

/// As a user does it.
fn publish(file: &Path, url: &str) {
    let file = file.to_str().expect("text");
    let args = ["publish", "access", "--key-regex", r"^(\S+)", "--file", file, "--url", url];
    let told = Process::run(&args);
    assert!(told.status.success(), "{told:?}");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.starts_with("published 10,000 messages ("), "{told}");
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
