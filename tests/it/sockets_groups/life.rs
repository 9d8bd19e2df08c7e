//! Members join, read, commit, give up and leave.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    assigned, at, commit, committed, fill, held, join, members, next, offsets, release, subscribe,
    timed, two_with,
};
use crate::support::{Socket, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_told_what_it_has_reads_commits_and_the_next_goes_on_there() {
    let pair = two_with(1).await;
    fill(&pair.clients[0], 0, 0, 10).await;
    let mut socket = Socket::open(&at(&pair.nodes[0])).await;
    let id = socket.ask(subscribe("b", json!({"start": "earliest"}))).await;
    let ok = socket.next().await;
    assert_eq!((&ok["op"], &ok["id"], &ok["sub"]), (&json!("ok"), &json!(id), &json!("b")));
    assert!(ok["member_id"].is_string() && ok["generation"].is_i64(), "{ok}");
    let told = socket.next().await;
    assert_eq!((&told["op"], &told["sub"]), (&json!("assigned"), &json!("b")));
    let entry = &told["assignments"][0];
    assert_eq!((&entry["topic"], &entry["offset"]), (&json!("orders"), &json!(0)), "{told}");
    let epoch = entry["epoch"].as_i64().expect("an epoch");
    let messages = socket.messages("b", 10).await;
    assert_eq!(offsets(&messages, 0, epoch), (0..10).collect::<Vec<_>>());
    assert_eq!(messages[3]["value"], 3);
    let ok = socket.call(commit("b", json!([next(entry, 4)]))).await;
    assert_eq!((&ok["sub"], ok.get("commit_errors")), (&json!("b"), None));
    assert_eq!(committed(&pair.clients[1]).await, [4]);
    // What is published anywhere comes by itself.
    fill(&pair.clients[1], 0, 10, 3).await;
    assert_eq!(offsets(&socket.messages("b", 3).await, 0, epoch), [10, 11, 12]);
    // Whoever joins next goes on at the committed offset, under an epoch of its own.
    let left = socket.call(json!({"op": "unsubscribe", "sub": "b"})).await;
    assert_eq!(left["sub"], "b");
    let mut other = Socket::open(&at(&pair.nodes[1])).await;
    let (_, entries) = join(&mut other, "x", json!({})).await;
    assert_eq!(entries[0]["offset"], 4);
    let after = entries[0]["epoch"].as_i64().expect("an epoch");
    assert!(after > epoch, "{after} is not above {epoch}");
    assert_eq!(offsets(&other.messages("x", 9).await, 0, after), (4..13).collect::<Vec<_>>());
    other.close().await;
    socket.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_an_idle_topic_is_told_at_once_what_it_has() {
    let pair = two_with(3).await;
    let mut socket = Socket::open(&at(&pair.nodes[0])).await;
    let ((_, entries), took) = timed(join(&mut socket, "b", json!({"start": "latest"}))).await;
    assert_eq!(entries.len(), 3);
    assert!(took < Duration::from_secs(3), "{took:?}");
    // One for whom nothing is left, too.
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = Socket::open(&at(&pair.nodes[1])).await;
        let ((_, entries), took) = timed(join(&mut other, "b", json!({}))).await;
        assert_eq!(entries, Vec::<Value>::new());
        assert!(took < Duration::from_secs(3), "{took:?}");
        others.push(other);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_gives_up_what_another_is_to_have() {
    let pair = two_with(2).await;
    fill(&pair.clients[0], 0, 0, 6).await;
    fill(&pair.clients[0], 1, 0, 6).await;
    let mut first = Socket::open(&at(&pair.nodes[0])).await;
    let (_, before) = join(&mut first, "a", json!({})).await;
    first.messages("a", 12).await;
    let mut second = Socket::open(&at(&pair.nodes[1])).await;
    let (_, nothing) = join(&mut second, "b", json!({})).await;
    assert_eq!(nothing, Vec::<Value>::new(), "nobody has given anything up");
    let revoke = first.of("a", "revoke").await;
    let given = revoke["assignments"].as_array().expect("a list").clone();
    assert_eq!(given.len(), 1, "{revoke}");
    let deadline = revoke["deadline"].as_str().expect("a deadline");
    let deadline = postrider::model::duration::parse(deadline).expect("a duration");
    assert!(deadline > Duration::from_secs(3) && deadline <= Duration::from_secs(5), "{revoke}");
    assert!(held(&before).contains(&held(&given)[0]), "{revoke}");
    // The offsets are committed before it is given up.
    let id = first.ask(release("a", &revoke, json!([next(&given[0], 5)]))).await;
    let answer = first.next().await;
    assert_eq!((&answer["op"], &answer["id"]), (&json!("ok"), &json!(id)), "{answer}");
    let revoked = first.next().await;
    assert_eq!((&revoked["op"], &revoked["sub"]), (&json!("revoked"), &json!("a")));
    assert_eq!(held(revoked["assignments"].as_array().expect("a list")), held(&given));
    let told = first.next().await;
    assert_eq!(told["op"], "assigned", "{told}");
    let kept = held(told["assignments"].as_array().expect("a list"));
    let stays: Vec<_> = held(&before).into_iter().filter(|one| *one != held(&given)[0]).collect();
    assert_eq!(kept, stays, "what it keeps keeps its epoch");
    let after = assigned(&mut second, "b").await;
    assert_eq!((&after[0]["partition"], &after[0]["offset"]), (&given[0]["partition"], &json!(5)));
    let (_, partition, epoch) = held(&after)[0].clone();
    assert!(epoch > held(&given)[0].2);
    assert_eq!(offsets(&second.messages("b", 1).await, partition, epoch), [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_unsubscribes_leaves_at_once_and_whoever_closes_does_not() {
    let pair = two_with(2).await;
    let mut first = Socket::open(&at(&pair.nodes[0])).await;
    let (ok, _) = join(&mut first, "a", json!({"member_id": "one"})).await;
    assert_eq!(ok["member_id"], "one");
    let mut second = Socket::open(&at(&pair.nodes[1])).await;
    join(&mut second, "b", json!({"member_id": "two"})).await;
    let revoke = first.of("a", "revoke").await;
    first.call(release("a", &revoke, json!([]))).await;
    assert_eq!(assigned(&mut second, "b").await.len(), 1);
    let (entries, took) = timed(async {
        first.call(json!({"op": "unsubscribe", "sub": "a"})).await;
        assigned(&mut second, "b").await
    })
    .await;
    assert_eq!(entries.len(), 2);
    assert!(took < Duration::from_secs(5), "of a session timeout of 30 s: {took:?}");
    // The name is free again, and the other subscriptions of the socket were not touched.
    join(&mut first, "a", json!({"member_id": "one"})).await;
    second.close().await;
    eventually("the member of a closed socket stays", async || {
        let ids: Vec<String> = members(&pair.clients[0]).await.into_iter().map(|m| m.0).collect();
        (ids == ["one", "two"]).then_some(())
    })
    .await;
}

/// Each object is answered, also what was asked behind the end of a member.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_behind_a_members_end_is_answered() {
    let pair = two_with(1).await;
    let mut socket = Socket::open(&at(&pair.nodes[0])).await;
    let (_, entries) = join(&mut socket, "a", json!({})).await;
    fill(&pair.clients[0], 0, 0, 3).await;
    socket.messages("a", 3).await;
    for round in 0..5 {
        let entries =
            if round == 0 { entries.clone() } else { join(&mut socket, "a", json!({})).await.1 };
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(socket.ask(commit("a", json!([next(&entries[0], 1)]))).await);
        }
        ids.push(socket.ask(json!({"op": "unsubscribe", "sub": "a"})).await);
        for _ in 0..20 {
            ids.push(socket.ask(commit("a", json!([next(&entries[0], 1)]))).await);
        }
        for (nth, id) in ids.into_iter().enumerate() {
            let answer = socket.answer(id).await;
            let is_ok = answer["op"] == "ok";
            assert_eq!(is_ok, nth <= 20, "{nth}: {answer}");
            if !is_ok {
                let code = answer["error"]["code"].as_str();
                assert!(matches!(code, Some("unknown_member" | "not_found")), "{answer}");
            }
        }
    }
    socket.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_on_one_socket_share_what_there_is() {
    let pair = two_with(2).await;
    let mut socket = Socket::open(&at(&pair.nodes[0])).await;
    join(&mut socket, "a", json!({})).await;
    join(&mut socket, "b", json!({})).await;
    let revoke = socket.of("a", "revoke").await;
    socket.call(release("a", &revoke, json!([]))).await;
    let (a, b) = (assigned(&mut socket, "a").await, assigned(&mut socket, "b").await);
    assert_eq!((a.len(), b.len()), (1, 1));
    for (partition, count) in [(0, 4), (1, 7)] {
        fill(&pair.clients[1], partition, 0, count).await;
        let (sub, entry) = match a[0]["partition"] == partition {
            true => ("a", &a[0]),
            false => ("b", &b[0]),
        };
        let epoch = entry["epoch"].as_i64().expect("an epoch");
        let messages = socket.messages(sub, count as usize).await;
        assert_eq!(offsets(&messages, partition, epoch), (0..count).collect::<Vec<_>>());
    }
    socket.close().await;
}
