//! How PostgreSQL carries out the statements of the outbox: by which index, with which condition,
//! on empty, full and bloated tables.

use postrider::{
    model::{BucketId, Name, PartitionId, ids::DEFAULT_TENANT, topic::TopicSettings},
    store::{Session, buckets, outbox, topics, wakes},
};
use tracing_subscriber::{layer::SubscriberExt, registry};

use super::plans::{Access, EXPLAIN, Notices, accesses, run};
use crate::support::TestDatabase;

/// The index by which a table may be looked into, and what its condition has to name.
fn wanted(relation: &str) -> Vec<(String, &'static str)> {
    match relation {
        "topics" => vec![
            ("topics_pkey".to_owned(), "topic_id"),
            ("topics_tenant_id_name_key".to_owned(), "name"),
        ],
        "partitions" => vec![
            ("partitions_pkey".to_owned(), "partition_id"),
            ("partitions_owner_id_lane_index_key".to_owned(), "owner_id"),
        ],
        "outbox_cursors" => vec![("outbox_cursors_pkey".to_owned(), "shard")],
        "buckets" => vec![("buckets_pkey".to_owned(), "bucket_id")],
        outbox if outbox.starts_with("outbox_") => vec![
            (format!("{outbox}_xid_outbox_id_idx"), "xid"),
            (format!("{outbox}_outbox_id_idx"), "outbox_id >"),
        ],
        other => vec![(format!("{other}_pkey"), "partition_id")],
    }
}

fn by_key(what: &str, found: &[Access], least: usize) {
    assert!(found.len() >= least, "{what}: only {found:#?}");
    for access in found {
        let is_index = access.node == "Index Scan" || access.node == "Index Only Scan";
        assert!(is_index, "{what}: {access:#?}");
        let is_wanted = |(index, column): (String, &str)| {
            access.index == index && access.condition.contains(column)
        };
        assert!(wanted(&access.relation).into_iter().any(is_wanted), "{what}: {access:#?}");
    }
}

struct Scene {
    database: TestDatabase,
    session: Session,
    notices: Notices,
    bucket: BucketId,
    slot: i64,
    wake: i64,
}

impl Scene {
    async fn new(notices: &Notices) -> Self {
        let database = TestDatabase::new().await;
        let mut session = database.connect().await;
        let name = Name::parse("orders").expect("a name");
        let settings = TopicSettings::default();
        let made = topics::create_committed(&mut session, DEFAULT_TENANT, &name, &settings).await;
        assert!(made.expect("created"));
        let bucket = buckets::newest_open(&mut session, 3).await.expect("asked").expect("open");
        let slot = wakes::open_slot(&mut session, 1).await.expect("opened");
        run(&mut session, EXPLAIN).await;
        Self { database, session, notices: notices.clone(), bucket, slot, wake: 1 }
    }

    fn by_key(&self, what: &str, tables: &str, least: usize) {
        by_key(&format!("{what}, {tables}"), &accesses(&self.notices.take()), least);
    }

    /// One message goes all its way, and an open window is worked through in pages.
    async fn check(&mut self, tables: &str) {
        self.notices.take();
        for _ in 0..5 {
            run(&mut self.session, "select postrider.publish('orders', '1'::jsonb, 'k')").await;
            self.by_key("publish", tables, 1);
        }
        for (rows, left) in [(2, true), (100, true), (100, false)] {
            let step = outbox::next(&mut self.session, 0, rows, 1 << 20).await.expect("read");
            self.by_key("next", tables, 4);
            assert_eq!(step.is_some(), left, "{tables}");
            let Some(step) = step else { break };
            let last = step.messages.last().expect("a message");
            let mut drain = outbox::Drain::default();
            drain.push(self.bucket, PartitionId(1), step.messages.len() as i32, b"x".to_vec());
            let told = (self.slot, self.wake);
            self.wake += 1;
            outbox::append(&mut self.session, 0, step.cursor, last.id, &drain, told)
                .await
                .expect("appended");
            self.by_key("append", tables, 8);
        }
    }

    /// Statements that are not in a function, on tables that are not empty.
    async fn check_plain(&mut self, tables: &str) {
        self.notices.take();
        // More often than a custom plan is made: what is cached counts.
        for _ in 0..7 {
            let found = outbox::destinations(&mut self.session, &[1, 7, 8]).await.expect("read");
            assert_eq!(found.len(), 3);
            self.by_key("destinations", tables, 2);
        }
    }

    /// What is appended already, 300,000 rows in the three tables of the shard.
    async fn fill(&mut self) {
        let rows = "insert into postrider.outbox (place, topic_id, kind, value)
            select n % 3, 1, 1, '1' from generate_series(1, 300000) n;
            insert into postrider.topics (tenant_id, name, partition_count, durability,
              compression, max_message_bytes, keyless)
            select 1, 't' || g, 1, 'local', 'none', 1000, 'sticky'
            from generate_series(1, 100000) g;
            insert into postrider.partitions (tenant_id, owner_id, index, retention_class)
            select 1, topic_id, 0, 3 from postrider.topics where name like 't%';";
        self.database.run(rows).await;
        self.cover().await;
    }

    async fn cover(&self) {
        let covered = "insert into postrider.outbox_cursors (shard, n, seen, after_id, last_id)
            select shard, max(n) + 1, pg_current_snapshot(), 0, 0
            from postrider.outbox_cursors where shard = 0 group by shard";
        self.database.run(covered).await;
    }

    /// Of publishers that rolled back, and cursors that whoever holds a snapshot would keep.
    async fn bloat(&mut self) {
        let undone = "begin;
            insert into postrider.outbox (place, topic_id, kind, value)
            select n % 3, 1, 1, '1' from generate_series(1, 300000) n;
            rollback;
            insert into postrider.outbox_cursors
            select shard, n, pg_current_snapshot(), null, 0, 0
            from generate_series(0, 1) shard, generate_series(-50000, 0) n;
            delete from postrider.outbox_cursors where n <= 0";
        self.database.run(undone).await;
        self.cover().await;
    }

    /// A table is found to be empty, or covered by the cursor, without being read.
    async fn check_empty(&mut self, tables: &str) {
        self.notices.take();
        outbox::empty(&mut self.session, 0).await.expect("emptied");
        let found = accesses(&self.notices.take());
        // Whether there is a row at all ends at the first one.
        let is_first = |access: &Access| {
            access.query.contains("exists (select from postrider.outbox_")
                && !access.query.contains("xid")
        };
        let rest: Vec<Access> = found.into_iter().filter(|access| !is_first(access)).collect();
        by_key(&format!("empty, {tables}"), &rest, 5);
    }
}

const ANALYSE: &str = "analyze postrider.outbox, postrider.outbox_cursors, postrider.topics,
    postrider.partitions";

// On one thread: that is where the subscriber listens.
#[tokio::test]
async fn statements_of_the_outbox_go_by_their_keys_on_empty_full_and_bloated_tables() {
    let notices = Notices::default();
    let subscriber = registry().with(notices.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut scene = Scene::new(&notices).await;
    scene.database.run(ANALYSE).await;
    scene.check("empty").await;
    scene.fill().await;
    scene.check("full, analysed empty").await;
    scene.database.run(ANALYSE).await;
    scene.check("full").await;
    scene.check_plain("full").await;
    scene.bloat().await;
    scene.check("bloated, analysed full").await;
    scene.database.run(ANALYSE).await;
    scene.check("bloated").await;
    scene.check_empty("bloated").await;
}
