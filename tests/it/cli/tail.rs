//! `tail`: what is printed, and how it ends.

use axum::http::Method;

use super::{
    ended, line, lines, program, ran,
    server::{Seen, Server},
};

/// Whether it is fixed where a subscription begins.
fn subscribed(seen: &[Seen]) -> bool {
    seen.iter().any(|seen| seen.body["op"] == "subscribe" && seen.body["sub"] == "tail")
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_there_is_printed_and_then_it_ends() {
    let server = Server::with_topic("t", 3).await;
    let texts: Vec<String> = (0..1_200).map(|n| format!("line {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    server.append("t", 1, &texts);
    server.append("t", 2, &["x"]);
    let args = ["tail", "t", "--no-follow", "-o", "value", "--url", &server.url];
    let told = ran(program(&args)).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    let printed: Vec<&str> = told.text().lines().filter(|line| *line != "x").collect();
    assert_eq!(printed, texts);
    assert_eq!(told.text().lines().count(), 1_201);
    let args = ["tail", "t", "--no-follow", "-o", "json", "-p", "1", "--from", "1190", "--url"];
    let told = ran(program(&args.into_iter().chain([&*server.url]).collect::<Vec<_>>())).await;
    let messages = told.json();
    assert_eq!(messages.as_array().expect("an array").len(), 10);
    assert_eq!(messages[0]["offset"], 1_190);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_messages_are_printed_as_they_come_until_ctrl_c() {
    let server = Server::with_topic("t", 2).await;
    server.append("t", 0, &["before"]);
    let mut child =
        program(&["tail", "t", "-o", "value", "--url", &server.url]).spawn().expect("starts");
    let mut out = lines(&mut child);
    server.until(subscribed).await;
    server.append("t", 0, &["one"]);
    assert_eq!(line(&mut out).await.as_deref(), Some("one"));
    server.append("t", 1, &["two"]);
    assert_eq!(line(&mut out).await.as_deref(), Some("two"));
    let pid = rustix::process::Pid::from_raw(child.id().expect("runs") as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("is told");
    assert_eq!(line(&mut out).await, None);
    assert_eq!(ended(&mut child).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_ends_it() {
    let server = Server::with_topic("t", 1).await;
    server.append("t", 0, &["a", "b", "c"]);
    let args = ["tail", "t", "--from", "earliest", "-n", "2", "-o", "ndjson", "--url", &server.url];
    let told = ran(program(&args)).await;
    assert_eq!((told.code, told.text().lines().count()), (Some(0), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_ends_it_as_not_found() {
    let server = Server::with_topic("t", 1).await;
    let mut child = program(&["tail", "t", "--url", &server.url]).spawn().expect("starts");
    server.until(subscribed).await;
    server.delete("t");
    assert_eq!(ended(&mut child).await, Some(3));
    let none = ran(program(&["tail", "none", "--url", &server.url])).await;
    assert_eq!((none.code, none.text()), (Some(3), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_enough_is_no_failure() {
    let server = Server::with_topic("t", 1).await;
    let mut child = program(&["tail", "t", "-o", "value", "--from", "earliest", "--url"])
        .arg(&server.url)
        .spawn()
        .expect("starts");
    let mut out = lines(&mut child);
    server.append("t", 0, &["one"]);
    assert_eq!(line(&mut out).await.as_deref(), Some("one"));
    drop(out);
    server.append("t", 0, &["two"]);
    assert_eq!(ended(&mut child).await, Some(0));
    let mut list = program(&["topic", "list", "--url", &server.url]).spawn().expect("starts");
    drop(list.stdout.take());
    assert_eq!(ended(&mut list).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_grows_is_read_whole() {
    let server = Server::with_topic("t", 1).await;
    let mut child =
        program(&["tail", "t", "-o", "value", "--url", &server.url]).spawn().expect("starts");
    let mut out = lines(&mut child);
    server.until(subscribed).await;
    server.set_partitions("t", 2);
    server.append("t", 1, &["in the new one"]);
    assert_eq!(line(&mut out).await.as_deref(), Some("in the new one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_told_and_reading_goes_on() {
    let server = Server::with_topic("t", 1).await;
    server.append("t", 0, &["a", "b"]);
    let mut child =
        program(&["tail", "t", "-o", "value", "--url", &server.url]).spawn().expect("starts");
    let mut out = lines(&mut child);
    server.until(subscribed).await;
    server.append_over("t", 0, &["c", "d", "e"], 4);
    assert_eq!(line(&mut out).await.as_deref(), Some("e"));
    child.start_kill().expect("is ended");
    let output = child.wait_with_output().await.expect("is waited for");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(told, "postrider: partition 0: offsets 2 to 3 are gone by retention\n");
    let args = ["tail", "t", "-p", "0", "--from", "1", "--url", &server.url];
    let told = ran(program(&args)).await;
    assert_eq!(told.code, Some(1), "an offset that was asked for is not replaced");
    assert!(told.err.contains("offset_out_of_range"), "{}", told.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_to_begin_is_checked() {
    let server = Server::with_topic("t", 2).await;
    let offset = ran(program(&["tail", "t", "--from", "5", "--url", &server.url])).await;
    assert_eq!(offset.code, Some(2));
    assert!(offset.err.contains("--partition"), "{}", offset.err);
    for wrong in ["yesterday", "-1", "2026-11-24", ""] {
        let told = ran(program(&["tail", "t", &format!("--from={wrong}")])).await;
        assert_eq!(told.code, Some(2), "{wrong}");
    }
    let time = "2026-11-24T10:00:00+01:00";
    let args = ["tail", "t", "--no-follow", "--from", time, "--url", &server.url];
    assert_eq!(ran(program(&args)).await.code, Some(0));
    let asked = server.seen(&Method::GET);
    assert!(asked.iter().any(|seen| seen.body["from"] == time), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_socket_skips_and_repeats_nothing() {
    let server = Server::with_topic("t", 2).await;
    let mut child = program(&["tail", "t", "-o", "value", "--from", "earliest", "--url"])
        .arg(&server.url)
        .spawn()
        .expect("starts");
    let mut out = lines(&mut child);
    for round in 0..6 {
        let texts = [0, 1].map(|n| format!("{round} {n}"));
        server.append("t", 0, &[&texts[0]]);
        assert_eq!(line(&mut out).await.as_deref(), Some(&*texts[0]));
        // What is appended while there is no socket is not lost.
        match round {
            0 | 1 => server.end_sockets(None),
            2 => server.end_sockets(Some(4_000)),
            3 => server.end_sockets(Some(4_008)),
            _ => server.drains.store(true, std::sync::atomic::Ordering::Relaxed),
        }
        server.append("t", 1, &[&texts[1]]);
        assert_eq!(line(&mut out).await.as_deref(), Some(&*texts[1]));
    }
    let resumed = server.seen(&Method::GET);
    let resumed = resumed.iter().filter(|seen| seen.body["log"] == "the-log").count();
    assert!(resumed >= 4, "{resumed} times");
    server.end_sockets(Some(4_100));
    assert_eq!(ended(&mut child).await, Some(1));
}
