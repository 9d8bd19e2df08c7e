//! What groups refuse, and how they say it.

use reqwest::Method;
use serde_json::{Value, json};

use super::{fill, look, one, orders, park};
use crate::support::{Member, group::places, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_join_says_which_field_it_does_not_take() {
    let (_database, node, client) = one().await;
    let many: Vec<String> = (0..101).map(|number| format!("t{number}")).collect();
    for (body, pointer) in [
        (json!({}), "/topics"),
        (json!({"topics": []}), "/topics"),
        (json!({"topics": many}), "/topics"),
        (json!({"topics": ["a", "aud*"]}), "/topics/1"),
        (json!({"topics": ["a.**.b"]}), "/topics/0"),
        (json!({"topics": ["_hidden"]}), "/topics/0"),
        (json!({"topics": ["a b"]}), "/topics/0"),
        (json!({"topics": ["a"], "start": "middle"}), "/start"),
        (json!({"topics": ["a"], "session_timeout": "2999ms"}), "/session_timeout"),
        (json!({"topics": ["a"], "session_timeout": "601s"}), "/session_timeout"),
        (json!({"topics": ["a"], "session_timeout": "soon"}), "/session_timeout"),
        (json!({"topics": ["a"], "member_id": ""}), "/member_id"),
        (json!({"topics": ["a"], "member_id": "a/b"}), "/member_id"),
        (json!({"topics": ["a"], "generation": -1}), "/generation"),
        (json!({"topics": ["a"], "generation": 9_007_199_254_740_992_i64}), "/generation"),
        (json!({"topics": ["a"], "generation": 1.5}), "/generation"),
    ] {
        let answer = Member::try_join(&client, "g", &body).await;
        let problem = answer.problem(422, "invalid", "none");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    let unknown = Member::try_join(&client, "g", &json!({"topics": ["a"], "topic": "a"})).await;
    unknown.problem(422, "unknown_field", "none");
    Member::try_join(&client, "_g", &orders()).await.problem(422, "invalid", "none");
    client.get("/v1/groups/g").await.problem(404, "not_found", "none");
    for timeout in ["3s", "10m"] {
        Member::join(&client, "g", json!({"topics": ["a"], "session_timeout": timeout})).await;
    }
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_that_match_nothing_are_a_member_with_nothing() {
    let (_database, node, client) = one().await;
    let mut member = Member::join(&client, "g", json!({"topics": ["no.*", "nothing"]})).await;
    assert_eq!(member.has(), []);
    let empty = member.poll(json!({"wait": "200ms"})).await;
    assert_eq!((&empty["messages"], &empty["assignments"]), (&json!([]), &json!([])));
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_groups_and_members_are_404() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let poll = async |path: &str| client.json(Method::POST, path, &look()).await;
    poll("/v1/groups/none/members/m/poll").await.problem(404, "not_found", "none");
    let member = Member::join(&client, "g", orders()).await;
    poll("/v1/groups/g/members/m/poll").await.problem(404, "unknown_member", "none");
    let gone = client.send(client.request(Method::DELETE, "/v1/groups/g/members/m")).await;
    gone.problem(404, "unknown_member", "none");
    for (method, path) in [
        (Method::DELETE, "/v1/groups/none"),
        (Method::DELETE, "/v1/groups/none/members/m"),
        (Method::POST, "/v1/groups/none/pause"),
        (Method::POST, "/v1/groups/none/resume"),
        (Method::GET, "/v1/groups/none"),
    ] {
        let answer = client.send(client.request(method, path)).await;
        answer.problem(404, "not_found", "none");
    }
    let commit = json!({"offsets": [member.commit("orders", 0, 0)]});
    let answer = client.json(Method::POST, "/v1/groups/none/offsets", &commit).await;
    answer.problem(404, "not_found", "none");
    let answer = client.json(Method::POST, "/v1/groups/none/seek", &json!({"to": "latest"})).await;
    answer.problem(404, "not_found", "none");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_of_one_member_of_one_group_and_nobody_forges_it() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 3).await;
    let mut one = Member::join(&client, "a", orders()).await;
    let other_group = Member::join(&client, "b", orders()).await;
    let other_member = Member::join(&client, "a", orders()).await;
    let mut forged = one.cursor.clone().into_bytes();
    let last = forged.len() / 2;
    forged[last] = if forged[last] == b'x' { b'y' } else { b'x' };
    let forged = String::from_utf8(forged).expect("ASCII");
    for cursor in [&forged, &other_group.cursor, &other_member.cursor, "", "?", "AAAA"] {
        let answer = one.try_poll(json!({"cursor": cursor, "wait": "0s"})).await;
        let problem = answer.problem(422, "invalid", "none");
        assert_eq!(problem["errors"][0]["pointer"], "/cursor", "{cursor}");
    }
    assert_eq!(places(&one.poll(look()).await).len(), 3, "its own still holds");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_polls_of_one_member_the_newer_one_goes_on() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut member = Member::join(&client, "g", orders()).await;
    let older = park(&member, json!({"wait": "10s"}));
    let older_two = park(&member, json!({"wait": "10s"}));
    let first = soon("one of them ends", async {
        tokio::select! { first = older => first, first = older_two => first }
    });
    let (answer, _) = first.await.expect("no panic");
    let problem = answer.problem(409, "concurrent_poll", "none");
    assert_eq!(problem["retryable"], false);
    fill(&client, "orders", 0, 0, 1).await;
    assert_eq!(places(&member.poll(look()).await).len(), 1);
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_says_which_field_it_does_not_take() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let member = Member::join(&client, "g", orders()).await;
    let entry =
        |offset: Value| json!([{"topic": "orders", "partition": 0, "offset": offset, "epoch": 1}]);
    for (body, pointer) in [
        (json!({"max": 10_001}), "/max"),
        (json!({"max": -1}), "/max"),
        (json!({"wait": "31s"}), "/wait"),
        (json!({"wait": "now"}), "/wait"),
        (json!({"commit": entry(json!(-1))}), "/commit/0/offset"),
        (json!({"commit": entry(json!(9_007_199_254_740_992_i64))}), "/commit/0/offset"),
        (json!({"commit": [{"topic": "orders", "partition": 0, "offset": 1}]}), "/commit/0/epoch"),
        (json!({"revoked": [{"topic": "orders", "partition": 0}]}), "/revoked/0/epoch"),
    ] {
        let problem = member.try_poll(body.clone()).await.problem(422, "invalid", "none");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    member.try_poll(json!({"offset": 1})).await.problem(422, "unknown_field", "none");
    // What is not in revoke is passed over.
    let revoked = json!([{"topic": "orders", "partition": 0, "epoch": member.epoch("orders", 0)}]);
    let answer = member.try_poll(json!({"max": 0, "revoked": revoked})).await.ok();
    assert_eq!(answer["assignments"][0]["epoch"], member.epoch("orders", 0));
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_goes_nowhere_that_cannot_be_read() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 3).await;
    Member::join(&client, "g", orders()).await;
    let to = |partition: u32, offset: i64| {
        let entry = json!({"topic": "orders", "partition": partition, "offset": offset});
        json!({"offsets": [entry]})
    };
    let twice = json!({"offsets": [
        {"topic": "orders", "partition": 0, "offset": 1},
        {"topic": "orders", "partition": 0, "offset": 2}]});
    for (body, code, pointer) in [
        (json!({"to": to(0, 4)}), "offset_out_of_range", "/to/offsets/0/offset"),
        (json!({"to": to(0, -1)}), "offset_out_of_range", "/to/offsets/0/offset"),
        (json!({"to": to(1, 0)}), "invalid", "/to/offsets/0"),
        (json!({"to": twice}), "invalid", "/to/offsets/1"),
        (json!({"to": to(0, 1), "topics": ["orders"]}), "invalid", "/topics"),
        (json!({"to": {"offsets": []}}), "invalid", "/to/offsets"),
        (json!({"to": "middle"}), "invalid", "/to"),
        (json!({"to": {"timestamp": "yesterday"}}), "invalid", "/to/timestamp"),
        (json!({"to": {"when": "now"}}), "invalid", "/to"),
        (json!({"to": "latest", "topics": []}), "invalid", "/topics"),
        (json!({}), "invalid", "/to"),
    ] {
        let answer = client.json(Method::POST, "/v1/groups/g/seek", &body).await;
        let problem = answer.problem(422, code, "none");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    let group = client.get("/v1/groups/g").await.ok();
    assert_eq!(group["partitions"][0]["committed_offset"], 0, "nothing moved");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_idempotency_key_is_refused() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    Member::join(&client, "g", orders()).await;
    for (path, body) in [
        ("members", orders()),
        ("offsets", json!({"offsets": []})),
        ("seek", json!({"to": "earliest"})),
        ("pause", json!({})),
        ("resume", json!({})),
    ] {
        for key in ["", "a b", &"k".repeat(256)] {
            let request = client.request(Method::POST, &format!("/v1/groups/g/{path}"));
            let request = request.header("idempotency-key", key).json(&body);
            client.send(request).await.problem(422, "invalid", "none");
        }
    }
    let group = client.get("/v1/groups/g").await.ok();
    assert_eq!((&group["state"], &group["paused"]), (&json!("stable"), &json!(false)));
    assert_eq!(group["members"].as_array().map(Vec::len), Some(1));
    node.stop().await.expect("stops");
}
