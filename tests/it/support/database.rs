//! A database for one test: a copy of the migrated one, dropped with the test.

use std::sync::atomic::{AtomicU32, Ordering};

use postrider::store::{self, connect::Target};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::server::{self, TEMPLATE};

/// A database of one's own on the shared server.
pub struct TestDatabase {
    name: String,
    url: String,
}

impl TestDatabase {
    /// One with the schema and an open bucket of every class.
    pub async fn new() -> Self {
        Self::copy_of(TEMPLATE).await
    }

    /// One without anything in it.
    pub async fn empty() -> Self {
        Self::copy_of("template1").await
    }

    /// One with the schema and without buckets, each of which will take in only `window`.
    pub async fn with_windows(window: &str) -> Self {
        let database = Self::empty().await;
        store::migrate::run(&mut database.connect().await).await.expect("migrated");
        let sql = "update postrider.retention_classes set bucket_window = interval '{}'";
        database.run(&sql.replace("{}", window)).await;
        database
    }

    async fn copy_of(template: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let shared = tokio::task::spawn_blocking(server::shared).await.expect("a server");
        let mut session = server::connect(&shared.url_of("postgres")).await;
        // A number of an earlier process comes again some day.
        server::run(&mut session, &format!("drop database if exists {name} with (force)")).await;
        server::run(&mut session, &format!("create database {name} template {template}")).await;
        Self { url: shared.url_of(&name), name }
    }

    /// Where it is, for [`postrider::store`].
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same as a parsed target.
    pub fn target(&self) -> Target {
        Target::parse(&self.url).expect("a URL")
    }

    /// A session of the test's own.
    pub async fn connect(&self) -> PgConnection {
        server::connect(&self.url).await
    }

    /// Runs statements in a session of their own.
    pub async fn run(&self, sql: &str) {
        server::run(&mut self.connect().await, sql).await;
    }

    /// The rows of a query.
    pub async fn rows(&self, sql: &str) -> Vec<PgRow> {
        let query = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()));
        let rows = query.fetch_all(&mut self.connect().await).await;
        rows.unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    /// The only value of the only row, a bigint.
    pub async fn number(&self, sql: &str) -> i64 {
        self.rows(sql).await[0].try_get(0).expect("a bigint")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (url, name) = (server::shared().url_of("postgres"), self.name.clone());
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let sql = format!("drop database if exists {name} with (force)");
                server::run(&mut server::connect(&url).await, &sql).await;
            });
        });
        if dropping.join().is_err() && !std::thread::panicking() {
            panic!("{} was not dropped", self.name);
        }
    }
}
