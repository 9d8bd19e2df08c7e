//! Groups as resources: described, listed, moved, paused, deleted.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{fill, look, one, orders, park, stop, two, unpark};
use crate::support::{Client, Member, eventually, group::places};

async fn describe(client: &Client) -> Value {
    client.get("/v1/groups/billing").await.ok()
}

async fn seek(client: &Client, body: Value) -> Value {
    client.json(Method::POST, "/v1/groups/billing/seek", &body).await.ok()
}

fn offsets(answer: &Value) -> Vec<i64> {
    places(answer).iter().map(|place| place.2).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_tells_its_members_and_how_far_it_is_behind() {
    let (_database, node, client) = one().await;
    client.get("/v1/groups/billing").await.problem(404, "not_found", "none");
    client.put_topic("orders", json!({"partitions": 2})).await;
    fill(&client, "orders", 0, 0, 8).await;
    let mut member = Member::join(&client, "billing", orders()).await;
    member.poll(look()).await;
    member.poll(json!({"max": 0, "commit": [member.commit("orders", 0, 5)]})).await;
    let group = eventually("three are owed, for a while", async || {
        let group = describe(&client).await;
        (group["partitions"][0]["lag_ms"].as_i64() > Some(20)).then_some(group)
    })
    .await;
    assert_eq!((&group["name"], &group["state"]), (&json!("billing"), &json!("stable")));
    assert_eq!((&group["lag"], &group["paused"]), (&json!(3), &json!(false)));
    let owed = &group["partitions"][0];
    for (field, is) in [
        ("topic", json!("orders")),
        ("partition", json!(0)),
        ("committed_offset", json!(5)),
        ("high_watermark", json!(8)),
        ("lag", json!(3)),
        ("member_id", json!(member.id)),
    ] {
        assert_eq!(owed[field], is, "{field}: {owed}");
    }
    let nothing = &group["partitions"][1];
    assert_eq!((&nothing["lag"], &nothing["lag_ms"]), (&json!(0), &json!(0)));
    let told = &group["members"][0];
    assert_eq!(told["member_id"], member.id.as_str());
    assert_eq!((&told["topics"], &told["session_timeout"]), (&json!(["orders"]), &json!("30s")));
    assert_eq!(
        (&told["partition_count"], &told["generation"]),
        (&json!(2), &json!(member.generation))
    );
    member.leave().await;
    assert_eq!(describe(&client).await["state"], "empty");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_by_name_a_page_at_a_time() {
    let (_database, node, client) = one().await;
    for group in ["a.1", "a.2", "a.3", "b"] {
        Member::join(&client, group, orders()).await;
    }
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("a list");
        items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
    };
    let page = client.get("/v1/groups?prefix=a.&page_size=2").await.ok();
    assert_eq!(names(&page), ["a.1", "a.2"]);
    let token = page["next_page_token"].as_str().expect("there is more");
    let page = client.get(&format!("/v1/groups?prefix=a.&page_size=2&page_token={token}")).await;
    assert_eq!(
        (names(&page.ok()), &page.ok()["next_page_token"]),
        (vec!["a.3".into()], &Value::Null)
    );
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_moved_while_it_runs() {
    let (_database, nodes, [a, b]) = two().await;
    a.put_topic("orders", json!({"partitions": 1})).await;
    fill(&a, "orders", 0, 0, 4).await;
    let between = eventually("a later moment", async || {
        let page = a.read("orders", 0, "from=3").await.ok();
        let last = page["messages"][0]["timestamp"].as_str().expect("a time").to_owned();
        let now = postrider::model::Clock::default().now_ms();
        let after = postrider::model::clock::parse_rfc3339_ms(&last).expect("a time") + 20;
        (now > after).then(|| postrider::model::clock::format_ms(after))
    })
    .await;
    fill(&a, "orders", 0, 4, 4).await;
    let mut member = Member::join(&a, "billing", orders()).await;
    assert_eq!(member.poll(look()).await["messages"].as_array().map(Vec::len), Some(8));
    for (to, first, next) in [
        (json!("earliest"), Some(0), 0),
        (json!({"timestamp": between}), Some(4), 4),
        (json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 6}]}), Some(6), 6),
        (json!("latest"), None, 8),
        (json!({"timestamp": "2999-01-01T00:00:00Z"}), None, 8),
    ] {
        let epoch = member.epoch("orders", 0);
        let plan = seek(&a, json!({"to": to, "dry_run": true})).await;
        assert_eq!(
            (&plan["dry_run"], &plan["partitions"][0]["offset"]),
            (&json!(true), &json!(next))
        );
        member.poll(json!({"max": 0})).await;
        assert_eq!(member.epoch("orders", 0), epoch, "a dry run changes nothing");
        // A poll that waits through another node is woken by it.
        member.client = b.clone();
        let waiting = park(&member, json!({"wait": "10s"}));
        let done = seek(&a, json!({"to": to, "topics": null})).await;
        assert_eq!((&done["dry_run"], &done["partitions"]), (&json!(false), &plan["partitions"]));
        let read = unpark(&mut member, waiting).await;
        assert!(member.epoch("orders", 0) > epoch, "{to}");
        assert_eq!(offsets(&read).first().copied(), first, "{to}: {read}");
        assert_eq!(describe(&a).await["partitions"][0]["committed_offset"], next, "{to}");
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_moves_only_the_topics_it_names() {
    let (_database, node, client) = one().await;
    for topic in ["orders", "audit.a"] {
        client.put_topic(topic, json!({"partitions": 1})).await;
        fill(&client, topic, 0, 0, 3).await;
    }
    Member::join(&client, "billing", json!({"topics": ["orders", "audit.*"]})).await;
    let done = seek(&client, json!({"to": "latest", "topics": ["audit.*"]})).await;
    assert_eq!(done["partitions"].as_array().map(Vec::len), Some(1), "{done}");
    let group = describe(&client).await;
    let committed: Vec<&Value> = group["partitions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|partition| &partition["committed_offset"])
        .collect();
    assert_eq!(committed, [3, 0], "audit.a, orders");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_group_gets_nothing_and_goes_on_when_it_is_resumed() {
    let (_database, nodes, [a, b]) = two().await;
    a.put_topic("orders", json!({"partitions": 1})).await;
    let mut member = Member::join(&a, "billing", orders()).await;
    member.poll(look()).await;
    let paused = a.post("/v1/groups/billing/pause", "", "").await;
    assert_eq!(paused.status, 204);
    fill(&a, "orders", 0, 0, 2).await;
    let nothing = member.poll(json!({"wait": "300ms"})).await;
    assert_eq!(nothing["messages"], json!([]));
    assert_eq!(describe(&a).await["paused"], true);
    let waiting = park(&member, json!({"wait": "10s"}));
    assert_eq!(b.post("/v1/groups/billing/resume", "", "").await.status, 204);
    let read = unpark(&mut member, waiting).await;
    assert_eq!(offsets(&read), [0, 1]);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_group_forgets_its_offsets_and_tells_whoever_polls() {
    let (_database, nodes, [a, b]) = two().await;
    a.put_topic("orders", json!({"partitions": 1})).await;
    fill(&a, "orders", 0, 0, 3).await;
    let mut member = Member::join(&a, "billing", orders()).await;
    member.poll(look()).await;
    member.poll(json!({"max": 0, "commit": [member.commit("orders", 0, 3)]})).await;
    let waiting = park(&member, json!({"wait": "10s"}));
    let gone = b.send(b.request(Method::DELETE, "/v1/groups/billing")).await;
    assert_eq!(gone.status, 204);
    let (answer, _) = crate::support::soon("it is told", waiting).await.expect("no panic");
    answer.problem(404, "not_found", "none");
    b.get("/v1/groups/billing").await.problem(404, "not_found", "none");
    b.send(b.request(Method::DELETE, "/v1/groups/billing")).await.problem(404, "not_found", "none");
    let next = Member::join(&b, "billing", orders()).await;
    assert_eq!(next.assignments[0]["offset"], 0, "it begins anew");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_drops_assignments_and_offsets() {
    let (database, node, client) = one().await;
    for topic in ["orders", "invoices"] {
        client.put_topic(topic, json!({"partitions": 2})).await;
    }
    Member::join(&client, "billing", json!({"topics": ["orders", "invoices"]})).await;
    let gone = client.send(client.request(Method::DELETE, "/v1/topics/orders")).await;
    assert_eq!(gone.status, 204);
    let group = describe(&client).await;
    assert_eq!(group["partitions"].as_array().map(Vec::len), Some(2), "{group}");
    assert_eq!(database.number("select count(*) from postrider.assignments").await, 2);
    let sql = "select count(distinct partition_id) from postrider.group_offsets";
    assert_eq!(database.number(sql).await, 2);
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_join_and_a_deletion_of_its_topic_end_well_in_any_order() {
    let (database, node, client) = one().await;
    for round in 0..10 {
        client.put_topic("orders", json!({"partitions": 3})).await;
        let (joins, deletes) = (client.clone(), client.clone());
        let (member, gone) = tokio::join!(
            Member::join(&joins, "billing", orders()),
            deletes.send(deletes.request(Method::DELETE, "/v1/topics/orders")),
        );
        assert_eq!(gone.status, 204, "round {round}");
        let mut member = member;
        crate::support::within(Duration::from_secs(5), "nothing is left", async || {
            member.poll(json!({"max": 0})).await;
            let sql = "select count(*) from postrider.assignments";
            (member.has().is_empty() && database.number(sql).await == 0).then_some(())
        })
        .await;
        member.leave().await;
    }
    node.stop().await.expect("stops");
}
