//! What a member is told when its group or a topic goes.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    assigned, at, commit, delete, fill, has, held, join, next, offsets, subscribe, two_with,
};
use crate::support::{Socket, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_deleted_ends_its_members() {
    let pair = two_with(2).await;
    let mut sockets = Vec::new();
    for node in &pair.nodes {
        let mut socket = Socket::open(&at(node)).await;
        join(&mut socket, "a", json!({})).await;
        socket.call(json!({"op": "subscribe", "sub": "t", "topic": "orders"})).await;
        sockets.push(socket);
    }
    delete(&pair.clients[0], "/v1/groups/billing").await;
    for socket in &mut sockets {
        let closed = socket.of("a", "closed").await;
        let code = closed["error"]["code"].as_str();
        assert!(matches!(code, Some("not_found" | "unknown_member")), "{closed}");
        assert!(closed["error"]["request_id"].is_string(), "{closed}");
        socket.refused(json!({"op": "unsubscribe", "sub": "a"}), "not_found").await;
    }
    fill(&pair.clients[0], 0, 0, 1).await;
    for socket in &mut sockets {
        socket.messages("t", 1).await;
    }
    // It begins anew under its name, and so may they.
    let (_, entries) = join(&mut sockets[1], "a", json!({"start": "earliest"})).await;
    assert_eq!(entries.len(), 2);
    assert_eq!(sockets[1].messages("a", 1).await[0]["offset"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_is_taken_and_made_again_is_told() {
    let pair = two_with(1).await;
    pair.clients[0].put_topic("other", json!({"partitions": 1})).await;
    fill(&pair.clients[0], 0, 0, 9).await;
    let mut sockets = Vec::new();
    for node in &pair.nodes {
        let mut socket = Socket::open(&at(node)).await;
        let group = format!("group-{}", sockets.len());
        let more = json!({"topics": ["orders", "other"], "group": group, "credit": 7});
        let (_, entries) = join(&mut socket, "a", more).await;
        assert_eq!(entries.len(), 2);
        socket.messages("a", 7).await;
        sockets.push((socket, entries));
    }
    delete(&pair.clients[0], "/v1/topics/orders").await;
    pair.clients[0].put_topic("orders", json!({"partitions": 2})).await;
    for partition in 0..2 {
        fill(&pair.clients[0], partition, 100, 5).await;
    }
    for (socket, before) in &mut sockets {
        let old = held(before).into_iter().find(|one| one.0 == "orders").expect("orders");
        let revoked = socket.of("a", "revoked").await;
        assert_eq!(held(revoked["assignments"].as_array().expect("a list")), [old.clone()]);
        let entries = has(socket, "a", 3).await;
        for entry in entries.iter().filter(|entry| entry["topic"] == "orders") {
            assert!(held(std::slice::from_ref(entry))[0].2 > old.2, "{entry} after {old:?}");
            assert_eq!(entry["offset"], 0);
        }
        // Nothing of the topic that went comes late, and nothing of the new one is passed over.
        socket.send(json!({"op": "credit", "sub": "a", "messages": 100})).await;
        let messages = socket.messages("a", 10).await;
        for partition in 0..2 {
            let entry = entries
                .iter()
                .find(|one| one["topic"] == "orders" && one["partition"] == partition);
            let epoch = entry.expect("it")["epoch"].as_i64().expect("an epoch");
            let of_it: Vec<Value> =
                messages.iter().filter(|one| one["partition"] == partition).cloned().collect();
            assert_eq!(offsets(&of_it, partition, epoch), [0, 1, 2, 3, 4]);
            assert_eq!(of_it[0]["value"], 100);
        }
        let stale = commit("a", json!([next(&before_of(before, "orders"), 7)]));
        socket.refused(stale, "stale_epoch").await;
    }
}

fn before_of(entries: &[Value], topic: &str) -> Value {
    entries.iter().find(|entry| entry["topic"] == topic).expect("it").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_partitions_that_come_are_read_from_their_beginning() {
    let pair = two_with(1).await;
    let mut socket = Socket::open(&at(&pair.nodes[0])).await;
    let more = json!({"topics": ["orders", "audit.*"], "start": "latest"});
    join(&mut socket, "a", more).await;
    pair.clients[1].put_topic("audit.eu", json!({"partitions": 1})).await;
    pair.clients[1].publish("audit.eu", json!([{"value": 1}])).await;
    let entries = has(&mut socket, "a", 2).await;
    assert_eq!(socket.messages("a", 1).await[0]["topic"], "audit.eu");
    let grown = json!({"partitions": 2});
    pair.clients[1].json(reqwest::Method::PATCH, "/v1/topics/orders", &grown).await.ok();
    fill(&pair.clients[1], 1, 0, 2).await;
    let more = has(&mut socket, "a", 3).await;
    assert!(held(&entries).iter().all(|one| held(&more).contains(one)), "{entries:?} {more:?}");
    assert_eq!(socket.messages("a", 2).await[0]["offset"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_moves_a_member_that_reads() {
    let pair = two_with(1).await;
    fill(&pair.clients[0], 0, 0, 9).await;
    let mut socket = Socket::open(&at(&pair.nodes[0])).await;
    let (_, entries) = join(&mut socket, "a", json!({})).await;
    socket.messages("a", 9).await;
    let to = json!({"to": {"offsets": [{"topic": "orders", "partition": 0, "offset": 4}]}});
    pair.clients[1].json(reqwest::Method::POST, "/v1/groups/billing/seek", &to).await.ok();
    let revoked = socket.of("a", "revoked").await;
    assert_eq!(held(revoked["assignments"].as_array().expect("a list")), held(&entries));
    let after = assigned(&mut socket, "a").await;
    assert_eq!(after[0]["offset"], 4);
    let epoch = held(&after)[0].2;
    assert_eq!(offsets(&socket.messages("a", 5).await, 0, epoch), [4, 5, 6, 7, 8]);
    // Paused, it is told nothing and gets nothing.
    let path = "/v1/groups/billing/pause";
    pair.clients[1].json(reqwest::Method::POST, path, &json!({})).await;
    fill(&pair.clients[1], 0, 9, 2).await;
    socket.is_quiet_for(Duration::from_secs(1)).await;
    let path = "/v1/groups/billing/resume";
    pair.clients[1].json(reqwest::Method::POST, path, &json!({})).await;
    assert_eq!(offsets(&socket.messages("a", 2).await, 0, epoch), [9, 10]);
}

/// Retention went past where it stood.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_told() {
    let pair = two_with(1).await;
    fill(&pair.clients[0], 0, 0, 9).await;
    let mut socket = Socket::open(&at(&pair.nodes[0])).await;
    join(&mut socket, "a", json!({"credit": 3})).await;
    socket.messages("a", 3).await;
    pair.database
        .run(
            "insert into postrider.partition_lows (partition_id, low_offset)
             select partition_id, 8 from postrider.partitions where deleted_at is null",
        )
        .await;
    eventually("it is out of range", async || {
        (pair.clients[0].watermarks("orders", 0).await.0 == 8).then_some(())
    })
    .await;
    socket.send(json!({"op": "credit", "sub": "a", "messages": 100})).await;
    let told = assigned(&mut socket, "a").await;
    assert_eq!((&told[0]["offset"], &told[0]["gap"]), (&json!(8), &json!(5)), "{told:?}");
    assert_eq!(socket.messages("a", 1).await[0]["offset"], 8);
    socket.refused(subscribe("a", json!({})), "already_exists").await;
}
