//! A database that is not there, does not answer, or is set up against us.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use postrider::model::Clock;
use reqwest::Method;
use serde_json::json;
use sqlx::Row;

use crate::support::{Answer, Client, Load, Node, OwnServer, TestDatabase, within};

/// How soon a node has to answer, and to be back.
const SOON: Duration = Duration::from_secs(5);

async fn publish(client: &Client) -> Answer {
    let body = json!({"messages": [{"value": 1}]});
    client.json(Method::POST, "/v1/topics/orders/messages", &body).await
}

/// Everything that needs the database is refused in time, with no effect.
async fn is_refused_soon(client: &Client) {
    let since = Instant::now();
    let put = json!({"partitions": 1});
    let answers = tokio::join!(
        publish(client),
        client.read("orders", 0, ""),
        client.get("/v1/topics/orders"),
        client.get("/v1/topics"),
        client.json(Method::PUT, "/v1/topics/orders", &put),
        client.json(Method::PATCH, "/v1/topics/orders", &put),
        client.json(Method::DELETE, "/v1/topics/orders", &put),
    );
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    let (a, b, c, d, e, f, g) = answers;
    for answer in [a, b, c, d, e, f, g] {
        let problem = answer.problem(503, "database_unavailable", "none");
        assert_eq!(problem["retryable"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_at_the_start_is_waited_for() {
    let server = OwnServer::start().await;
    let url = server.url().to_owned();
    let dir = server.stop().await;
    let node = Node::start(&url, Clock::default()).await;
    let client = node.client();
    assert_eq!(client.get("/healthz").await.status, 200);
    client.get("/readyz").await.problem(503, "not_ready", "none");
    is_refused_soon(&client).await;
    assert_eq!(client.get("/healthz").await.status, 200);

    let server = OwnServer::start_in(dir).await;
    within(SOON, "the node is ready", async || {
        (client.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    assert_eq!(client.publish("orders", json!([{"value": 1}])).await, [(0, 0)]);
    node.stop().await.expect("stops");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_database_never_comes_stops_when_told() {
    let server = OwnServer::start().await;
    let url = server.url().to_owned();
    let dir = server.stop().await;
    let node = Node::start(&url, Clock::default()).await;
    node.client().get("/readyz").await.problem(503, "not_ready", "none");
    node.stop().await.expect("stops without an error");
    drop(dir);
}

/// Keeps asking for what needs the database, and whether the node lives, until told to stop.
async fn watch(client: &Client, is_over: &AtomicBool) {
    let put = json!({"partitions": 2});
    while !is_over.load(Ordering::Relaxed) {
        let since = Instant::now();
        let answers = tokio::join!(
            client.read("orders", 0, "from=0"),
            client.read("orders", 1, "from=latest"),
            client.get("/v1/topics"),
            client.json(Method::PUT, "/v1/topics/orders", &put),
            client.get("/healthz"),
        );
        assert!(since.elapsed() < SOON, "an answer took {:?}", since.elapsed());
        for answer in [&answers.0, &answers.1, &answers.2, &answers.3] {
            let status = answer.status;
            assert!(matches!(status, 200 | 503 | 504), "{answer:?}");
            if status != 200 {
                let problem = answer.value();
                assert!(problem["effect"] == "none" || status == 504, "{problem}");
            }
        }
        assert_eq!(answers.4.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stops_for_ten_seconds_loses_nothing() {
    let server = OwnServer::start().await;
    let node = Node::start(server.url(), Clock::default()).await;
    node.is_ready().await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 2})).await;
    let load = Load::start(std::slice::from_ref(&client), "orders", 8, 10);
    within(SOON, "a load", async || (load.acked() > 50).then_some(())).await;

    let is_over = AtomicBool::new(false);
    let stopped = async {
        server.signal_all("STOP");
        let since = Instant::now();
        within(SOON, "the node is not ready", async || {
            (client.get("/readyz").await.status == 503).then_some(())
        })
        .await;
        within(SOON * 4, "ten seconds", async || {
            assert_eq!(client.get("/healthz").await.status, 200);
            assert_eq!(client.get("/readyz").await.status, 503);
            (since.elapsed() > Duration::from_secs(10)).then_some(())
        })
        .await;
        let before = load.acked();
        server.signal_all("CONT");
        within(SOON, "publishes succeed", async || (load.acked() > before + 10).then_some(()))
            .await;
        within(SOON, "the node is ready", async || {
            (client.get("/readyz").await.status == 200).then_some(())
        })
        .await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(stopped, watch(&client, &is_over));
    let told = load.stop().await;
    assert!(told.longest < SOON, "a publish took {:?}", told.longest);
    assert!(!told.problems.is_empty(), "the database never stopped");
    for (status, code) in &told.problems {
        let expected = [(503, "database_unavailable"), (504, "outcome_unknown")];
        assert!(expected.contains(&(*status, code)), "{status} {code}");
    }
    told.holds(&client, "orders", 2).await;
    node.stop().await.expect("stops");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_default_is_repeatable_read_stays_dense() {
    let database = TestDatabase::new().await;
    let sql = "alter database {} set default_transaction_isolation = 'repeatable read'";
    database.run(&sql.replace("{}", database.name())).await;
    let isolation = database
        .rows(
            "select reset_val from pg_settings
        where name = 'default_transaction_isolation'",
        )
        .await;
    assert!(!isolation.is_empty());
    let nodes = [Node::on(&database).await, Node::on(&database).await];
    let clients = [nodes[0].client(), nodes[1].client()];
    clients[0].put_topic("orders", json!({"partitions": 2})).await;
    let load = Load::start(&clients, "orders", 8, 10);
    within(SOON * 4, "a load", async || (load.acked() > 200).then_some(())).await;
    let told = load.stop().await;
    assert_eq!(told.problems, []);
    told.holds(&clients[0], "orders", 2).await;
    for node in nodes {
        node.stop().await.expect("stops");
    }
}

/// What protects the log where a pooler or a person sets another isolation after all.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_under_another_isolation_is_refused() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    node.client().put_topic("orders", json!({"partitions": 1})).await;
    let rows = database
        .rows(
            "select b.bucket_id, p.partition_id from postrider.buckets b
             join postrider.partitions p using (retention_class) where b.state = 'open'",
        )
        .await;
    let (bucket, partition): (i64, i64) =
        (rows[0].try_get(0).expect("bigint"), rows[0].try_get(1).expect("bigint"));
    let append = format!(
        "select * from postrider.append_{bucket}(array[{partition}], array[1], \
         array['x'::bytea], null, 0, 1)"
    );
    for level in ["repeatable read", "serializable"] {
        let mut session = database.connect().await;
        let sql = format!("begin isolation level {level}; {append}");
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut session).await;
        let refused = refused.expect_err("refused").to_string();
        assert!(refused.contains("read committed"), "{refused}");
    }
    assert_eq!(node.client().watermarks("orders", 0).await, (0, 0));
    node.stop().await.expect("stops");
}
