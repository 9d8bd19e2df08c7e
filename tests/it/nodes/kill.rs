//! Sessions that carry word between nodes are killed, again and again.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use postrider::lifecycle::Lifecycle;
use serde_json::json;

use super::{median, metric};
use crate::support::{Client, TestDatabase, TwoNodes, eventually, is_long};

const ROUNDS: u32 = 5;
const KILL_EVERY: Duration = Duration::from_secs(2);
/// A look that was not hastened, on a busy machine.
const LATE: Duration = Duration::from_secs(2);

const SESSIONS: &str = "from pg_stat_activity where datname = current_database()
    and application_name in ('postrider/notify', 'postrider/listen')";

/// Ends the sessions every two seconds, so many times; returns how many it ended. It counts rounds
/// and no time: a machine that stands still for a while must not end it early.
async fn kill(database: &TestDatabase, rounds: u32) -> i64 {
    let mut session = database.connect().await;
    let sql = format!("select count(pg_terminate_backend(pid)) {SESSIONS}");
    let mut killed = 0;
    for _ in 0..rounds {
        let query = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql.clone()));
        killed += query.fetch_one(&mut session).await.expect("killed");
        tokio::time::sleep(KILL_EVERY).await;
    }
    killed
}

/// Publishes a number every now and then; notes when each was acknowledged.
async fn publish(client: &Client, acknowledged: &mut Vec<Instant>) {
    loop {
        client.publish("orders", json!([{"value": acknowledged.len()}])).await;
        acknowledged.push(Instant::now());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads on and on; returns when each offset came.
async fn follow(client: Client, count: impl Fn() -> Option<usize>) -> Vec<Instant> {
    let mut came = Vec::new();
    while count().is_none_or(|count| came.len() < count) {
        let page = client.read("orders", 0, &format!("from={}&wait=1s", came.len())).await.ok();
        let now = Instant::now();
        for message in page["messages"].as_array().expect("messages") {
            assert_eq!(message["offset"], came.len(), "a gap or a repeat");
            assert_eq!(message["value"], came.len());
            came.push(now);
        }
    }
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_the_listeners_every_2_s_and_nothing_is_lost() {
    let pair = TwoNodes::new().await;
    let [a, b] = pair.clients.clone();
    a.put_topic("orders", json!({"partitions": 1})).await;
    let published = Arc::new(OnceLock::new());
    let done = Arc::clone(&published);
    let reader = Lifecycle::new().spawn(follow(b.clone(), move || done.get().copied()));
    let mut acknowledged = Vec::new();
    let killed = tokio::select! {
        killed = kill(&pair.database, if is_long() { 60 } else { ROUNDS }) => killed,
        () = publish(&a, &mut acknowledged) => unreachable!("it goes on for ever"),
    };
    // One may have been under way, and is there or not.
    let under_way = a.watermarks("orders", 0).await.1 as usize - acknowledged.len();
    assert!(under_way <= 1, "{under_way}");
    published.set(acknowledged.len()).expect("once");
    let came = reader.await.expect("no panic");
    let lateness =
        |(came, acknowledged): (&Instant, &Instant)| came.saturating_duration_since(*acknowledged);
    let times: Vec<Duration> = came.iter().zip(&acknowledged).map(lateness).collect();
    let late = times.iter().filter(|time| **time > LATE).count();
    let typical = median(times);
    println!("{killed} killed, {} messages, {typical:?}, {late} late", came.len());
    assert!(killed >= i64::from(2 * ROUNDS), "{killed}");
    // While the machine stands still, what is under way is late.
    assert!(late <= 2, "{late} of {} came after {LATE:?}", came.len());
    assert!(typical < Duration::from_millis(60), "{typical:?}");
    eventually("both listen again", async || {
        let listeners = "select count(*) from pg_stat_activity
            where datname = current_database() and application_name = 'postrider/listen'";
        (pair.database.number(listeners).await == 2).then_some(())
    })
    .await;
    assert!(metric("postrider_notifications_heard_total") > 0.0);
    pair.stop().await;
}
