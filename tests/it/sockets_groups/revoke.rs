//! A partition that is to be given up gets nothing more.

use std::time::Duration;

use postrider::lifecycle::Lifecycle;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{assigned, at, commit, fill, held, join, next, release, subscribe, timed, two_with};
use crate::support::{Client, Socket};

/// One message after the other into partitions 0 and 1, until it is stopped: how many each got.
fn flow(client: &Client, stop: &CancellationToken) -> tokio::task::JoinHandle<i64> {
    let (client, stop) = (client.clone(), stop.clone());
    Lifecycle::new().spawn(async move {
        let mut sent = 0;
        while !stop.is_cancelled() && sent < 20_000 {
            let each = [0, 1].map(|partition| json!({"value": sent, "partition": partition}));
            client.publish("orders", json!(each)).await;
            sent += 1;
        }
        sent
    })
}

/// What one socket got of each partition, and until which frame.
#[derive(Default)]
struct Got([Vec<i64>; 2]);

impl Got {
    /// Takes frames until one of this `op`, which is returned.
    async fn until(&mut self, socket: &mut Socket, op: &str) -> Value {
        loop {
            let frame = socket.next().await;
            if frame["op"] == op {
                return frame;
            }
            self.take(&frame);
        }
    }

    fn take(&mut self, frame: &Value) {
        for message in frame["messages"].as_array().into_iter().flatten() {
            let partition = frame["partition"].as_u64().expect("a partition") as usize;
            self.0[partition].push(message["offset"].as_i64().expect("an offset"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_told_to_give_up_gets_nothing_more_of_it() {
    let pair = two_with(2).await;
    let mut first = Socket::open(&at(&pair.nodes[0])).await;
    let wish = json!({"credit": 100_000});
    join(&mut first, "a", wish.clone()).await;
    let stop = CancellationToken::new();
    let flowing = flow(&pair.clients[1], &stop);
    let mut got = Got::default();
    while got.0.iter().any(|each| each.len() < 20) {
        got.take(&first.of("a", "messages").await);
    }
    let mut second = Socket::open(&at(&pair.nodes[1])).await;
    second.ask(subscribe("b", wish)).await;
    let revoke = got.until(&mut first, "revoke").await;
    let given = revoke["assignments"][0].clone();
    let partition = given["partition"].as_u64().expect("a partition") as usize;
    let (mine, others) = (got.0[partition].len(), got.0[1 - partition].len());
    // It is held back for as long as it takes the other to get a few dozen more.
    while got.0[1 - partition].len() < others + 50 {
        got.take(&first.of("a", "messages").await);
    }
    assert_eq!(got.0[partition].len(), mine, "more came after the revoke");
    let last = *got.0[partition].last().expect("some");
    let id = first.ask(release("a", &revoke, json!([next(&given, last + 1)]))).await;
    got.until(&mut first, "ok").await;
    let revoked = got.until(&mut first, "revoked").await;
    assert_eq!(held(revoked["assignments"].as_array().expect("a list")), held(&[given]));
    assert!(id > 0);
    let mut theirs = Got::default();
    let entry = loop {
        let told = theirs.until(&mut second, "assigned").await;
        if let Some(entry) = told["assignments"].get(0) {
            break entry.clone();
        }
    };
    assert_eq!(entry["offset"], last + 1);
    while theirs.0[partition].len() < 20 {
        theirs.take(&second.of("b", "messages").await);
    }
    stop.cancel();
    let sent = flowing.await.expect("no panic");
    while theirs.0[partition].last() < Some(&(sent - 1)) {
        theirs.take(&second.of("b", "messages").await);
    }
    while got.0[1 - partition].last() < Some(&(sent - 1)) {
        got.take(&first.of("a", "messages").await);
    }
    assert_eq!(theirs.0[1 - partition], [] as [i64; 0]);
    let whole: Vec<i64> = (0..sent).collect();
    assert_eq!([&got.0[partition][..], &theirs.0[partition]].concat(), whole);
    assert_eq!(got.0[1 - partition], whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_given_up_in_time_is_taken() {
    let pair = two_with(2).await;
    fill(&pair.clients[0], 0, 0, 4).await;
    fill(&pair.clients[0], 1, 0, 4).await;
    let mut first = Socket::open(&at(&pair.nodes[0])).await;
    let (_, before) = join(&mut first, "a", json!({})).await;
    first.messages("a", 8).await;
    first.call(commit("a", json!([next(&before[0], 3), next(&before[1], 3)]))).await;
    let mut second = Socket::open(&at(&pair.nodes[1])).await;
    join(&mut second, "b", json!({})).await;
    let revoke = first.of("a", "revoke").await;
    let ((revoked, told), took) = timed(async {
        let revoked = first.of("a", "revoked").await;
        (revoked, assigned(&mut second, "b").await)
    })
    .await;
    assert_eq!(revoked["assignments"], revoke["assignments"]);
    assert!(took > Duration::from_millis(4_000) && took < Duration::from_secs(7), "{took:?}");
    assert_eq!(assigned(&mut first, "a").await.len(), 1);
    assert_eq!((told.len(), &told[0]["offset"]), (1, &json!(3)));
    // Too late: it has nothing of it any more, and nothing happens.
    let given = revoke["assignments"][0].clone();
    let late = release("a", &revoke, json!([next(&given, 4)]));
    let answer = first.call(late).await;
    assert_eq!(answer["commit_errors"][0]["code"], "stale_epoch", "{answer}");
    let late = first.refused(commit("a", json!([next(&given, 4)])), "stale_epoch").await;
    assert_eq!(late["commit_errors"][0]["partition"], given["partition"]);
    assert_eq!(second.messages("b", 1).await[0]["offset"], 3);
}

/// Two members come one after the other while the first is still asked: each partition is told
/// once, and every one finds its owner.
#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_while_a_revoke_stands_get_their_shares() {
    let pair = two_with(4).await;
    let mut first = Socket::open(&at(&pair.nodes[0])).await;
    join(&mut first, "a", json!({})).await;
    let mut others = Vec::new();
    for nth in 0..3 {
        let mut socket = Socket::open(&at(&pair.nodes[nth % 2])).await;
        join(&mut socket, "m", json!({})).await;
        others.push(socket);
    }
    let mut given = Vec::new();
    while given.len() < 3 {
        let revoke = first.of("a", "revoke").await;
        given.extend(held(revoke["assignments"].as_array().expect("a list")));
        first.call(release("a", &revoke, json!([]))).await;
    }
    assert_eq!(given.len(), 3, "{given:?}");
    let mut owned = vec![super::has(&mut first, "a", 1).await];
    for socket in &mut others {
        owned.push(super::has(socket, "m", 1).await);
    }
    let mut partitions: Vec<u64> = owned.iter().map(|one| held(one)[0].1).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2, 3]);
}
