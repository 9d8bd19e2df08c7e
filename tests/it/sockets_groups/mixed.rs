//! Members over REST and over sockets in one group.

use serde_json::{Value, json};

use super::{at, commit, fill, has, held, join, next, offsets, release, two_with};
use crate::support::{
    Member, Socket, eventually,
    group::{places, revoked},
};

#[tokio::test(flavor = "multi_thread")]
async fn members_over_rest_and_over_sockets_are_one_group() {
    let pair = two_with(2).await;
    for partition in 0..2 {
        fill(&pair.clients[0], partition, 0, 10).await;
    }
    let body = json!({"topics": ["orders"], "member_id": "rest"});
    let mut rest = Member::join(&pair.clients[0], "billing", body).await;
    let read = rest.poll(json!({"wait": "1s"})).await;
    let read = [places(&read), places(&rest.poll(json!({"wait": "0s"})).await)].concat();
    assert_eq!(read.len(), 20);
    let mut socket = Socket::open(&at(&pair.nodes[1])).await;
    join(&mut socket, "a", json!({"member_id": "socket"})).await;
    // The one over REST is told by its poll, commits and confirms in the next.
    let told = rest.poll(json!({"wait": "10s"})).await;
    let given = revoked(&told);
    let (topic, partition, _) = held(given.as_array().expect("a list"))[0].clone();
    let entry = rest.commit(&topic, partition, 6);
    rest.poll(json!({"wait": "0s", "commit": [entry], "revoked": given})).await;
    let mine = has(&mut socket, "a", 1).await;
    assert_eq!((&mine[0]["partition"], &mine[0]["offset"]), (&json!(partition), &json!(6)));
    let epoch = held(&mine)[0].2;
    assert_eq!(offsets(&socket.messages("a", 4).await, partition, epoch), [6, 7, 8, 9]);
    socket.call(commit("a", json!([next(&mine[0], 8)]))).await;
    // And the other way round: the one on the socket gives up to one over REST.
    rest.leave().await;
    let all = has(&mut socket, "a", 2).await;
    let other = all.iter().find(|one| one["partition"] != partition).expect("the other");
    assert_eq!(other["offset"], 0, "it was never committed");
    socket.messages("a", 10).await;
    let mut rest = Member::join(&pair.clients[0], "billing", json!({"topics": ["orders"]})).await;
    let revoke = socket.of("a", "revoke").await;
    let given = revoke["assignments"][0].clone();
    socket.call(release("a", &revoke, json!([next(&given, 9)]))).await;
    let read: Vec<_> = eventually("the one over REST has it", async || {
        let read = rest.poll(json!({"wait": "1s"})).await;
        Some(places(&read)).filter(|read| !read.is_empty())
    })
    .await;
    let partition = given["partition"].as_u64().expect("a partition");
    assert_eq!(read, [("orders".to_owned(), partition, 9)]);
}

/// A process that reads over REST is taken over by its next one on a socket, and back.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_moves_between_rest_and_a_socket() {
    let pair = two_with(1).await;
    fill(&pair.clients[0], 0, 0, 5).await;
    let wish = |generation: i64| {
        let mut wish = json!({"topics": ["orders"], "member_id": "one"});
        wish["generation"] = json!(generation);
        wish
    };
    let mut rest = Member::join(&pair.clients[0], "billing", wish(1)).await;
    rest.poll(json!({"wait": "1s", "commit": [rest.commit("orders", 0, 2)]})).await;
    let mut socket = Socket::open(&at(&pair.nodes[1])).await;
    let (_, entries) = join(&mut socket, "a", wish(2)).await;
    assert_eq!(entries[0]["offset"], 2);
    let told = eventually("the older process is told", async || {
        Some(rest.try_poll(json!({"wait": "0s"})).await).filter(|told| told.status != 200)
    })
    .await;
    told.problem(409, "stale_epoch", "none");
    socket.messages("a", 3).await;
    socket.call(commit("a", json!([next(&entries[0], 4)]))).await;
    let rest = Member::join(&pair.clients[0], "billing", wish(3)).await;
    assert_eq!(rest.assignments[0]["offset"], json!(4));
    assert_eq!(socket.closed().await, 4103);
    let left: Vec<Value> = socket.rest();
    assert!(left.iter().all(|frame| frame["op"] != "messages"), "{left:?}");
}
