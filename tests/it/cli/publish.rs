//! `publish`: what arrives, in which order, and what is told when it fails.

use std::{collections::BTreeMap, process::Stdio, sync::atomic::Ordering};

use axum::http::Method;
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider::cli::output::grouped;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{
    ended, program, ran, ran_with,
    server::{Server, problem},
};

fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, bytes).expect("written");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_arrives_whole_and_in_order_per_key() {
    let server = Server::with_topic("access", 4).await;
    let lines: Vec<String> = (0..3_500).map(|n| format!("10.0.0.{} line {n}", n % 7)).collect();
    let file = file_of(lines.join("\n").as_bytes());
    let path = file.path().to_str().expect("text");
    let args =
        ["publish", "access", "--file", path, "--key-regex", r"^(\S+)", "--url", &server.url];
    let told = ran(program(&args)).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    assert!(told.text().starts_with("published 3,500 messages ("), "{}", told.text());
    let sizes: Vec<usize> = server
        .seen(&Method::POST)
        .iter()
        .map(|seen| seen.body["messages"].as_array().expect("messages").len())
        .collect();
    assert_eq!(sizes, [1_000, 1_000, 1_000, 500]);
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in server.messages("access") {
        let key = message["key"].as_str().expect("a key").to_owned();
        by_key.entry(key).or_default().push(message["value_text"].as_str().expect("text").into());
    }
    for (key, values) in &by_key {
        let of_key: Vec<&String> = lines.iter().filter(|line| line.starts_with(key)).collect();
        assert_eq!(values.iter().collect::<Vec<_>>(), of_key, "{key}");
    }
    assert_eq!(by_key.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_and_empty_lines_arrive_as_they_are() {
    let server = Server::with_topic("t", 1).await;
    let told = ran_with(
        program(&["publish", "t", "-o", "json", "--url", &server.url]),
        b"a\r\n\n\xff\x00b\nlast",
    )
    .await;
    let summary = told.json();
    assert_eq!(summary["messages"], 4);
    assert_eq!(summary["durability"], "local");
    let messages = server.messages("t");
    assert_eq!(messages[0]["value_text"], "a\r");
    assert_eq!(messages[1]["value_text"], "");
    assert_eq!(messages[2]["value_base64"], STANDARD.encode(b"\xff\x00b"));
    assert_eq!(messages[3]["value_text"], "last");
    assert_eq!(messages[3].get("key"), None);
    let empty = ran(program(&["publish", "t", "--url", &server.url])).await;
    assert_eq!(empty.code, Some(0));
    assert!(empty.text().starts_with("published 0 messages"), "{}", empty.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_is_told_where_it_went() {
    let server = Server::with_topic("t", 1).await;
    let args = "publish t --value -x --key k --header a=1 --header b=2=3 --url";
    let args: Vec<&str> = args.split(' ').chain([&*server.url]).collect();
    let told = ran(program(&args)).await;
    assert_eq!(told.text(), "published to t, partition 0, offset 0\n", "{}", told.err);
    let sent = json!([{"value_text": "-x", "key": "k", "headers": {"a": ["1"], "b": ["2=3"]}}]);
    assert_eq!(server.seen(&Method::POST)[0].body["messages"], sent);
    let json = ran(program(&["publish", "t", "--value", "", "-o", "json", "--url", &server.url]));
    assert_eq!(json.await.json()["offset"], 1);
    let none = ran(program(&["publish", "none", "--value", "x", "--url", &server.url])).await;
    assert_eq!((none.code, none.text()), (Some(3), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_are_whole_messages() {
    let server = Server::with_topic("t", 1).await;
    let input = b"{\"key\":\"k\",\"value\":{\"n\":1}}\n\n{\"value\":null}\n";
    let args = ["publish", "t", "--json", "--url", &server.url];
    assert_eq!(ran_with(program(&args), input).await.code, Some(0));
    let sent = json!([{"key": "k", "value": {"n": 1}}, {"value": null}]);
    assert_eq!(server.seen(&Method::POST)[0].body["messages"], sent);
    let told = ran_with(program(&args), b"{}\n[1]\n").await;
    assert_eq!(told.code, Some(1));
    assert!(told.err.starts_with("postrider: line 2 is no JSON object"), "{}", told.err);
    assert_eq!(server.seen(&Method::POST).len(), 1, "a batch with a bad line is not sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_ends_it_and_names_its_lines() {
    let server = Server::with_topic("t", 1).await;
    let file = file_of("x\n".repeat(2_500).as_bytes());
    let path = file.path().to_str().expect("text");
    let mut wrong = problem("message_too_large", "none");
    wrong["errors"] = json!([{"pointer": "/messages/41/value_text", "detail": "too large"}]);
    server.fail(413, wrong);
    let args = ["publish", "t", "-f", path, "--url", &server.url];
    let told = ran(program(&args)).await;
    assert_eq!((told.code, told.text()), (Some(1), ""));
    assert!(told.err.starts_with("postrider: message_too_large: as told (request r-1)\n"));
    assert!(told.err.contains("lines 1 to 1000: nothing of this batch was published"));
    assert!(told.err.contains("see line 42\n"), "{}", told.err);
    assert!(told.err.contains("published 0 messages"), "{}", told.err);
    assert_eq!(server.seen(&Method::POST).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_had_no_effect_is_sent_again() {
    let server = Server::with_topic("t", 1).await;
    server.fail(503, problem("overloaded", "none"));
    server.fail(503, problem("overloaded", "none"));
    let args = ["publish", "t", "--url", &server.url];
    assert_eq!(ran_with(program(&args), b"a\nb\n").await.code, Some(0));
    assert_eq!(server.seen(&Method::POST).len(), 3);
    assert_eq!(server.messages("t").len(), 2);
    for (status, code) in [(504, "outcome_unknown"), (503, "odd"), (500, "internal")] {
        let before = server.seen(&Method::POST).len();
        server.fail(status, problem(code, "unknown"));
        let told = ran_with(program(&args), b"c\n").await;
        assert_eq!(told.code, Some(1), "{code}");
        let doubt = "line 1: this batch may or may not have been published";
        assert!(told.err.contains(doubt), "{}", told.err);
        assert_eq!(server.seen(&Method::POST).len(), before + 1, "{code} is not repeated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_slow_pipe_do_not_wait_for_a_full_batch() {
    let server = Server::with_topic("t", 1).await;
    let mut command = program(&["publish", "t", "--url", &server.url]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    let posts = |count: usize| {
        move |seen: &[super::server::Seen]| {
            seen.iter().filter(|seen| seen.method == Method::POST).count() >= count
        }
    };
    stdin.write_all(b"first\nhalf").await.expect("is read");
    server.until(posts(1)).await;
    assert_eq!(server.messages("t").len(), 1);
    stdin.write_all(b" done\n").await.expect("is read");
    server.until(posts(2)).await;
    let values: Vec<Value> =
        server.messages("t").iter().map(|message| message["value_text"].clone()).collect();
    assert_eq!(values, ["first", "half done"]);
    let pid = rustix::process::Pid::from_raw(child.id().expect("runs") as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("is told");
    assert_eq!(ended(&mut child).await, Some(1), "an interrupted publish is no success");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_together_is_refused() {
    for args in [
        &["publish", "t", "--key-regex", "x"][..],
        &["publish", "t", "--key-regex", "("],
        &["publish", "t", "--json", "--value", "x"],
        &["publish", "t", "--key", "k"],
        &["publish", "t", "--value", "x", "--header", "novalue"],
        &["publish", "t", "--token-stdin"],
        &["publish", "_t", "--value", "x"],
        &["publish", "t", "--value", "x", "--url", "nowhere"],
    ] {
        assert_eq!(ran(program(args)).await.code, Some(2), "{args:?}");
    }
    let told = ran(program(&["publish", "t", "-f", "/nowhere/x"])).await;
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("/nowhere/x cannot be read"), "{}", told.err);
}

fn values(server: &Server, topic: &str) -> Vec<String> {
    let of = |message: &Value| message["value_text"].as_str().expect("text").to_owned();
    server.messages(topic).iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_publishes_nothing_twice() {
    let server = Server::with_topic("t", 1).await;
    let lines: Vec<String> = (0..40_000).map(|n| format!("line {n}")).collect();
    let file = file_of(lines.join("\n").as_bytes());
    let args = ["publish", "t", "-f", file.path().to_str().expect("text"), "--url", &server.url];
    let publishing = ran(program(&args));
    let faults = async {
        let seen = |count: usize| {
            move |seen: &[super::server::Seen]| {
                seen.iter().filter(|seen| seen.method == Method::POST).count() >= count
            }
        };
        server.until(seen(1)).await;
        server.vanishes.store(true, Ordering::Relaxed);
        server.until(seen(10)).await;
        server.drains.store(true, Ordering::Relaxed);
        server.until(seen(20)).await;
        server.end_sockets(Some(4_000));
        let mut busy = problem("overloaded", "none");
        busy["retryable"] = json!(true);
        server.until(seen(25)).await;
        server.fail(503, busy);
    };
    let (told, ()) = tokio::join!(publishing, faults);
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    assert!(told.text().starts_with("published 40,000 messages ("), "{}", told.text());
    assert!(values(&server, "t") == lines, "other lines, or in another order");
    let sent = server.seen(&Method::POST).len();
    assert!(sent > 42, "sent {sent} frames for 40 batches: little was sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_a_refused_batch_is_told() {
    let server = Server::with_topic("t", 1).await;
    let lines: Vec<String> = (1..=6_000).map(|n| format!("line {n}")).collect();
    let file = file_of(lines.join("\n").as_bytes());
    server.lock().refusals.insert(2, problem("message_too_large", "none"));
    let args = ["publish", "t", "-f", file.path().to_str().expect("text"), "--url", &server.url];
    let told = ran(program(&args)).await;
    assert_eq!((told.code, told.text()), (Some(1), ""));
    assert!(told.err.contains("\n  lines 2001 to 3000: nothing of this batch was published"));
    let published = values(&server, "t");
    let behind = published.len() - 2_000;
    assert!(published[..2_000] == lines[..2_000] && published[2_000..] == lines[3_000..][..behind]);
    if behind > 0 {
        let last = 3_000 + behind;
        let note = format!("\n  lines 3001 to {last}: published, behind what failed");
        assert!(told.err.contains(&note), "{}", told.err);
    }
    let note = format!("published {} messages", grouped(published.len() as u64));
    assert!(told.err.contains(&note), "{}", told.err);
}
