//! How PostgreSQL carries out the hot statements, as auto_explain tells it from inside the
//! functions: by which index, with which condition. Tables are empty, full or bloated; the
//! planner's statistics may be of another time.

use std::sync::{Arc, Mutex, PoisonError};

use postrider::{
    model::{BucketId, Name, PartitionId, TopicId, ids::DEFAULT_TENANT},
    store::{
        Session,
        append::{AppendStatement, Flush, Outcome},
        buckets,
        claims::{self, ClaimKey, Claims, MarkKey, RequestKey},
        read::{self, Range},
        retention, topics, wakes,
    },
};
use serde_json::Value;
use sqlx::PgConnection;
use tracing_subscriber::{layer::SubscriberExt, registry};
use uuid::Uuid;

use crate::support::TestDatabase;

/// Keeps the server's notices, which sqlx tells as events.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Notices {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                if field.name() == "message" {
                    value.clone_into(&mut self.0);
                }
            }
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        if text.0.contains("plan:") {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.0);
        }
    }
}

impl Notices {
    /// Every plan since the last call.
    pub fn take(&self) -> Vec<Value> {
        let texts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let plan = |text: &String| {
            let (_, json) = text.split_once("plan:\n").expect("a plan");
            serde_json::from_str(json).unwrap_or_else(|why| panic!("{why}: {json}"))
        };
        texts.iter().map(plan).collect()
    }
}

/// One way in which a table was looked into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    pub node: String,
    pub relation: String,
    pub index: String,
    pub condition: String,
    pub query: String,
}

/// All looks into tables, in every plan and its parts.
pub fn accesses(plans: &[Value]) -> Vec<Access> {
    fn walk(node: &Value, query: &str, found: &mut Vec<Access>) {
        let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
        if node["Relation Name"].is_string() && text("Node Type").contains("Scan") {
            found.push(Access {
                node: text("Node Type"),
                relation: text("Relation Name"),
                index: text("Index Name"),
                condition: text("Index Cond"),
                query: query.to_owned(),
            });
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            walk(child, query, found);
        }
    }
    let mut found = Vec::new();
    for plan in plans {
        walk(&plan["Plan"], plan["Query Text"].as_str().unwrap_or_default(), &mut found);
    }
    found
}

/// The index and the column that its condition has to name, for each table of a hot statement.
fn wanted(relation: &str) -> (String, &'static str) {
    let column = match relation {
        "buckets" => "bucket_id",
        "wakes" | "wake_slots" => "slot",
        "producer_marks" => "owner_id",
        "idempotency_keys" => "tenant_id",
        "topics" => "topic_id",
        _ => "partition_id",
    };
    (format!("{relation}_pkey"), column)
}

/// Every look into a table is by its key.
fn by_key(what: &str, found: &[Access], least: usize) {
    assert!(found.len() >= least, "{what}: only {found:#?}");
    for access in found {
        let (index, column) = wanted(&access.relation);
        let is_index = access.node == "Index Scan" || access.node == "Index Only Scan";
        assert!(is_index, "{what}: {access:#?}");
        assert_eq!(access.index, index, "{what}: {access:#?}");
        assert!(access.condition.contains(column), "{what}: {access:#?}");
    }
}

/// A database with one topic, its open bucket, and a session that explains itself.
struct Scene {
    database: TestDatabase,
    session: Session,
    notices: Notices,
    bucket: BucketId,
    wake: i64,
}

const PARTITIONS: i64 = 1_000;

