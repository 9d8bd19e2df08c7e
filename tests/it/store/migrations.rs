//! Bringing databases of all kinds up to this version.

use postrider::{
    model::Clock,
    store::{self, migrate::MigrateError},
};
use serde_json::json;
use sqlx::migrate::Migrator;

use crate::support::{Load, Node, TestDatabase};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

async fn migrate(database: &TestDatabase) -> Result<(), MigrateError> {
    store::migrate::run(&mut database.connect().await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_again_changes_nothing() {
    let database = TestDatabase::empty().await;
    let mut session = database.connect().await;
    assert!(!store::migrate::is_current(&mut session).await.expect("asked"));
    migrate(&database).await.expect("migrated");
    assert!(store::migrate::is_current(&mut session).await.expect("asked"));
    let state = async || {
        let sql = "select (select sum(xmin::text::bigint + oid::bigint) from pg_proc
              where pronamespace = 'postrider'::regnamespace)
            + (select sum(xmin::text::bigint) from postrider.migrations)
            + (select sum(xmin::text::bigint) from postrider.installed_functions)";
        database.number(&format!("select ({sql})::bigint")).await
    };
    let before = state().await;
    migrate(&database).await.expect("migrated again");
    assert_eq!(state().await, before, "functions or migrations were written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_migrate_once() {
    let database = TestDatabase::empty().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::start(database.url(), Clock::default()).await);
    }
    for node in &nodes {
        node.is_ready().await;
    }
    let applied = database.number("select count(*) from postrider.migrations where success").await;
    assert_eq!(applied, MIGRATIONS.iter().count() as i64);
    nodes[0].client().put_topic("orders", json!({"partitions": 1})).await;
    for (offset, node) in nodes.iter().enumerate() {
        let at = node.client().publish("orders", json!([{"value": 1}])).await;
        assert_eq!(at, [(0, offset as i64)]);
    }
    for node in nodes {
        node.stop().await.expect("stops");
    }
}

/// An old program goes on beside a schema that a newer one has migrated.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_migration_does_not_hinder_an_older_program() {
    let database = TestDatabase::new().await;
    database
        .run(
            "insert into postrider.migrations
               (version, description, installed_on, success, checksum, execution_time)
             values (9999, 'of the future', now(), true, '\\x00', 1)",
        )
        .await;
    migrate(&database).await.expect("nothing to do");
    let node = Node::on(&database).await;
    node.client().put_topic("orders", json!({"partitions": 1})).await;
    assert_eq!(node.client().publish("orders", json!([{"value": 1}])).await, [(0, 0)]);
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_was_edited_is_refused() {
    let database = TestDatabase::new().await;
    database.run("update postrider.migrations set checksum = '\\x00' where version = 1").await;
    let refused = migrate(&database).await.expect_err("refused");
    assert!(matches!(refused, MigrateError::Migration(_)), "{refused}");
    let node = Node::start(database.url(), Clock::default()).await;
    let ended = node.ended().await.expect_err("it stops with the reason");
    assert!(ended.to_string().contains("cannot be migrated"), "{ended}");
}

/// A program of another version left its functions; the open buckets' are remade too.
#[tokio::test(flavor = "multi_thread")]
async fn functions_of_another_version_are_replaced_in_every_bucket() {
    let database = TestDatabase::new().await;
    database
        .run(
            "do $do$
             declare bucket bigint;
             begin
               for bucket in select bucket_id from postrider.buckets loop
                 execute format($sql$create or replace function postrider.append_%s(
                     ids bigint[], counts int[], payloads bytea[], expects bigint[],
                     slot_id bigint, wake bigint)
                   returns table (outcome smallint, partition_id bigint, base_offset bigint,
                     appended_at timestamptz)
                   language plpgsql as $f$ begin raise exception 'old'; end $f$ $sql$, bucket);
               end loop;
             end $do$;
             create or replace function postrider.partition_low(of_partition bigint)
             returns bigint language plpgsql stable as $$ begin raise exception 'old'; end $$;
             update postrider.installed_functions set fingerprint = 'old'",
        )
        .await;
    let node = Node::on(&database).await;
    let client = node.client();
    for (topic, retention) in
        [("a", "1h"), ("b", "1d"), ("c", "7d"), ("d", "30d"), ("e", "forever")]
    {
        client.put_topic(topic, json!({"partitions": 1, "retention": retention})).await;
        assert_eq!(client.publish(topic, json!([{"value": 1}])).await, [(0, 0)]);
        assert_eq!(client.read_all(topic, 0).await.len(), 1);
    }
    let old = "select count(*) from pg_proc where pronamespace = 'postrider'::regnamespace
        and prosrc like '%exception ''old''%'";
    assert_eq!(database.number(old).await, 0);
    node.stop().await.expect("stops");
}

/// Migrations are written side by side: one may come to a database after one of a higher number.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_was_left_out_is_made_up_for() {
    let all: Vec<_> = MIGRATIONS.iter().cloned().collect();
    for left_out in 1..all.len() {
        let database = TestDatabase::empty().await;
        let mut session = database.connect().await;
        let known = all.iter().enumerate().filter(|(at, _)| *at != left_out);
        let mut old = Migrator {
            migrations: known.map(|(_, migration)| migration.clone()).collect(),
            locking: false,
            ..Migrator::DEFAULT
        };
        old.dangerous_set_table_name("postrider.migrations");
        old.create_schema("postrider");
        old.run_direct(None, &mut session, false).await.expect("all but one");
        assert!(!store::migrate::is_current(&mut session).await.expect("asked"));
        migrate(&database).await.expect("the one that was left out");
        assert!(store::migrate::is_current(&mut session).await.expect("asked"));
    }
}

/// Each older version of the schema comes up to this one with what is in it.
#[tokio::test(flavor = "multi_thread")]
async fn every_older_schema_is_brought_up() {
    let count = MIGRATIONS.iter().count();
    for known in 1..=count {
        let database = TestDatabase::empty().await;
        let mut session = database.connect().await;
        let mut old = Migrator {
            migrations: MIGRATIONS.iter().take(known).cloned().collect(),
            locking: false,
            ..Migrator::DEFAULT
        };
        old.dangerous_set_table_name("postrider.migrations");
        old.create_schema("postrider");
        old.run_direct(None, &mut session, false).await.expect("the old version");
        let node = Node::on(&database).await;
        let client = node.client();
        client.put_topic("orders", json!({"partitions": 2})).await;
        let load = Load::start(std::slice::from_ref(&client), "orders", 2, 10);
        crate::support::eventually("a load", async || (load.acked() > 5).then_some(())).await;
        load.stop().await.holds(&client, "orders", 2).await;
        let mut session = database.connect().await;
        assert!(store::migrate::is_current(&mut session).await.expect("asked"), "from {known}");
        node.stop().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_writes_the_incarnation_as_the_program_does() {
    let database = TestDatabase::new().await;
    let mut session = database.connect().await;
    let read = store::incarnation::read(&mut session).await.expect("it is shown");
    let rows = database.rows("select postrider.log_incarnation()").await;
    let written: String = sqlx::Row::try_get(&rows[0], 0).expect("text");
    assert_eq!(written, read.to_string());
}
