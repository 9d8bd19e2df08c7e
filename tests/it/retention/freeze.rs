//! Buckets that stay are frozen once they are sealed.

use serde_json::json;
use sqlx::Connection;

use super::batch;
use crate::support::{Node, TestDatabase, eventually};

/// Sealed buckets with rows that are frozen, or are not.
fn sealed(what: &str) -> String {
    format!(
        "select count(*) from postrider.buckets b
         join pg_class c on c.oid = to_regclass('postrider.batches_' || b.bucket_id)
         where b.state = 'sealed' and b.retention_class = 3 and {what}
           and exists (select from postrider.segments s where s.bucket_id = b.bucket_id)"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_bucket_that_stays_is_frozen_and_a_short_one_is_not() {
    let database = TestDatabase::with_windows("1 second").await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1, "retention": "7d"})).await;
    client.put_topic("short", json!({"partitions": 1, "retention": "1h"})).await;
    let mut end = 0;
    eventually("a bucket is frozen", async || {
        client.publish("orders", batch(end, 10)).await;
        client.publish("short", batch(end, 10)).await;
        end += 10;
        (database.number(&sealed("frozen_at is not null")).await > 0).then_some(())
    })
    .await;
    // No row of it is of a transaction that PostgreSQL has to remember.
    let ages = "select max(age(c.relfrozenxid))::bigint from postrider.buckets b
        join pg_class t on t.oid = to_regclass('postrider.batches_' || b.bucket_id)
        join pg_class c on c.oid in (t.oid, t.reltoastrelid)
        where b.frozen_at is not null";
    let made = "select max(age(xmin))::bigint from postrider.topics";
    let (age, made) = (database.number(ages).await, database.number(made).await);
    assert!(age < made, "frozen up to {age} transactions ago, and written {made} ago");
    let short = "select count(*) from postrider.buckets
        where frozen_at is not null and retention_class < 3";
    assert_eq!(database.number(short).await, 0);
    assert_eq!(client.read_all("orders", 0).await.len() as i64, end);
    node.stop().await.expect("stops");
}

/// An old snapshot keeps rows from being frozen: the bucket is not taken for frozen.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_snapshot_keeps_back_is_not_taken_for_frozen() {
    let database = TestDatabase::with_windows("1 second").await;
    let mut session = database.connect().await;
    let mut old = session.begin().await.expect("begun");
    sqlx::raw_sql("set transaction isolation level repeatable read; select pg_current_xact_id()")
        .execute(&mut *old)
        .await
        .expect("a snapshot");
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 1, "retention": "7d"})).await;
    client.publish("orders", batch(0, 10)).await;
    let vacuumed = "select count(*) from pg_stat_user_tables
        where relname like 'batches_%' and vacuum_count > 0";
    eventually("a bucket was vacuumed", async || {
        (database.number(vacuumed).await > 0).then_some(())
    })
    .await;
    eventually("a bucket with rows is sealed", async || {
        (database.number(&sealed("true")).await > 0).then_some(())
    })
    .await;
    assert_eq!(database.number(&sealed("frozen_at is not null")).await, 0);
    old.rollback().await.expect("ended");
    node.stop().await.expect("stops");
}
