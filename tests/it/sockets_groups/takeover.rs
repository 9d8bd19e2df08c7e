//! Processes of one member: the one with the highest generation stands.

use serde_json::json;

use super::{assigned, at, commit, fill, held, join, members, next, offsets, subscribe, two_with};
use crate::support::Socket;

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_generation_takes_over_through_another_node_and_the_old_socket_closes() {
    let pair = two_with(2).await;
    fill(&pair.clients[0], 0, 0, 5).await;
    let mut ghost = Socket::open(&at(&pair.nodes[0])).await;
    let wish = json!({"member_id": "one", "generation": 7});
    let (ok, before) = join(&mut ghost, "a", wish).await;
    assert_eq!((&ok["member_id"], &ok["generation"]), (&json!("one"), &json!(7)));
    ghost.messages("a", 5).await;
    ghost.call(commit("a", json!([next(&before[0], 2)]))).await;

    let mut process = Socket::open(&at(&pair.nodes[1])).await;
    let wish = json!({"member_id": "one", "generation": 8});
    let (ok, after) = join(&mut process, "a", wish).await;
    assert_eq!(ok["generation"], 8);
    assert_eq!(after.len(), 2, "all of it, at once");
    for (before, after) in held(&before).iter().zip(held(&after)) {
        assert!(after.2 > before.2, "new epochs: {before:?} {after:?}");
    }
    let offset = |partition| after.iter().find(|one| one["partition"] == partition).expect("it");
    assert_eq!(offset(0)["offset"], 2, "from the committed offset on");
    let epoch = offset(0)["epoch"].as_i64().expect("an epoch");
    assert_eq!(offsets(&process.messages("a", 3).await, 0, epoch), [2, 3, 4]);
    assert_eq!(ghost.closed().await, 4103);
    assert_eq!(members(&pair.clients[0]).await, [("one".to_owned(), 8)]);
    // The ghost comes back: it is told to stop, and nobody is disturbed.
    let mut ghost = Socket::open(&at(&pair.nodes[0])).await;
    let wish = json!({"member_id": "one", "generation": 7});
    let refused = ghost.refused(subscribe("a", wish), "stale_epoch").await;
    assert_eq!((&refused["generation"], &refused["retryable"]), (&json!(8), &json!(false)));
    // Equal but different.
    let wish = json!({"member_id": "one", "generation": 8, "session_timeout": "9s"});
    ghost.refused(subscribe("a", wish), "stale_epoch").await;
    process.call(commit("a", json!([next(offset(0), 5)]))).await;
    fill(&pair.clients[0], 0, 5, 1).await;
    assert_eq!(offsets(&process.messages("a", 1).await, 0, epoch), [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_process_commits_after_a_takeover_does_not_stand() {
    let pair = two_with(1).await;
    fill(&pair.clients[0], 0, 0, 5).await;
    for round in 0..10 {
        let wish = |generation: i64| json!({"member_id": "one", "generation": generation});
        let mut ghost = Socket::open(&at(&pair.nodes[round % 2])).await;
        let (_, before) = join(&mut ghost, "a", wish(round as i64 * 2 + 1)).await;
        ghost.messages("a", 5).await;
        let mut process = Socket::open(&at(&pair.nodes[(round + 1) % 2])).await;
        process.ask(subscribe("a", wish(round as i64 * 2 + 2))).await;
        let entries = assigned(&mut process, "a").await;
        assert_eq!(entries[0]["offset"], 0);
        // It may learn of it by the answer or by the close, whichever comes first.
        let id = ghost.ask(commit("a", json!([next(&before[0], 5)]))).await;
        assert_eq!(ghost.closed().await, 4103);
        let told = ghost.rest();
        let answer = told.iter().find(|frame| frame["id"] == id);
        if let Some(answer) = answer {
            assert_eq!(answer["error"]["code"], "stale_epoch", "{answer}");
        }
        assert_eq!(super::committed(&pair.clients[0]).await, [0], "round {round}");
    }
}

/// Without a number each join of a member id is a later process.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_without_a_generation_takes_over_too() {
    let pair = two_with(1).await;
    let mut sockets = Vec::new();
    let mut last = 0;
    for nth in 0..4 {
        let mut socket = Socket::open(&at(&pair.nodes[nth % 2])).await;
        let (ok, entries) = join(&mut socket, "a", json!({"member_id": "one"})).await;
        let generation = ok["generation"].as_i64().expect("a generation");
        assert!(generation > last && entries.len() == 1, "{ok}");
        last = generation;
        sockets.push(socket);
    }
    let stands = sockets.pop().expect("the last one");
    for mut socket in sockets {
        assert_eq!(socket.closed().await, 4103);
    }
    stands.close().await;
}

/// A socket on which a member was taken over goes on where that member was given up before.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_given_up_closes_no_socket_later() {
    let pair = two_with(1).await;
    let mut socket = Socket::open(&at(&pair.nodes[0])).await;
    join(&mut socket, "a", json!({"member_id": "one"})).await;
    socket.call(json!({"op": "unsubscribe", "sub": "a"})).await;
    let mut other = Socket::open(&at(&pair.nodes[1])).await;
    join(&mut other, "a", json!({"member_id": "one"})).await;
    fill(&pair.clients[0], 0, 0, 2).await;
    other.messages("a", 2).await;
    socket.call(json!({"op": "subscribe", "sub": "t", "topic": "orders", "from": 0})).await;
    assert_eq!(socket.messages("t", 2).await.len(), 2);
    socket.close().await;
    other.close().await;
}
