//! Who is heard lives, who is not goes, at the session timeout and not before.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    at, commit, fill, has, held, join, members, next, release, subscribe, timed, two_with,
};
use crate::support::{RawSocket, Socket, TwoNodes, eventually};

fn wish(id: &str) -> Value {
    json!({"member_id": id, "session_timeout": "3s"})
}

/// A member on the first node beside one on the second, with a partition each.
async fn joined(pair: &TwoNodes) -> (Socket, Socket, Value) {
    let mut lost = Socket::open(&at(&pair.nodes[0])).await;
    join(&mut lost, "a", wish("lost")).await;
    let mut stays = Socket::open(&at(&pair.nodes[1])).await;
    join(&mut stays, "b", wish("stays")).await;
    let revoke = lost.of("a", "revoke").await;
    lost.call(release("a", &revoke, json!([]))).await;
    let mine = has(&mut lost, "a", 1).await.remove(0);
    has(&mut stays, "b", 1).await;
    (lost, stays, mine)
}

/// Its partitions went over to the other one, neither before its session timeout nor much later.
async fn is_missed_in_time(stays: &mut Socket, since: Instant) {
    has(stays, "b", 2).await;
    let took = since.elapsed();
    assert!(took > Duration::from_millis(2_500) && took < Duration::from_millis(4_500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_member_of_a_lost_socket_ends_at_its_session_timeout() {
    let pair = two_with(2).await;
    let (mut lost, mut stays, _) = joined(&pair).await;
    lost.send(json!({"op": "ping"})).await;
    lost.expect("pong").await;
    let since = Instant::now();
    drop(lost);
    is_missed_in_time(&mut stays, since).await;
    assert_eq!(members(&pair.clients[0]).await.len(), 1);
}

/// The connection stands and nobody is behind it.
#[tokio::test(flavor = "multi_thread")]
async fn the_member_of_a_half_open_socket_ends_at_its_session_timeout() {
    let pair = two_with(2).await;
    let mut lost = RawSocket::open(&at(&pair.nodes[0])).await;
    let frame = subscribe("a", wish("lost")).to_string();
    assert!(lost.write(&RawSocket::text(frame.as_bytes())).await);
    let mut stays = Socket::open(&at(&pair.nodes[1])).await;
    eventually("it is in", async || (members(&pair.clients[0]).await.len() == 1).then_some(()))
        .await;
    let since = Instant::now();
    // What it is to give up it never confirms: no need, where it is gone by then.
    let (_, took) = timed(join(&mut stays, "b", wish("stays"))).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    is_missed_in_time(&mut stays, since).await;
    assert_eq!(lost.closed().await, Some(4001));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_comes_back_in_time_is_not_missed() {
    let pair = two_with(2).await;
    fill(&pair.clients[0], 0, 0, 4).await;
    fill(&pair.clients[0], 1, 0, 4).await;
    let (mut lost, mut stays, mine) = joined(&pair).await;
    lost.messages("a", 8 - 4).await;
    lost.call(commit("a", json!([next(&mine, 3)]))).await;
    stays.messages("b", 4).await;
    stays.rest();
    let since = Instant::now();
    for (round, node) in [1, 0, 1].into_iter().enumerate() {
        drop(lost);
        stays.is_quiet_for(Duration::from_secs(2)).await;
        lost = Socket::open(&at(&pair.nodes[node])).await;
        let (_, entries) = join(&mut lost, "a", wish("lost")).await;
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!(entries[0]["partition"], mine["partition"]);
        assert!(held(&entries)[0].2 > mine["epoch"].as_i64().expect("an epoch"));
        assert_eq!(entries[0]["offset"], 3, "round {round}");
        assert_eq!(lost.messages("a", 1).await[0]["offset"], 3);
    }
    assert!(since.elapsed() > Duration::from_secs(6));
    stays.is_quiet_for(Duration::from_millis(500)).await;
}

/// Pongs are enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_nothing_to_say_lives() {
    let pair = two_with(2).await;
    let (mut quiet, mut stays, mine) = joined(&pair).await;
    for socket in [&mut quiet, &mut stays] {
        socket.rest();
    }
    let long = Duration::from_secs(8);
    tokio::join!(quiet.is_quiet_for(long), stays.is_quiet_for(long));
    let partition = mine["partition"].as_u64().expect("a partition");
    fill(&pair.clients[0], partition, 0, 1).await;
    assert_eq!(quiet.messages("a", 1).await[0]["epoch"], mine["epoch"]);
}

/// Megabytes wait in front of each ping. Whoever takes them, slowly, lives, though it says
/// nothing; and so does whoever has no room for more.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_reads_slowly_lives() {
    const COUNT: usize = 1_600;
    let pair = two_with(1).await;
    let value = "x".repeat(20_000);
    let batch: Vec<Value> = (0..100).map(|_| json!({"value_text": value})).collect();
    for _ in 0..COUNT / 100 {
        pair.clients[0].publish("orders", json!(batch)).await;
    }
    let mut slow = Socket::open(&at(&pair.nodes[0])).await;
    let mut more = wish("slow");
    more["credit"] = json!(COUNT);
    more["credit_bytes"] = json!(100_000_000);
    let (_, entries) = join(&mut slow, "a", more).await;
    let since = Instant::now();
    let mut expected = 0;
    while expected < COUNT {
        let frame = slow.next().await;
        assert_eq!(frame["op"], "messages", "{frame}");
        for message in frame["messages"].as_array().expect("a list") {
            assert_eq!(message["offset"], expected);
            expected += 1;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    println!("{expected} messages in {:?}", since.elapsed());
    assert!(since.elapsed() > Duration::from_secs(8), "not slow at all: {:?}", since.elapsed());
    slow.call(commit("a", json!([next(&entries[0], COUNT as i64)]))).await;
    assert_eq!(members(&pair.clients[1]).await.len(), 1);
}
