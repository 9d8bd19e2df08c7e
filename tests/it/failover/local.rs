//! What a failover does to a `local` topic, and that its readers are told.

use std::time::{Duration, Instant};

use postrider::lifecycle::Lifecycle;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{high, node_on};
use crate::support::{Answer, Client, Pair, eventually};

async fn publish(client: &Client, topic: &str, value: u32) -> Option<i64> {
    let body = json!({"messages": [{"value": value}]});
    let path = format!("/v1/topics/{topic}/messages");
    let request = client.request(reqwest::Method::POST, &path).json(&body);
    let answer = client.try_send(request).await.filter(|answer| answer.status == 200)?;
    answer.value()["results"][0]["offset"].as_i64()
}

async fn values(client: &Client, topic: &str, query: &str) -> (Vec<u64>, String) {
    let page = client.read(topic, 0, query).await.ok();
    let messages = page["messages"].as_array().expect("messages");
    let values = messages.iter().map(|message| message["value"].as_u64().expect("a number"));
    (values.collect(), page["log"].as_str().expect("a log").to_owned())
}

/// A read that waits, asked again where a node says that there is no database.
fn park(client: &Client, topic: &'static str, query: String) -> JoinHandle<Answer> {
    let client = client.clone();
    Lifecycle::new().spawn(async move {
        for _ in 0..600 {
            let answer = client.read(topic, 0, &query).await;
            if answer.status != 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("there is no database for too long");
    })
}

/// A local topic loses its end, and grows again with other messages.
#[tokio::test(flavor = "multi_thread")]
async fn kill_readers_of_a_local_topic_are_told_of_a_failover() {
    let mut pair = Pair::start().await;
    let node = node_on(&pair).await;
    let client = node.client();
    client.put_topic("local", json!({"partitions": 1})).await;
    client.put_topic("both", json!({"partitions": 1, "durability": "replicated"})).await;
    for value in 0..5 {
        assert_eq!(publish(&client, "local", value).await, Some(i64::from(value)));
        // Commits wait for the standby's disk, so that it has all of the local ones before too.
        assert_eq!(publish(&client, "both", value).await, Some(i64::from(value)));
    }
    pair.cut_standby().await;
    for value in 5..10 {
        assert_eq!(publish(&client, "local", value).await, Some(i64::from(value)));
    }
    let (read, local) = values(&client, "local", "from=0").await;
    assert_eq!(read, (0..10).collect::<Vec<_>>());
    let (_, both) = values(&client, "both", "from=0").await;
    let parked = park(&client, "local", format!("from=10&wait=30s&log={local}"));
    let parked_both = park(&client, "both", "from=5&wait=30s".to_owned());

    pair.kill_primary();
    pair.promote().await;
    // Told at once, though nothing was appended.
    parked.await.expect("no panic").problem(409, "log_truncated", "none");
    eventually("the node is back", async || {
        (client.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    let problem = client.read("local", 0, "from=10").await;
    let problem = problem.problem(422, "offset_out_of_range", "none");
    assert_eq!(problem["high_watermark"], 5, "{problem}");
    for value in 105..111 {
        eventually("local is published", async || publish(&client, "local", value).await).await;
    }
    // Offsets that mean other messages now: whoever says what it read before is told.
    let stale = client.read("local", 0, &format!("from=10&log={local}")).await;
    let problem = stale.problem(409, "log_truncated", "none");
    let now = problem["log"].as_str().expect("a log");
    assert_ne!(now, local);
    assert_eq!(values(&client, "local", &format!("from=5&log={now}")).await.0.len(), 6);
    // What is replicated goes on as if nothing had been.
    pair.follow().await;
    let offset = eventually("both is published", async || publish(&client, "both", 5).await).await;
    assert_eq!(offset, 5);
    assert_eq!(parked_both.await.expect("no panic").ok()["messages"][0]["value"], 5);
    let (read, _) = values(&client, "both", &format!("from=0&log={both}")).await;
    assert_eq!(read, (0..6).collect::<Vec<_>>());
    for wrong in ["x", "1-l-7", "1"] {
        let answer = client.read("both", 0, &format!("from=0&log={wrong}")).await;
        assert_eq!(answer.problem(422, "invalid", "none")["errors"][0]["pointer"], "?log");
    }
    node.stop().await.expect("stops");
}

/// A primary that neither answers nor dies is left; when it wakes up, nobody goes back.
#[tokio::test(flavor = "multi_thread")]
async fn kill_a_primary_that_says_nothing_is_left_for_good() {
    let mut pair = Pair::start().await;
    let node = node_on(&pair).await;
    let client = node.client();
    client.put_topic("local", json!({"partitions": 1})).await;
    client.put_topic("both", json!({"partitions": 1, "durability": "replicated"})).await;
    publish(&client, "local", 0).await.expect("published");
    publish(&client, "both", 0).await.expect("published");
    pair.signal_primary(Signal::STOP);
    // Every way into the database is blocked by the silence.
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            Lifecycle::new().spawn(async move { client.read("local", 0, "from=0").await.status })
        })
        .collect();
    let lost = publish(&client, "local", 1).await;
    assert_eq!(lost, None, "nobody can know");
    pair.promote().await;
    let promoted = Instant::now();
    eventually("local is published", async || publish(&client, "local", 2).await).await;
    let back = promoted.elapsed();
    println!("published {back:?} after the promotion");
    assert!(back < Duration::from_secs(10), "{back:?}");
    for read in reads {
        assert!([200, 503].contains(&read.await.expect("no panic")));
    }
    assert_eq!(values(&client, "local", "from=0").await.0.last(), Some(&2));
    let sql = "select count(*) from pg_stat_activity where application_name = 'postrider/duty'";
    eventually("duties are done here", async || (pair.number(sql).await >= 3).then_some(())).await;

    // The old one wakes up and would take writes; to a node it is left behind.
    pair.wake_old_primary();
    for value in 3..20 {
        let offset = publish(&client, "local", value).await.expect("published");
        assert_eq!(high(&client, "local").await, Value::from(offset + 1));
    }
    // It still gets what was on its way, which nobody was told of.
    let sql = "select coalesce(max(b.last_offset), 0) from postrider.batches b
        join postrider.partitions p using (partition_id)
        join postrider.topics t on t.topic_id = p.owner_id where t.name = 'local'";
    assert!(pair.old_number(sql).await <= 1, "something went to the old primary");
    assert!(pair.number(sql).await >= 17);
    node.stop().await.expect("stops");
}
