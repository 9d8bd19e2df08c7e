//! Word between nodes: it hastens, and nothing depends on it.

use std::time::{Duration, Instant};

use postrider::{app::NodeOptions, lifecycle::Lifecycle, model::limits};
use reqwest::Method;
use serde_json::json;
use sqlx::PgConnection;

use super::{are_parked, median, metric, timed, wake};
use crate::support::{Member, TwoNodes, eventually, group::revoked, one_node, soon};

/// Well below the interval of looks, whose median would be half of it.
const AT_ONCE: Duration = Duration::from_millis(60);

#[tokio::test(flavor = "multi_thread")]
async fn an_append_on_one_node_wakes_another_at_once() {
    let pair = TwoNodes::new().await;
    let [a, b] = &pair.clients;
    a.put_topic("orders", json!({"partitions": 1})).await;
    let mut times = Vec::new();
    for _ in 0..10 {
        times.push(wake(a, b).await);
        times.push(wake(b, a).await);
    }
    println!("{times:?}");
    let typical = median(times);
    assert!(typical < AT_ONCE, "{typical:?}");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_notify_everything_comes_all_the_same() {
    let pair = TwoNodes::with(NodeOptions { notify: false, ..NodeOptions::default() }).await;
    let [a, b] = &pair.clients;
    a.put_topic("orders", json!({"partitions": 1})).await;
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(wake(a, b).await);
        times.push(wake(b, a).await);
    }
    println!("{times:?}");
    let typical = median(times);
    assert!(typical < limits::WAKE_INTERVAL * 2, "{typical:?}");
    let words = "select count(*) from pg_stat_activity where datname = current_database()
        and application_name in ('postrider/notify', 'postrider/listen')";
    assert_eq!(pair.database.number(words).await, 0);
    pair.stop().await;
    assert_eq!(metric("postrider_notifications_sent_total"), 0.0);
    assert_eq!(metric("postrider_notifications_heard_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_tells_nobody() {
    let (_database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    for _ in 0..20 {
        client.publish("orders", json!([{"value": 1}])).await;
    }
    node.stop().await.expect("stops");
    assert_eq!(metric("postrider_notifications_sent_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_changes_on_one_node_is_looked_at_on_another_at_once() {
    let pair = TwoNodes::new().await;
    let [a, b] = &pair.clients;
    a.put_topic("orders", json!({"partitions": 2})).await;
    let (mut told, mut received) = (Vec::new(), Vec::new());
    for round in 0..7 {
        let group = format!("billing-{round}");
        let mut first = Member::join(a, &group, json!({"topics": ["orders"]})).await;
        first.poll(json!({"wait": "0s"})).await;
        let waiting = first.clone();
        let parked = timed(async move { waiting.try_poll(json!({"wait": "10s"})).await });
        are_parked(1.0).await;
        let second = Member::join(b, &group, json!({"topics": ["orders"]})).await;
        let joined = Instant::now();
        let (answer, at) = soon("the first is told", parked).await.expect("no panic");
        told.push(at.saturating_duration_since(joined));
        first.follow(&answer.ok());
        let parked = timed(async move { second.try_poll(json!({"wait": "10s"})).await });
        are_parked(1.0).await;
        first.poll(json!({"wait": "0s", "revoked": revoked(&answer.ok())})).await;
        let confirmed = Instant::now();
        let (answer, at) = soon("the second has it", parked).await.expect("no panic");
        received.push(at.saturating_duration_since(confirmed));
        assert_eq!(answer.ok()["assignments"].as_array().map(Vec::len), Some(1));
        first.leave().await;
    }
    println!("{told:?} {received:?}");
    let typical = (median(told), median(received));
    assert!(typical.0 < AT_ONCE && typical.1 < AT_ONCE, "{typical:?}");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_goes_on_one_node_is_gone_on_another_at_once() {
    let pair = TwoNodes::new().await;
    let [a, b] = &pair.clients;
    let mut times = Vec::new();
    for _ in 0..9 {
        a.put_topic("orders", json!({"partitions": 1})).await;
        eventually("the node knows the topic", async || {
            (b.read("orders", 0, "").await.status == 200).then_some(())
        })
        .await;
        let client = b.clone();
        let parked = timed(async move { client.read("orders", 0, "from=0&wait=20s").await });
        are_parked(1.0).await;
        let gone = a.send(a.request(Method::DELETE, "/v1/topics/orders")).await;
        let since = Instant::now();
        assert_eq!(gone.status, 204);
        let (answer, at) = soon("the reader is told", parked).await.expect("no panic");
        answer.problem(404, "not_found", "none");
        times.push(at.saturating_duration_since(since));
    }
    println!("{times:?}");
    let typical = median(times);
    assert!(typical < AT_ONCE, "{typical:?}");
    pair.stop().await;
}

/// Says the same again and again for a while, as fast as the session takes it.
async fn flood(mut session: PgConnection, word: &str) -> u64 {
    let since = Instant::now();
    let mut sent = 0;
    while since.elapsed() < Duration::from_secs(2) {
        let sql = "select pg_notify('postrider', $1)";
        sqlx::query(sql).bind(word).execute(&mut session).await.expect("sent");
        sent += 1;
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_notifications_is_looked_at_at_its_pace() {
    let (database, node, client) = one_node().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let reader = client.clone();
    let parked = timed(async move { reader.read("orders", 0, "from=0&wait=20s").await });
    are_parked(1.0).await;
    let looks = || metric("postrider_wake_looks_total");
    let heard = || metric("postrider_notifications_heard_total");
    // From a node that is not there, and from nobody.
    for word in ["999999 w", "what is this"] {
        let (looks_before, heard_before, since) = (looks(), heard(), Instant::now());
        let sessions = [database.connect().await, database.connect().await];
        let [one, other] = sessions.map(|session| flood(session, word));
        let sent = tokio::join!(one, other);
        let sent = sent.0 + sent.1;
        eventually("all of it is heard", async || {
            (heard() - heard_before >= sent as f64).then_some(())
        })
        .await;
        let looked = looks() - looks_before;
        let most = since.elapsed().as_secs_f64() / limits::NOTIFY_INTERVAL.as_secs_f64();
        let polls = since.elapsed().as_secs_f64() / limits::WAKE_INTERVAL.as_secs_f64() + 2.0;
        println!("{word}: {sent} sent, {looked} looks, {most} at the most and {polls} by itself");
        assert!(sent as f64 > most, "{sent} are no flood");
        assert!(looked <= most + polls, "{looked} looks because of {sent} words");
        assert!(looked > 4.0 * polls, "{looked} looks: nothing was hastened");
    }
    client.publish("orders", json!([{"value": 7}])).await;
    let (answer, _) = soon("the read is answered", parked).await.expect("no panic");
    assert_eq!(answer.ok()["messages"][0]["value"], 7);
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_appends_is_told_at_its_pace() {
    let pair = TwoNodes::new().await;
    let [a, b] = &pair.clients;
    a.put_topic("orders", json!({"partitions": 1})).await;
    wake(a, b).await;
    let flushes = || metric("postrider_append_flushes_total");
    let (sent_before, flushes_before) = (metric("postrider_notifications_sent_total"), flushes());
    let since = Instant::now();
    let publishers = (0..4).map(|_| {
        let client = a.clone();
        Lifecycle::new().spawn(async move {
            while since.elapsed() < Duration::from_secs(2) {
                client.publish("orders", json!([{"value": 1}])).await;
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.expect("no panic");
    }
    let took = since.elapsed();
    let flushes = flushes() - flushes_before;
    let (_, high) = a.watermarks("orders", 0).await;
    let page = b.read("orders", 0, &format!("from={}&wait=20s", high - 1)).await.ok();
    assert_eq!(page["next_offset"], high);
    pair.stop().await;
    let sent = metric("postrider_notifications_sent_total") - sent_before;
    let most = took.as_secs_f64() / limits::NOTIFY_INTERVAL.as_secs_f64() + 2.0;
    println!("{flushes} flushes, {sent} words, {most} at the most");
    assert!(flushes > sent && sent > 0.0, "{flushes} flushes, {sent} words");
    assert!(sent <= most, "{sent} words in {took:?}");
}