impl Scene {
    async fn new(notices: &Notices) -> Self {
        let database = TestDatabase::new().await;
        let mut session = database.connect().await;
        let settings = postrider::model::topic::TopicSettings {
            partitions: PARTITIONS as u32,
            // A few rows: each look hides some.
            retention_bytes: Some(3),
            ..Default::default()
        };
        let made = topics::create_committed(&mut session, DEFAULT_TENANT, &name(), &settings).await;
        assert!(made.expect("created"));
        let bucket = buckets::newest_open(&mut session, 3).await.expect("asked").expect("open");
        // Another node's slot, so that there is something to be told.
        let slot = "insert into postrider.nodes (name) values ('a'), ('b');
            insert into postrider.wake_slots (node_id) values (1), (2)";
        run(&mut session, slot).await;
        run(&mut session, EXPLAIN).await;
        Self { database, session, notices: notices.clone(), bucket, wake: 1_000_000 }
    }

    /// Runs every hot statement, and checks how.
    async fn check(&mut self, tables: &str) {
        let session = &mut self.session;
        self.notices.take();
        for ids in [vec![1], (1..=16).collect::<Vec<i64>>(), (1..=PARTITIONS).collect()] {
            self.wake += 1;
            let flush = Flush {
                partitions: &ids,
                counts: &vec![1; ids.len()],
                records: &vec![b"x".to_vec(); ids.len()],
                expects: None,
                claims: None,
                slot: 1,
                wake: self.wake,
            };
            let done = AppendStatement::new(self.bucket).run(session, &flush).await;
            assert_eq!(done.expect("appended").len(), ids.len());
            let what = format!("append to {} partitions, {tables}", ids.len());
            by_key(&what, &accesses(&self.notices.take()), 5);
        }
        let expect = format!(
            "select * from postrider.append_{}(
               array[1], array[1], array['x'::bytea], array[7], 1, {})",
            self.bucket,
            self.wake + 1
        );
        run(session, &expect).await;
        by_key(
            &format!("append with an expectation, {tables}"),
            &accesses(&self.notices.take()),
            7,
        );

