//! Old marks and keys go by themselves, and only those that nobody can ask for.

use postrider::store::claims;
use sqlx::{Connection, Executor, Row};
use uuid::Uuid;

use crate::support::{Node, TestDatabase, eventually};

/// Marks of producer `producer` from `from` to `to`, made so many hours ago.
fn marks(producer: u128, (from, to): (i64, i64), hours: f64) -> String {
    let producer = Uuid::from_u128(producer);
    format!(
        "insert into postrider.producer_marks
           (owner_id, producer_id, sequence, body_hash, layout, results, made_at)
         select 1, '{producer}', s, '', '', '{{}}', clock_timestamp() - interval '{hours} hours'
         from generate_series({from}, {to}) s;"
    )
}

/// Of each producer how many marks there are, and the lowest.
async fn left(database: &TestDatabase) -> Vec<(u128, i64, i64)> {
    let sql = "select producer_id, count(*), min(sequence) from postrider.producer_marks
        group by 1 order by 1";
    let rows = database.rows(sql).await;
    let number = |row: &sqlx::postgres::PgRow, at| row.try_get::<i64, _>(at).expect("a bigint");
    let id = |row: &sqlx::postgres::PgRow| row.try_get::<Uuid, _>(0).expect("a uuid").as_u128();
    rows.iter().map(|row| (id(row), number(row, 1), number(row, 2))).collect()
}

async fn fill(database: &TestDatabase) {
    let all = [
        // Busy: only the window is left, however young the others are.
        marks(1, (1, 1_000), 0.0),
        // Slow: old marks stay while the newest of the window is young.
        marks(2, (1, 70), 30.0) + &marks(2, (71, 71), 1.0),
        // Silent for a day: all of them go, in the window or not.
        marks(3, (1, 100), 24.1),
        // Silent, but not for a day yet.
        marks(4, (10, 20), 23.9),
        // Went back: the youngest is not the newest.
        marks(5, (100, 110), 50.0) + &marks(5, (90, 90), 1.0),
    ];
    database.run(&all.concat()).await;
    let keys = "insert into postrider.idempotency_keys
          (tenant_id, scope, idempotency_key, body_hash, status, answer, made_at)
        select 1, 's', n::text, '', 200, repeat('x', 200)::bytea,
          clock_timestamp() - interval '1 hour' * (case when n % 2 = 0 then 24.1 else 23.9 end)
        from generate_series(1, 2000) n";
    database.run(keys).await;
}

const KEPT: [(u128, i64, i64); 4] = [(1, 64, 937), (2, 64, 8), (4, 11, 10), (5, 12, 90)];

#[tokio::test(flavor = "multi_thread")]
async fn marks_go_below_the_window_or_after_a_day_and_keys_after_a_day() {
    let database = TestDatabase::new().await;
    fill(&database).await;
    let mut session = database.connect().await;
    let mut after = None;
    let mut rounds = 0;
    loop {
        after = claims::prune_marks(&mut session, after, 2).await.expect("pruned");
        rounds += 1;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(rounds, 3, "two producers a round");
    assert_eq!(left(&database).await, KEPT);
    let (mut block, mut rounds) = (0, 0);
    loop {
        block = claims::prune_keys(&mut session, block, 4).await.expect("pruned");
        rounds += 1;
        if block == 0 {
            break;
        }
    }
    assert!(rounds > 5, "only {rounds} rounds over the table");
    let kept = "select count(*) from postrider.idempotency_keys";
    assert_eq!(database.number(kept).await, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_prunes_by_itself() {
    let database = TestDatabase::new().await;
    fill(&database).await;
    let node = Node::on(&database).await;
    eventually("old marks and keys are gone", async || {
        let keys = database.number("select count(*) from postrider.idempotency_keys").await;
        (left(&database).await == KEPT && keys == 1_000).then_some(())
    })
    .await;
    node.stop().await.expect("stops");
}

/// What pruning waits for: the oldest snapshot has one name while it is held, whatever else
/// commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_snapshot_is_a_horizon_that_stands_still() {
    let database = TestDatabase::new().await;
    let mut holder = database.connect().await;
    let mut held = holder.begin().await.expect("begins");
    held.execute("set transaction isolation level repeatable read").await.expect("set");
    held.execute("select from postrider.topics").await.expect("a snapshot");
    let mut session = database.connect().await;
    let first = claims::horizon(&mut session).await.expect("asked").expect("somebody's");
    for hours in [1.0, 2.0, 3.0] {
        database.run(&marks(hours as u128, (1, 1), hours)).await;
        assert_eq!(claims::horizon(&mut session).await.expect("asked"), Some(first.clone()));
    }
    held.rollback().await.expect("lets go");
    eventually("the horizon moves", async || {
        let now = claims::horizon(&mut session).await.expect("asked");
        (now.as_ref() != Some(&first)).then_some(())
    })
    .await;
}
