//! `group` and `tail --group`, against a node.

use serde_json::{Value, json};

use super::{ended, line, lines, program, ran};
use crate::support::{Client, Member, Node, TestDatabase};

async fn scene() -> (TestDatabase, Node, Client, String) {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 2})).await;
    for partition in 0..2 {
        let messages: Vec<Value> =
            (0..5).map(|n| json!({"value_text": format!("{n}"), "partition": partition})).collect();
        client.publish("orders", json!(messages)).await;
    }
    let url = format!("http://{}", node.address());
    (database, node, client, url)
}

fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_listed_described_moved_paused_and_deleted() {
    let (_database, node, client, url) = scene().await;
    let mut member =
        Member::join(&client, "billing", json!({"topics": ["orders", "audit.*"]})).await;
    member.poll(json!({"wait": "0s"})).await;
    member.poll(json!({"max": 0, "commit": [member.commit("orders", 0, 3)]})).await;
    let run = async |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--url", &url]).collect();
        ran(program(&args)).await
    };
    let listed = run(&["group", "list", "--prefix", "b"]).await;
    assert_eq!(words(listed.text())[1], ["billing", "stable", "1"], "{listed:?}");
    let listed = run(&["group", "list", "-o", "json"]).await.json();
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&json!("billing"), &json!("stable")));
    let described = run(&["group", "describe", "billing"]).await;
    let lines = words(described.text());
    let first = lines.iter().find(|line| line.first() == Some(&"orders/0")).expect("a line");
    assert_eq!(first[1..4], ["3", "5", "2"]);
    assert_eq!(first[5], member.id);
    let heading = lines.iter().find(|line| line.first() == Some(&"MEMBER")).expect("a table");
    let joined = lines.iter().find(|line| line.first() == Some(&&*member.id)).expect("a line");
    assert_eq!((heading[4], &joined[4..]), ("TOPICS", &["audit.*,", "orders"][..]));
    let described = run(&["group", "describe", "billing", "-o", "json"]).await.json();
    assert_eq!((&described["lag"], &described["partitions"][1]["lag"]), (&json!(7), &json!(5)));
    // A dry run changes nothing, the other does.
    let seek = ["group", "seek", "billing", "--to", "latest", "-o", "json"];
    let would = run(&[&seek[..], &["--dry-run"]].concat()).await.json();
    assert_eq!((&would["dry_run"], &would["partitions"][0]["offset"]), (&json!(true), &json!(5)));
    let is = run(&["group", "seek", "billing", "--offset", "orders/1=4"]).await;
    assert_eq!(words(is.text())[1], ["orders/1", "0", "4"], "{is:?}");
    let described = run(&["group", "describe", "billing", "-o", "json"]).await.json();
    assert_eq!(described["partitions"][0]["committed_offset"], 3);
    assert_eq!(described["partitions"][1]["committed_offset"], 4);
    assert_eq!(run(&["group", "pause", "billing"]).await.text(), "paused group billing\n");
    let paused = run(&["group", "describe", "billing", "-o", "json"]).await.json();
    assert_eq!(paused["paused"], true);
    assert_eq!(run(&["group", "resume", "billing"]).await.text(), "resumed group billing\n");
    let unasked = run(&["group", "delete", "billing"]).await;
    assert_eq!((unasked.code, unasked.err.contains("--yes")), (Some(2), true));
    let deleted = run(&["group", "delete", "billing", "-y", "-o", "json"]).await;
    assert_eq!(deleted.json(), json!({"deleted": "billing"}));
    for gone in [
        &["group", "describe", "billing"][..],
        &["group", "pause", "billing"],
        &["group", "seek", "billing", "--to", "latest"],
        &["group", "delete", "billing", "-y"],
    ] {
        assert_eq!(run(gone).await.code, Some(3), "{gone:?}");
    }
    for wrong in [
        &["group", "seek", "billing"][..],
        &["group", "seek", "billing", "--offset", "orders=4"],
        &["group", "seek", "billing", "--to", "latest", "--offset", "orders/0=4"],
        &["tail", "orders", "--group", "g", "--from", "7"],
        &["tail", "orders", "--group", "g", "--partition", "0"],
    ] {
        assert_eq!(run(wrong).await.code, Some(2), "{wrong:?}");
    }
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_as_a_member_commits_what_it_printed_and_leaves() {
    let (_database, node, client, url) = scene().await;
    let tail = |more: &[&'static str]| {
        let args = ["tail", "orders", "--group", "billing", "-o", "value", "--url", &url];
        let args: Vec<&str> = args.iter().chain(more).copied().collect();
        program(&args)
    };
    let first = ran(tail(&["-n", "3"])).await;
    assert_eq!((first.code, first.text().lines().count()), (Some(0), 3), "{first:?}");
    let group = client.get("/v1/groups/billing").await.ok();
    assert_eq!((&group["state"], &group["lag"]), (&json!("empty"), &json!(7)));
    let rest = ran(tail(&["--no-follow"])).await;
    assert_eq!((rest.code, rest.text().lines().count()), (Some(0), 7), "{rest:?}");
    assert_eq!(client.get("/v1/groups/billing").await.ok()["lag"], 0);
    // It waits for more, until Ctrl-C: what it printed is committed then.
    let mut child = tail(&[]).spawn().expect("starts");
    let mut out = lines(&mut child);
    client.publish("orders", json!([{"value_text": "more", "partition": 1}])).await;
    assert_eq!(line(&mut out).await.as_deref(), Some("more"));
    let pid = rustix::process::Pid::from_raw(child.id().expect("runs") as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("is told");
    assert_eq!(ended(&mut child).await, Some(0));
    let group = client.get("/v1/groups/billing").await.ok();
    assert_eq!((&group["state"], &group["lag"]), (&json!("empty"), &json!(0)), "{group}");
    let none = ran(program(&["tail", "none", "--group", "billing", "--url", &url])).await;
    assert_eq!(none.code, Some(3));
    node.stop().await.expect("stops");
}
