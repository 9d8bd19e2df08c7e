//! Topics whose messages a synchronous standby holds before anybody reads them.

use rustix::process::Signal;
use serde_json::json;
use sqlx::PgConnection;

use super::{arrive, run};
use crate::support::{Node, Pair};

/// Publishes to both; the publisher's own commits wait for nobody.
async fn publish(session: &mut PgConnection, text: &str) {
    let sql = format!(
        "set synchronous_commit = local;
         select postrider.publish('both', '{text}', 'k'), postrider.publish('local', '{text}', 'k')"
    );
    run(session, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_standby_that_is_away_holds_up_replicated_topics_only() {
    let pair = Pair::start().await;
    let node = Node::start(&pair.url(), postrider::model::Clock::default()).await;
    node.is_ready().await;
    let client = node.client();
    client.put_topic("local", json!({"partitions": 1})).await;
    client.put_topic("both", json!({"partitions": 1, "durability": "replicated"})).await;
    let mut session = pair.session().await;
    publish(&mut session, "first").await;
    arrive(&client, "both", 1).await;
    pair.signal_standby(Signal::STOP);
    for n in 0..3 {
        publish(&mut session, &format!("without {n}")).await;
        assert_eq!(arrive(&client, "local", n + 2).await.len() as i64, n + 2);
        // What the standby may not have is read by nobody.
        assert_eq!(client.watermarks("both", 0).await, (0, 1));
    }
    pair.signal_standby(Signal::CONT);
    let texts: Vec<String> = arrive(&client, "both", 4)
        .await
        .iter()
        .map(|message| message["value_text"].as_str().expect("text").to_owned())
        .collect();
    assert_eq!(texts, ["first", "without 0", "without 1", "without 2"]);
    node.stop().await.expect("stops");
}