        self.claims(tables).await;
        let session = &mut self.session;
        let id = PartitionId(7);
        let range = Range { from_offset: 0, until_offset: 500, max_bytes: 1 << 20 };
        read::bucket_page(session, self.bucket, id, range).await.expect("read");
        by_key(&format!("read, {tables}"), &accesses(&self.notices.take()), 6);
        read::watermarks(session, id).await.expect("read");
        by_key(&format!("watermarks, {tables}"), &accesses(&self.notices.take()), 4);
        read::offset_at(session, id, 2_000_000_000_000).await.expect("read");
        by_key(&format!("offset_at, {tables}"), &accesses(&self.notices.take()), 3);
        self.retained(tables).await;
        self.told(tables).await;
    }

    /// Appends with marks and keys, once anew and once more, when all of them stand.
    async fn claims(&mut self, tables: &str) {
        let session = &mut self.session;
        let mut claims = Claims::default();
        let mut keys = Vec::new();
        for sequence in 1..=16 {
            let (owner, sequence) = (TopicId(self.wake), sequence / 4);
            let producer = Uuid::from_u128(sequence as u128 % 4);
            keys.push(ClaimKey::Mark(MarkKey { owner, producer, sequence }));
        }
        let scope = self.wake.to_string();
        for key in ["a", "b"].map(str::to_owned) {
            let (tenant, scope) = (DEFAULT_TENANT, scope.clone());
            keys.push(ClaimKey::Request(RequestKey { tenant, scope, key }));
        }
        keys.sort();
        keys.dedup();
        for key in &keys {
            claims.push(key, [7; 16], &[1, 0, 1, 0, 0, 0], std::iter::once((1, 0)));
        }
        for again in [false, true] {
            self.wake += 1;
            let flush = Flush {
                partitions: &[1],
                counts: &[18],
                records: &[b"x".to_vec()],
                expects: None,
                claims: Some(&claims),
                slot: 1,
                wake: self.wake,
            };
            let done = AppendStatement::new(self.bucket).run(session, &flush).await;
            let done = done.expect("asked");
            let stood = done.iter().filter(|(_, o)| matches!(o, Outcome::Claimed(_))).count();
            assert_eq!(stood, if again { keys.len() } else { 0 }, "{done:?}");
            let what = format!("append with claims, again: {again}, {tables}");
            by_key(&what, &accesses(&self.notices.take()), if again { 6 } else { 8 });
        }
        for key in [&keys[0], &keys[keys.len() - 1]] {
            assert!(claims::find(session, key).await.expect("read").is_some());
            by_key(&format!("claim, {tables}"), &accesses(&self.notices.take()), 1);
        }
        claims::prune_marks(session, Some((self.wake - 3, Uuid::nil())), 3).await.expect("pruned");
        by_key(&format!("prune_marks, {tables}"), &accesses(&self.notices.take()), 3);
        claims::prune_keys(session, 0, 8).await.expect("pruned");
        let found = accesses(&self.notices.take());
        let is_small = tables.ends_with("empty");
        assert!(is_small || found[0].node == "Tid Range Scan", "{tables}: {found:#?}");
    }

    /// What is beyond a limit is found, hidden and removed by key, however long the log is.
    async fn retained(&mut self, tables: &str) {
        let session = &mut self.session;
        run(session, "select postrider.offset_of_bytes(7, 30)").await;
        by_key(&format!("offset_of_bytes, {tables}"), &accesses(&self.notices.take()), 3);
        let found = retention::retain(session, &[7]).await.expect("looked");
        assert!(found[0].by_bytes, "{found:?}");
        by_key(&format!("retain, {tables}"), &accesses(&self.notices.take()), 8);
        retention::purge(session, PartitionId(7), 0, 10).await.expect("removed");
        by_key(&format!("purge, {tables}"), &accesses(&self.notices.take()), 6);
    }

    /// What other nodes appended: one look by key for each slot, however many wakes there are.
    async fn told(&mut self, tables: &str) {
        let seen: Vec<(i64, i64)> = vec![(1, self.wake - 2), (2, 0)];
        wakes::since(&mut self.session, 2, &seen).await.expect("read");
        let found = accesses(&self.notices.take());
        let of_wakes: Vec<Access> =
            found.iter().filter(|access| access.relation == "wakes").cloned().collect();
        by_key(&format!("wakes_since, {tables}"), &of_wakes, 1);
        assert!(of_wakes[0].condition.contains("n >"), "{of_wakes:#?}");
    }

    /// Statements that are not in a function, on tables that are not empty.
    async fn check_plain(&mut self, tables: &str) {
        let session = &mut self.session;
        self.notices.take();
        wakes::positions(session).await.expect("read");
        let found = accesses(&self.notices.take());
        let of_wakes: Vec<Access> =
            found.iter().filter(|access| access.relation == "wakes").cloned().collect();
        by_key(&format!("wakes positions, {tables}"), &of_wakes, 1);
        // More often than a custom plan is made: what is cached counts.
        for _ in 0..7 {
            read::segments(session, PartitionId(7)).await.expect("read");
            by_key(&format!("segments, {tables}"), &accesses(&self.notices.take()), 1);
            buckets::newest_open(session, 3).await.expect("read");
            topics::find(session, DEFAULT_TENANT, &name()).await.expect("read");
            let found = accesses(&self.notices.take());
            let of = |relation: &str| found.iter().find(|access| access.relation == relation);
            let topic = of("topics").expect("a look into topics");
            assert_eq!(topic.index, "topics_tenant_id_name_key", "{tables}: {topic:#?}");
            let partitions = of("partitions").expect("a look into partitions");
            let index = "partitions_owner_id_lane_index_key";
            assert_eq!(partitions.index, index, "{tables}: {partitions:#?}");
        }
    }

    async fn run(&mut self, sql: &str) {
        self.database.run(sql).await;
    }

    /// 100,000 rows and more in each table.
    async fn fill(&mut self) {
        let bucket = self.bucket;
        let sql = format!(
            "insert into postrider.topics (tenant_id, name, partition_count, retention_ms,
               durability, compression, max_message_bytes, keyless)
             select 1, 't' || g, 1, 1000000000, 'local', 'none', 1000, 'sticky'
             from generate_series(1, 100000) g;
             insert into postrider.partitions (tenant_id, owner_id, index, retention_class)
             select 1, topic_id, 0, 3 from postrider.topics where name like 't%';
             insert into postrider.segments
               (partition_id, first_offset, end_offset, bucket_id, retention_class, first_bytes,
                first_at, end_bytes, end_at)
             select p, 0, case when p > {PARTITIONS} then 1 end, {bucket}, 3, 0, now(),
               case when p > {PARTITIONS} then 1 end, now()
             from generate_series(1, 120000) p on conflict do nothing;
             insert into postrider.batches_{bucket}
             select {bucket}, p, o, o, o, now(), 'x'
             from generate_series(1, {PARTITIONS}) p, generate_series(100, 299) o;
             insert into postrider.partition_lows
             select p, o from generate_series(1, 1000) p, generate_series(-100, 0) o;
             insert into postrider.wakes
             select slot, n, array[1, 2, 3] from generate_series(1, 2) slot,
               generate_series(1, 100000) n on conflict do nothing;
             insert into postrider.producer_marks
               (owner_id, producer_id, sequence, body_hash, results, layout)
             select o, gen_random_uuid(), s, 'x', '{{1}}', 'x'
             from generate_series(1, 2000) o, generate_series(1, 50) s;
             insert into postrider.idempotency_keys
               (tenant_id, scope, idempotency_key, body_hash, status, answer)
             select 1, 's', gen_random_uuid()::text, 'x', 200, 'x'
             from generate_series(1, 100000)"
        );
        self.run(&sql).await;
    }

    /// Nine of ten rows die and stay: whoever holds a snapshot would have it so.
    async fn bloat(&mut self) {
        let bucket = self.bucket;
        let sql = format!(
            "update postrider.segments set end_at = end_at;
             update postrider.partitions set tenant_id = tenant_id;
             delete from postrider.segments where partition_id > 10000;
             delete from postrider.wakes where n % 10 <> 0 and n < 100000;
             delete from postrider.partition_lows where low_offset < -10;
             delete from postrider.producer_marks where sequence > 5;
             delete from postrider.idempotency_keys where idempotency_key < 'e';
             delete from postrider.batches_{bucket} where base_offset < 280 and partition_id > 100"
        );
        self.run(&sql).await;
    }
}

