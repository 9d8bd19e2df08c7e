//! `publish` and `tail` with real nodes that end under them.

use std::{collections::BTreeMap, io::Write as _};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Child;

use super::{ended, line, lines, program, ran};
use crate::support::{Balancer, Client, Node, Process, TestDatabase, eventually};

const LINES: usize = 40_000;

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), signal).expect("is told");
}

fn interrupt(child: &Child) {
    signal(child.id().expect("runs"), Signal::INT);
}

async fn high_watermarks(client: &Client) -> i64 {
    let mut sum = 0;
    for partition in 0..3 {
        sum += client.watermarks("access", partition).await.1;
    }
    sum
}

/// Every line once, in the order of the file by key, and dense offsets by partition.
fn is_whole(messages: &[Value], written: &[String]) {
    let (mut by_key, mut next) = (BTreeMap::<&str, Vec<&str>>::new(), BTreeMap::new());
    for message in messages {
        let next = next.entry(message["partition"].as_u64()).or_insert(0);
        assert_eq!(message["offset"], *next, "{message}");
        *next += 1;
        let key = message["key"].as_str().expect("a key");
        by_key.entry(key).or_default().push(message["value_text"].as_str().expect("text"));
    }
    assert_eq!(messages.len(), written.len());
    for (key, values) in by_key {
        let of_key: Vec<&String> = written.iter().filter(|line| line.starts_with(key)).collect();
        assert!(values == of_key, "the lines of {key}");
    }
}

/// A node that publishes and tails use is ended by `end`; another takes over.
async fn a_node_ends(end: impl FnOnce(&Process)) {
    let database = TestDatabase::new().await;
    let args = ["--database-url", database.url()];
    let (first, second) = (Process::serve(&args), Process::serve(&args));
    let client = Client::new(second.url());
    for node in [&first, &second] {
        let probe = Client::new(node.url());
        eventually("ready", async || (probe.get("/readyz").await.status == 200).then_some(()))
            .await;
    }
    client.put_topic("access", json!({"partitions": 3})).await;
    let balancer = Balancer::start(first.url()).await;
    let url = balancer.url();

    let written: Vec<String> = (0..LINES).map(|n| format!("10.0.0.{} line {n}", n % 9)).collect();
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(written.join("\n").as_bytes()).expect("written");
    let path = file.path().to_str().expect("text");
    let limit = LINES.to_string();
    let tail = ["tail", "access", "-o", "ndjson", "--from", "earliest", "--url", &url];
    let tails = [[&tail[..], &["-n", &limit]].concat(), [&tail[..], &["--group", "g"]].concat()];
    let mut tails = tails.map(|args| {
        let out = tempfile::NamedTempFile::new().expect("a file");
        let into = out.reopen().expect("a file");
        let child = program(&args).stdout(into).spawn().expect("starts");
        (child, out)
    });
    let publish =
        program(&["publish", "access", "-f", path, "--key-regex", r"^(\S+)", "--url", &url]);
    let ending = async {
        eventually("some is published", async || {
            (high_watermarks(&client).await > 0).then_some(())
        })
        .await;
        balancer.lead_to(second.url());
        end(&first);
        let published = high_watermarks(&client).await;
        assert!(published < LINES as i64, "all was published before the node ended");
    };
    let (told, ()) = tokio::join!(ran(publish), ending);
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{told:?}");
    assert!(told.text().starts_with("published 40,000 messages ("), "{}", told.text());

    let (alone, group) = (0, 1);
    assert_eq!(ended(&mut tails[alone].0).await, Some(0));
    eventually("the group has everything", async || {
        (client.get("/v1/groups/g").await.ok()["lag"] == 0).then_some(())
    })
    .await;
    interrupt(&tails[group].0);
    assert_eq!(ended(&mut tails[group].0).await, Some(0));
    for (_, out) in &tails {
        let text = std::fs::read_to_string(out.path()).expect("text");
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        is_whole(&text.lines().map(read).collect::<Vec<_>>(), &written);
    }
    assert_eq!(client.get("/v1/groups/g").await.ok()["state"], "empty", "it has left");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_of_a_node_loses_and_repeats_nothing() {
    a_node_ends(|node| signal(node.pid(), Signal::KILL)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_node_that_drains_is_left_for_another() {
    a_node_ends(|node| signal(node.pid(), Signal::TERM)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_is_told() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let (client, url) = (node.client(), format!("http://{}", node.address()));
    client.put_topic("t", json!({"partitions": 2})).await;
    client.publish("t", json!([{"value": 1, "partition": 0}])).await;
    let args = ["tail", "t", "-o", "value", "--from", "earliest", "--url", &url];
    let mut child = program(&args).spawn().expect("starts");
    let mut out = lines(&mut child);
    assert_eq!(line(&mut out).await.as_deref(), Some("1"));
    let deleted = client.request(reqwest::Method::DELETE, "/v1/topics/t");
    assert_eq!(client.send(deleted).await.status, 204);
    assert_eq!(ended(&mut child).await, Some(3));
    client.put_topic("t", json!({"partitions": 2})).await;
    let none = ran(program(&["tail", "t", "--no-follow", "-o", "json", "--url", &url])).await;
    assert_eq!((none.code, none.json()), (Some(0), json!([])));
    node.stop().await.expect("stops");
}
