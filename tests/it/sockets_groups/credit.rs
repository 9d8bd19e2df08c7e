//! Credit of members, and commits that stand in part.

use serde_json::{Value, json};

use super::{at, commit, committed, fill, join, next, offsets, release, two_with};
use crate::support::Socket;

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_credit_is_told_of_its_assignments_all_the_same() {
    let pair = two_with(2).await;
    fill(&pair.clients[0], 0, 0, 50).await;
    fill(&pair.clients[0], 1, 0, 50).await;
    let mut first = Socket::open(&at(&pair.nodes[0])).await;
    join(&mut first, "a", json!({"credit": 7})).await;
    let mut got: Vec<Vec<i64>> = vec![Vec::new(), Vec::new()];
    let mut take = |messages: &[Value]| {
        for message in messages {
            let partition = message["partition"].as_u64().expect("a partition") as usize;
            let offset = message["offset"].as_i64().expect("an offset");
            assert_eq!(offset, got[partition].len() as i64, "{message}");
            got[partition].push(offset);
        }
        got.clone()
    };
    take(&first.messages("a", 7).await);
    let mut second = Socket::open(&at(&pair.nodes[1])).await;
    join(&mut second, "b", json!({"credit": 0})).await;
    let revoke = first.of("a", "revoke").await;
    let given = revoke["assignments"][0].clone();
    let partition = given["partition"].as_u64().expect("a partition") as usize;
    first.call(release("a", &revoke, json!([]))).await;
    assert_eq!(first.of("a", "revoked").await["assignments"], revoke["assignments"]);
    let entries = super::has(&mut second, "b", 1).await;
    assert_eq!(entries[0]["partition"], partition);
    // Only credit adds to it, and it goes on exactly where it was.
    first.send(json!({"op": "credit", "sub": "a", "messages": 3})).await;
    let got = take(&first.messages("a", 3).await);
    first.send(json!({"op": "credit", "sub": "a", "messages": 1_000})).await;
    let left = 50 - got[1 - partition].len();
    let got = take(&first.messages("a", left).await);
    assert_eq!(got[1 - partition].len(), 50);
    second.send(json!({"op": "credit", "sub": "b", "messages": 1_000})).await;
    let epoch = entries[0]["epoch"].as_i64().expect("an epoch");
    let messages = second.messages("b", 50).await;
    assert_eq!(offsets(&messages, partition as u64, epoch), (0..50).collect::<Vec<_>>());
}

/// Bytes are credit too: a message over them waits, and nothing is skipped for a smaller one.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_gets_nothing_over_its_bytes() {
    let pair = two_with(1).await;
    let large = "x".repeat(3_000);
    for size in [10, 3_000, 10, 10] {
        let value = json!([{"value_text": large[..size]}]);
        pair.clients[0].publish("orders", value).await;
    }
    let mut socket = Socket::open(&at(&pair.nodes[1])).await;
    let (_, entries) = join(&mut socket, "a", json!({"credit_bytes": 1_000})).await;
    let epoch = entries[0]["epoch"].as_i64().expect("an epoch");
    assert_eq!(offsets(&socket.messages("a", 1).await, 0, epoch), [0]);
    // Commits go on, and add nothing.
    socket.call(commit("a", json!([next(&entries[0], 1)]))).await;
    socket.send(json!({"op": "credit", "sub": "a", "bytes": 1_000})).await;
    socket.is_quiet_for(std::time::Duration::from_millis(700)).await;
    socket.send(json!({"op": "credit", "sub": "a", "bytes": 3_000})).await;
    assert_eq!(offsets(&socket.messages("a", 3).await, 0, epoch), [1, 2, 3]);
    socket.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_do_not_stand_are_told_one_by_one() {
    let pair = two_with(2).await;
    fill(&pair.clients[0], 0, 0, 5).await;
    let mut socket = Socket::open(&at(&pair.nodes[0])).await;
    let (_, entries) = join(&mut socket, "a", json!({})).await;
    socket.messages("a", 5).await;
    let mut stale = next(&entries[0], 2);
    stale["epoch"] = json!(17);
    let mut unknown = next(&entries[0], 1);
    unknown["partition"] = json!(9);
    let above = next(&entries[1], 1);
    let all = json!([next(&entries[0], 3), stale, unknown, above]);
    let answer = socket.call(commit("a", all)).await;
    let errors = answer["commit_errors"].as_array().expect("a list");
    let codes: Vec<_> = errors.iter().map(|one| one["code"].as_str().expect("a code")).collect();
    assert_eq!(codes, ["stale_epoch", "stale_epoch", "offset_out_of_range"]);
    assert_eq!((&errors[2]["high_watermark"], &errors[1]["partition"]), (&json!(0), &json!(9)));
    assert_eq!(committed(&pair.clients[1]).await, [3, 0]);
    // The same again stands; where nothing stands it is an error.
    socket.call(commit("a", json!([next(&entries[0], 3)]))).await;
    let refused = socket.refused(commit("a", json!([stale])), "stale_epoch").await;
    assert_eq!((&refused["effect"], &refused["retryable"]), (&json!("none"), &json!(false)));
    assert_eq!(refused["commit_errors"][0]["epoch"], 17);
    let refused = socket.refused(commit("a", json!([above])), "offset_out_of_range").await;
    assert_eq!(refused["commit_errors"][0]["offset"], 1);
    // Of what another member has.
    let mut other = Socket::open(&at(&pair.nodes[1])).await;
    join(&mut other, "b", json!({})).await;
    let theirs = next(&entries[0], 4);
    other.call(commit("b", json!([theirs]))).await;
    assert_eq!(committed(&pair.clients[1]).await[0], 4, "an epoch is what fences, as over REST");
    socket.call(commit("a", json!([]))).await;
}