/// Makes a session tell how it carries out what follows.
pub const EXPLAIN: &str = "load 'auto_explain'; set auto_explain.log_min_duration = 0;
    set auto_explain.log_nested_statements = on; set auto_explain.log_format = json;
    set auto_explain.log_level = notice; set client_min_messages = notice";

fn name() -> Name {
    Name::parse("explained").expect("a name")
}

pub async fn run(session: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(session).await;
    done.unwrap_or_else(|why| panic!("{sql}: {why}"));
}

const ANALYSE: &str = "analyze postrider.topics, postrider.partitions, postrider.segments,
    postrider.wakes, postrider.wake_slots, postrider.partition_lows, postrider.buckets,
    postrider.batches, postrider.producer_marks, postrider.idempotency_keys";

// On one thread: that is where the subscriber listens.
#[tokio::test]
async fn hot_statements_go_by_their_keys_on_empty_full_and_bloated_tables() {
    let notices = Notices::default();
    let subscriber = registry().with(notices.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut scene = Scene::new(&notices).await;
    scene.run(ANALYSE).await;
    scene.check("empty").await;
    scene.check("nearly empty").await;
    // The plans of this session were made for empty tables, and so were the statistics.
    scene.fill().await;
    scene.check("full, analysed empty").await;
    scene.run(ANALYSE).await;
    scene.check("full").await;
    scene.check_plain("full").await;
    scene.bloat().await;
    scene.check("bloated, analysed full").await;
    scene.run(ANALYSE).await;
    scene.check("bloated").await;
    scene.check_plain("bloated").await;
}
