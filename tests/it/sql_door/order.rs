//! In order, each once: inside a transaction, and between those that waited for each other.

use std::time::Duration;

use serde_json::json;
use sqlx::Connection;

use super::{arrive, run};
use crate::support::{Node, TestDatabase, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_rows_of_one_transaction_arrive_in_order() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 3})).await;
    let mut session = database.connect().await;
    run(
        &mut session,
        "begin;
         select count(postrider.publish('orders', g::text, 'k' || g % 7))
         from generate_series(0, 99999) g;
         commit",
    )
    .await;
    let mut next = [0, 1, 2, 3, 4, 5, 6];
    let arrived = async || {
        let mut sum = 0;
        for partition in 0..3 {
            sum += client.watermarks("orders", partition).await.1;
        }
        (sum >= 100_000).then_some(sum)
    };
    let sum = within(Duration::from_secs(60), "all of them arrive", arrived).await;
    assert_eq!(sum, 100_000);
    for partition in 0..3 {
        for message in client.read_all("orders", partition).await {
            let value: usize =
                message["value_text"].as_str().expect("text").parse().expect("a number");
            let key = value % 7;
            assert_eq!(message["key"], format!("k{key}"));
            assert_eq!(next[key], value, "key {key}");
            next[key] += 7;
        }
    }
    assert_eq!(next.iter().min(), Some(&100_000));
    node.stop().await.expect("stops");
}

/// A transaction with low numbers that commits last is neither skipped nor put before others.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1})).await;
    let (mut late, mut other) = (database.connect().await, database.connect().await);
    let mut open = late.begin().await.expect("begun");
    run(&mut open, "select postrider.publish('orders', 'late 0', 'k')").await;
    for n in 0..5 {
        run(&mut other, &format!("select postrider.publish('orders', 'early {n}', 'k')")).await;
        // Each is appended while the late one is open.
        arrive(&client, "orders", n + 1).await;
    }
    run(&mut open, "select postrider.publish('orders', 'late 1', 'k')").await;
    open.commit().await.expect("committed");
    let values: Vec<String> = arrive(&client, "orders", 7)
        .await
        .iter()
        .map(|message| message["value_text"].as_str().expect("text").to_owned())
        .collect();
    let wanted = ["early 0", "early 1", "early 2", "early 3", "early 4", "late 0", "late 1"];
    assert_eq!(values, wanted);
    node.stop().await.expect("stops");
}

/// Sessions that wait for each other's row lock count up, and publish what they counted.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_waited_for_each_other_are_in_order() {
    const SESSIONS: i64 = 6;
    const EACH: i64 = 100;
    let database = TestDatabase::new().await;
    let nodes = [Node::on(&database).await, Node::on(&database).await];
    let client = nodes[0].client();
    client.put_topic("counted", json!({"partitions": 1})).await;
    database.run("create table counter (n bigint); insert into counter values (0)").await;
    let counting = (0..SESSIONS).map(|_| async {
        let mut session = database.connect().await;
        for _ in 0..EACH {
            run(
                &mut session,
                "begin;
                 update counter set n = n + 2;
                 select postrider.publish('counted', to_jsonb(n - 1), 'k'),
                   postrider.publish('counted', to_jsonb(n), 'k') from counter;
                 commit",
            )
            .await;
        }
    });
    let watched = async {
        // An idle snapshot holds nothing up.
        let mut session = database.connect().await;
        run(&mut session, "begin isolation level repeatable read; select 1").await;
        futures_join(counting).await;
        run(&mut session, "commit").await;
    };
    watched.await;
    let all = SESSIONS * EACH * 2;
    for (at, message) in arrive(&client, "counted", all).await.iter().enumerate() {
        assert_eq!(message["value"], at + 1);
    }
    for node in nodes {
        node.stop().await.expect("stops");
    }
}

async fn futures_join(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Tables are emptied as a whole when everything in them is appended, also while a transaction
/// that publishes stays open beside them.
#[tokio::test(flavor = "multi_thread")]
async fn tables_are_emptied_and_nothing_that_waits_is_lost() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut session = database.connect().await;
    run(&mut session, "select postrider.publish('orders', 'a') from generate_series(1, 100)").await;
    arrive(&client, "orders", 100).await;
    node.stop().await.expect("stops");
    // As if they had been left in another minute; one more waits in the same table.
    let shift = "update postrider.outbox set place = place / 3 * 3 + (place + 1) % 3";
    run(&mut session, shift).await;
    run(&mut session, "select postrider.publish('orders', 'b')").await;
    let move_one = "update postrider.outbox set place = (select min(place) from postrider.outbox
        where value = 'a') where value = 'b'";
    run(&mut session, move_one).await;
    let empty = "select sum(postrider.outbox_empty(s::smallint))::bigint
        from generate_series(0, 1) s";
    assert_eq!(database.number(empty).await, 0, "one still waits");
    let node = Node::on(&database).await;
    let client = node.client();
    let messages = arrive(&client, "orders", 101).await;
    assert_eq!(messages[100]["value_text"], "b");
    within(Duration::from_secs(40), "the table is emptied", async || {
        (database.number("select count(*) from postrider.outbox").await == 0).then_some(())
    })
    .await;
    run(&mut session, "select postrider.publish('orders', 'c')").await;
    assert_eq!(arrive(&client, "orders", 102).await[101]["value_text"], "c");
    // No row was ever deleted or updated but by this test.
    let cursors = "select count(*) from postrider.outbox_cursors";
    assert_eq!(database.number(cursors).await, 2);
    node.stop().await.expect("stops");
}
