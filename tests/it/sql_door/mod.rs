//! The door from SQL: publishing in one's own transaction, and reading the log with psql.

mod kill;
mod messages;
mod order;
mod publish;

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::{Client, eventually};

/// Runs statements.
async fn run(session: &mut PgConnection, sql: &str) {
    let done = try_run(session, sql).await;
    done.unwrap_or_else(|why| panic!("{sql}: {why}"));
}

async fn try_run(session: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(session).await.map(|_| ())
}

/// The messages of partition 0, when there are so many.
async fn arrive(client: &Client, topic: &str, count: i64) -> Vec<Value> {
    eventually(&format!("{count} messages in {topic}"), async || {
        let (_, high) = client.watermarks(topic, 0).await;
        assert!(high <= count, "{high} messages of {count}");
        (high == count).then_some(())
    })
    .await;
    client.read_all(topic, 0).await
}
