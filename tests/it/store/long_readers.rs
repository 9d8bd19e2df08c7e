//! A dump and a long reader, while buckets are made, attached and dropped.

use std::time::Duration;

use serde_json::json;
use sqlx::{PgConnection, Row};

use crate::support::{Load, Node, TestDatabase, within};

const LONG: Duration = Duration::from_secs(60);

async fn run(session: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(session).await;
    done.unwrap_or_else(|why| panic!("{sql}: {why}"));
}

/// What pg_dump holds from its first moment to its last. A bucket that goes between the list and
/// the lock ends a dump; it is begun anew, as an operator would.
async fn dump(database: &TestDatabase) -> PgConnection {
    let mut session = database.connect().await;
    run(&mut session, "set idle_in_transaction_session_timeout = 0").await;
    for _ in 0..50 {
        match lock_all(&mut session).await {
            Ok(()) => return session,
            Err(_) => run(&mut session, "rollback").await,
        }
    }
    panic!("no dump could begin");
}

async fn lock_all(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    run(session, "begin isolation level repeatable read, read only").await;
    let tables = "select inhrelid::regclass::text from pg_inherits
        where inhparent = 'postrider.batches'::regclass";
    let children = sqlx::query(tables).fetch_all(&mut *session).await?;
    run(session, "lock table postrider.batches in access share mode").await;
    for child in children {
        let child: String = child.try_get(0)?;
        let lock = format!("lock table {child} in access share mode");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut *session).await?;
    }
    Ok(())
}

/// A transaction that has read everything and stays.
async fn long_reader(database: &TestDatabase) -> PgConnection {
    let mut session = database.connect().await;
    run(&mut session, "set idle_in_transaction_session_timeout = 0").await;
    run(&mut session, "begin isolation level repeatable read").await;
    run(&mut session, "select count(*), sum(length(records)) from postrider.batches").await;
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn no_publish_waits_for_a_dump_or_a_long_reader() {
    let database = TestDatabase::with_windows("1 second").await;
    let nodes = [Node::on(&database).await, Node::on(&database).await];
    let clients = [nodes[0].client(), nodes[1].client()];
    clients[0].put_topic("kept", json!({"partitions": 2, "retention": "1d"})).await;
    clients[0].put_topic("short", json!({"partitions": 2, "retention": "1s"})).await;
    let kept = Load::start(&clients, "kept", 4, 10);
    let short = Load::start(&clients, "short", 4, 10);
    let newest = "select coalesce(max(bucket_id), 0) from postrider.buckets where state = 'open'";
    let dropping = "select count(*) from postrider.buckets where state = 'dropping'";
    within(LONG, "a bucket is dropped", async || {
        (clients[0].watermarks("short", 0).await.0 > 0).then_some(())
    })
    .await;

    let mut dump = dump(&database).await;
    let mut reader = long_reader(&database).await;
    let before = database.number(newest).await;
    within(LONG, "buckets of all classes are made and opened beside them", async || {
        (database.number(newest).await >= before + 30).then_some(())
    })
    .await;
    within(LONG, "a drop waits for them", async || {
        (database.number(dropping).await > 0).then_some(())
    })
    .await;
    let attached = "select count(*) from pg_inherits
        where inhparent = 'postrider.batches'::regclass and not inhdetachpending";
    assert!(database.number(attached).await > 0);
    // Whoever comes new is not held up either.
    let page = clients[1].read("kept", 0, "from=latest").await;
    assert_eq!(page.status, 200);
    let (low, _) = clients[0].watermarks("short", 0).await;
    let last = "select coalesce(max(bucket_id), 0) from postrider.buckets where state = 'dropping'";
    let last = database.number(last).await;
    run(&mut dump, "commit").await;
    run(&mut reader, "commit").await;
    within(LONG, "the drops go on", async || {
        let (now, _) = clients[0].watermarks("short", 0).await;
        let held = format!("{dropping} and bucket_id <= {last}");
        (now > low && database.number(&held).await == 0).then_some(())
    })
    .await;

    let (kept, short) = (kept.stop().await, short.stop().await);
    assert_eq!((&kept.problems, &short.problems), (&Vec::new(), &Vec::new()));
    let longest = kept.longest.max(short.longest);
    println!("{} publishes, the longest {longest:?}", kept.acked.len() + short.acked.len());
    assert!(longest < Duration::from_secs(1), "a publish took {longest:?}");
    assert!(kept.acked.len() > 200, "only {} messages", kept.acked.len());
    kept.holds(&clients[0], "kept", 2).await;
    for node in nodes {
        node.stop().await.expect("stops");
    }
}
