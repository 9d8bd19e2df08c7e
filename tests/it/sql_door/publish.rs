//! What can be published, what cannot, and by whom.

use serde_json::{Value, json};
use sqlx::Connection;

use super::{arrive, run, try_run};
use crate::support::{Node, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_value_is_read_back_over_rest() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut session = database.connect().await;
    run(
        &mut session,
        r#"select postrider.publish('orders', 'plain');
           select postrider.publish('orders', '{"a": 1.0, "a": 2}'::json, 'k');
           select postrider.publish('orders', jsonb_build_object('b', 2), key => 'k');
           select postrider.publish('topic:orders', '\x00ff'::bytea);
           select postrider.publish('orders', null::text, 'k');
           select postrider.publish(destination => 'orders', value => 'with headers',
             headers => '{"a": "b", "c": ["d", {"base64": "AAE="}]}')"#,
    )
    .await;
    let messages = arrive(&client, "orders", 6).await;
    let fields = |at: usize| {
        let mut message = messages[at].clone();
        let object = message.as_object_mut().expect("an object");
        for name in ["topic", "partition", "offset", "timestamp"] {
            assert!(object.remove(name).is_some(), "{name}");
        }
        message
    };
    assert_eq!(fields(0), json!({"value_text": "plain"}));
    assert_eq!(fields(2), json!({"key": "k", "value": {"b": 2}}));
    assert_eq!(fields(3), json!({"value_base64": "AP8="}));
    assert_eq!(fields(4), json!({"key": "k"}));
    let headers = json!({"a": "b", "c": ["d", {"base64": "AAE="}]});
    assert_eq!(fields(5)["value_text"], "with headers");
    // A header that is UTF-8 is read as text: one with a zero byte too.
    let read = fields(5)["headers"].clone();
    assert_eq!(read["a"], headers["a"], "{read}");
    assert_eq!(read["c"][0], "d", "{read}");
    // json is kept byte for byte, as over REST.
    let page = client.read("orders", 0, "from=1&limit=1").await;
    assert!(page.text().contains(r#""value":{"a": 1.0, "a": 2}"#), "{}", page.text());
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_transaction_that_commits_publishes() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut session = database.connect().await;
    run(&mut session, "begin; select postrider.publish('orders', 'never'); rollback").await;
    run(
        &mut session,
        "begin;
         select postrider.publish('orders', 'first');
         savepoint s;
         select postrider.publish('orders', 'undone');
         rollback to s;
         select postrider.publish('orders', 'second');
         commit",
    )
    .await;
    let failed = "begin; select postrider.publish('orders', 'failed'); select 1/0; commit";
    assert!(try_run(&mut session, failed).await.is_err());
    run(&mut session, "rollback").await;
    run(&mut session, "select postrider.publish('orders', 'last')").await;
    let values: Vec<Value> = arrive(&client, "orders", 3)
        .await
        .iter()
        .map(|message| message["value_text"].clone())
        .collect();
    assert_eq!(values, ["first", "second", "last"]);
    node.stop().await.expect("stops");
}

/// What cannot be published is told at the call, and leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_refused_at_the_call() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1, "max_message_bytes": 2000})).await;
    let mut session = database.connect().await;
    for (call, code, told) in [
        ("'missing', 'x'", "42704", "there is no topic \"missing\""),
        ("'', 'x'", "42704", "there is no topic"),
        ("null, 'x'", "42704", "there is no topic"),
        ("'queue:jobs', 'x'", "0A000", "queues is not supported yet"),
        ("'orders', repeat('x', 2001)", "54000", "at most 2000 bytes"),
        ("'orders', 'x', repeat('k', 1025)", "54000", "at most 1024 bytes"),
        ("'orders', 'x', headers => '[]'", "22023", "headers are an object"),
        ("'orders', 'x', headers => '{\"a\": 1}'", "22023", "the header \"a\""),
        ("'orders', 'x', headers => '{\"a\": [{\"base64\": 1}]}'", "22023", "the header \"a\""),
        ("'orders', 'x', headers => '{\"a\": {\"base64\": \"!\"}}'", "22023", "base64"),
    ] {
        let sql = format!("select postrider.publish({call})");
        let refused = try_run(&mut session, &sql).await.expect_err(&sql);
        let refused = refused.into_database_error().expect("by the database");
        assert_eq!(refused.code().as_deref(), Some(code), "{sql}: {refused}");
        assert!(refused.message().contains(told), "{sql}: {refused}");
    }
    assert_eq!(database.number("select count(*) from postrider.outbox").await, 0);
    // One that was deleted before it was drained takes its messages along.
    let mut open = session.begin().await.expect("begun");
    run(&mut open, "select postrider.publish('orders', 'late')").await;
    let gone = client.send(client.request(reqwest::Method::DELETE, "/v1/topics/orders")).await;
    assert_eq!(gone.status, 204);
    open.commit().await.expect("committed");
    client.put_topic("orders", json!({"partitions": 1})).await;
    run(&mut session, "select postrider.publish('orders', 'new')").await;
    let messages = arrive(&client, "orders", 1).await;
    assert_eq!(messages[0]["value_text"], "new");
    node.stop().await.expect("stops");
}

/// A role that may execute the function needs no right on any table, and has none.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_on_the_tables_can_be_let_in() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut session = database.connect().await;
    let role = database.name().to_owned();
    run(&mut session, &format!("create role {role}; set role {role}")).await;
    let call = "select postrider.publish('orders', 'x')";
    let code = async |session: &mut sqlx::PgConnection, sql: &str| {
        let refused = try_run(session, sql).await.expect_err(sql);
        refused.into_database_error().and_then(|error| error.code().map(|code| code.into_owned()))
    };
    assert_eq!(code(&mut session, call).await.as_deref(), Some("42501"));
    run(&mut session, &format!("reset role; grant usage on schema postrider to {role}")).await;
    run(&mut session, &format!("set role {role}")).await;
    assert_eq!(code(&mut session, call).await.as_deref(), Some("42501"));
    let grant = format!(
        "reset role;
         grant execute on function postrider.publish(text, text, text, jsonb) to {role};
         set role {role}"
    );
    run(&mut session, &grant).await;
    run(&mut session, call).await;
    for sql in [
        "select * from postrider.outbox",
        "insert into postrider.outbox (place, topic_id, kind) values (0, 1, 1)",
        "select postrider.outbox_add('orders', 1::smallint, null, null, null)",
        "select * from postrider.messages",
    ] {
        assert_eq!(code(&mut session, sql).await.as_deref(), Some("42501"), "{sql}");
    }
    assert_eq!(arrive(&client, "orders", 1).await[0]["value_text"], "x");
    run(&mut session, &format!("reset role; drop owned by {role}; drop role {role}")).await;
    node.stop().await.expect("stops");
}
