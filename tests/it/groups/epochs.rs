//! Epochs and generations: who may still speak.

use serde_json::json;

use super::{fill, look, one, orders, park, stop, two};
use crate::support::{Member, TestDatabase, eventually, group::places, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_generation_takes_over_at_once_under_new_epochs() {
    let (_database, nodes, [a, b]) = two().await;
    a.put_topic("orders", json!({"partitions": 2})).await;
    fill(&a, "orders", 0, 0, 4).await;
    let body = |generation: i64| {
        let (topics, id) = (["orders"], "worker");
        json!({"topics": topics, "member_id": id, "generation": generation})
    };
    let mut old = Member::join(&a, "billing", body(7)).await;
    assert_eq!(places(&old.poll(look()).await).len(), 4);
    old.poll(json!({"wait": "0s", "commit": [old.commit("orders", 0, 1)]})).await;
    let ghost = park(&old, json!({"wait": "10s"}));
    let mut new = Member::join(&b, "billing", body(8)).await;
    assert_eq!((new.id.as_str(), new.generation, new.has().len()), ("worker", 8, 2));
    assert!(new.epoch("orders", 0) > old.epoch("orders", 0), "at once: no waiting for a ghost");
    assert_eq!(places(&new.poll(look()).await)[0].2, 1, "from the committed offset");
    // The older process stops: its poll that waits, its next poll, its commit.
    let (parked, _) = soon("the ghost is told", ghost).await.expect("no panic");
    parked.problem(409, "stale_epoch", "none");
    let stale = old.try_poll(look()).await.problem(409, "stale_epoch", "none");
    assert_eq!((&stale["retryable"], &stale["generation"]), (&json!(false), &json!(8)));
    let commit = json!({"offsets": [old.commit("orders", 0, 4)]});
    let late = a.json(reqwest::Method::POST, "/v1/groups/billing/offsets", &commit).await.ok();
    assert_eq!(late["commit_errors"][0]["code"], "stale_epoch");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_join_again_gets_the_same_answer_and_a_lower_one_is_stale() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 2})).await;
    let body = json!({"topics": ["orders"], "member_id": "worker", "generation": 7});
    let first = Member::try_join(&client, "billing", &body).await;
    let again = Member::try_join(&client, "billing", &body).await;
    assert_eq!((first.status, first.value()), (again.status, again.value()));
    let lower = json!({"topics": ["orders"], "member_id": "worker", "generation": 6});
    let lower = Member::try_join(&client, "billing", &lower).await;
    let lower = lower.problem(409, "stale_epoch", "none");
    assert_eq!(lower["generation"], 7);
    // Absent: the current one + 1.
    let next = json!({"topics": ["orders"], "member_id": "worker"});
    let next = Member::join(&client, "billing", next).await;
    assert_eq!(next.generation, 8);
    // The same number and other settings are no retry.
    let other = json!({"topics": ["invoices"], "member_id": "worker", "generation": 8});
    Member::try_join(&client, "billing", &other).await.problem(409, "stale_epoch", "none");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_made_for_a_member_rises_though_it_left_in_between() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let body = json!({"topics": ["orders"], "member_id": "worker"});
    let first = Member::join(&client, "billing", body.clone()).await;
    first.leave().await;
    let second = Member::join(&client, "billing", body).await;
    assert!(second.generation > first.generation);
    first.try_poll(look()).await.problem(409, "stale_epoch", "none");
    node.stop().await.expect("stops");
}

/// The clock of the database was an hour ahead when the last epoch was given.
async fn put_ahead(database: &TestDatabase) {
    let sql = "update postrider.groups set last_epoch = last_epoch + 3600000";
    database.run(sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_rise_for_ever_also_over_deletion_and_a_clock_that_went_back() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let first = Member::join(&client, "billing", orders()).await;
    put_ahead(&database).await;
    let second = {
        first.leave().await;
        Member::join(&client, "billing", orders()).await
    };
    let ahead = second.epoch("orders", 0);
    assert!(ahead >= first.epoch("orders", 0) + 3_600_000);
    // The group goes and comes again.
    let deleted = client.send(client.request(reqwest::Method::DELETE, "/v1/groups/billing")).await;
    assert_eq!(deleted.status, 204);
    second.try_poll(look()).await.problem(404, "not_found", "none");
    let third = Member::join(&client, "billing", orders()).await;
    assert!(third.epoch("orders", 0) > ahead);
    // So does the topic.
    let deleted = client.send(client.request(reqwest::Method::DELETE, "/v1/topics/orders")).await;
    assert_eq!(deleted.status, 204);
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut third = third;
    let old = third.epoch("orders", 0);
    eventually("the new topic is assigned", async || {
        third.poll(json!({"wait": "1s"})).await;
        let has = third.has();
        has.first().map(|(_, _, epoch)| assert!(*epoch > old, "{epoch} after {old}"))
    })
    .await;
    node.stop().await.expect("stops");
}

/// As after the promotion of a standby.
async fn other_log(database: &TestDatabase) {
    database.run("update postrider.assignments set log_incarnation = 'another'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_the_first_poll_renews_every_epoch_at_the_committed_offset() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 6).await;
    let mut member = Member::join(&client, "billing", orders()).await;
    assert_eq!(places(&member.poll(json!({"wait": "0s", "max": 4})).await).len(), 4);
    member.poll(json!({"max": 0, "commit": [member.commit("orders", 0, 2)]})).await;
    let before = member.epoch("orders", 0);
    other_log(&database).await;
    let told = member.poll(look()).await;
    assert!(member.epoch("orders", 0) > before);
    assert_eq!(places(&told), [], "what was read under the old epoch: {told}");
    let read = member.poll(look()).await;
    assert_eq!(places(&read).first().map(|place| place.2), Some(2), "the cursor said 4: {read}");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_the_first_commit_is_stale_and_renews() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 6).await;
    let mut member = Member::join(&client, "billing", orders()).await;
    member.poll(look()).await;
    other_log(&database).await;
    let commit = member.commit("orders", 0, 5);
    let told = member.poll(json!({"max": 0, "commit": [commit]})).await;
    assert_eq!(told["commit_errors"][0]["code"], "stale_epoch", "{told}");
    let commit = member.commit("orders", 0, 5);
    let told = member.poll(json!({"max": 0, "commit": [commit]})).await;
    assert_eq!(told["commit_errors"], json!([]), "under the new epoch it counts");
    node.stop().await.expect("stops");
}
