//! How PostgreSQL carries out the hot statements of groups: by which index, with which condition,
//! on empty, full and bloated tables.

use std::time::Duration;

use postrider::{
    model::{GroupId, PartitionId, ids::DEFAULT_TENANT},
    store::{
        Session, StoreError,
        claims::RequestKey,
        groups,
        once::{self, Keyed, Once, Request},
    },
};
use tracing_subscriber::{layer::SubscriberExt, registry};

use super::plans::{Access, EXPLAIN, Notices, accesses, run};
use crate::support::TestDatabase;

/// The index by which each table may be looked into, and what its condition has to name.
const WANTED: [(&str, &str, &str); 10] = [
    ("assignments", "assignments_pkey", "group_id"),
    ("assignments", "assignments_group_id_member_id_idx", "group_id"),
    ("assignments", "assignments_revoke_deadline_idx", ""),
    ("assignments", "assignments_astray_idx", ""),
    ("group_offsets", "group_offsets_pkey", "group_id"),
    ("group_members", "group_members_pkey", "group_id"),
    ("groups", "groups_pkey", "group_id"),
    ("member_heartbeats", "member_heartbeats_pkey", "member_number"),
    ("catalog_changes", "catalog_changes_pkey", ""),
    ("idempotency_keys", "idempotency_keys_pkey", "tenant_id"),
];

/// What `groups_due` reads whole, by intent: a narrow row for each member, one for each group.
const WHOLE: [&str; 2] = ["member_heartbeats", "groups"];

fn check(what: &str, found: &[Access], least: usize, may_be_whole: bool) {
    assert!(found.len() >= least, "{what}: only {found:#?}");
    for access in found {
        let is_whole = access.node == "Seq Scan" || access.condition.is_empty();
        if may_be_whole && is_whole && WHOLE.contains(&&*access.relation) {
            continue;
        }
        let is_index = access.node == "Index Scan" || access.node == "Index Only Scan";
        assert!(is_index, "{what}: {access:#?}");
        let wanted = |(relation, index, column): &(&str, &str, &str)| {
            access.relation == *relation
                && access.index == *index
                && access.condition.contains(column)
        };
        let is_other = !WANTED.iter().any(|(relation, ..)| access.relation == *relation);
        assert!(is_other || WANTED.iter().any(wanted), "{what}: {access:#?}");
    }
}

struct Scene {
    database: TestDatabase,
    session: Session,
    notices: Notices,
    next_offset: i64,
    epoch: i64,
    next_group: i64,
}

impl Scene {
    /// Runs every hot statement, and checks how.
    async fn check(&mut self, tables: &str) {
        let session = &mut self.session;
        self.notices.take();
        self.next_offset += 1;
        let next_offset = self.next_offset;
        groups::check(session, GroupId(7), "m3").await.expect("read");
        check(&format!("check, {tables}"), &accesses(&self.notices.take()), 3, false);
        let epoch = self.epoch;
        let entry = |partition: i64| groups::Commit {
            partition: PartitionId(partition),
            epoch,
            next_offset,
            is_vouched: true,
        };
        let entries: Vec<groups::Commit> = (1..=16).map(entry).collect();
        let done = groups::commit(session, GroupId(7), &entries).await.expect("done");
        assert!(done.iter().all(|one| *one == groups::Committed::Stands), "{done:?}");
        check(&format!("commit, {tables}"), &accesses(&self.notices.take()), 32, false);
        let heard: Vec<(i64, Duration)> =
            (1..=1_000).map(|number| (number, Duration::ZERO)).collect();
        for some in [&heard[..1], &heard] {
            groups::beat(session, some).await.expect("done");
            check(&format!("beat, {tables}"), &accesses(&self.notices.take()), 3, false);
        }
        let known: Vec<(GroupId, i64)> = (1..=100).map(|group| (GroupId(group), 0)).collect();
        groups::versions(session, known.into_iter()).await.expect("read");
        check(&format!("versions, {tables}"), &accesses(&self.notices.take()), 1, false);
        groups::view(session, GroupId(7)).await.expect("read");
        check(&format!("view, {tables}"), &accesses(&self.notices.take()), 1, false);
        groups::due(session, Duration::from_secs(60)).await.expect("read");
        check(&format!("due, {tables}"), &accesses(&self.notices.take()), 4, true);
        self.keyed(tables).await;
    }

    /// Keys of requests are found by their key, and those of a group that goes by its name.
    async fn keyed(&mut self, tables: &str) {
        self.next_group += 1;
        let group = GroupId(self.next_group);
        let key = RequestKey {
            tenant: DEFAULT_TENANT,
            scope: format!("POST /groups/g{}/pause", group.0),
            key: "k".to_owned(),
        };
        let answer = Box::new(|_: &bool| (204, Vec::new()));
        let keyed = Keyed { request: Request { key, hash: [7; 16] }, answer };
        let paused: Result<_, StoreError> =
            once::committed(&mut self.session, Some(keyed), async |session| {
                groups::set_paused(session, group, true).await
            })
            .await;
        assert!(matches!(paused, Ok(Once::Done(true))), "{paused:?}");
        let of_keys = |found: Vec<Access>| -> Vec<Access> {
            found.into_iter().filter(|access| access.relation == "idempotency_keys").collect()
        };
        let found = of_keys(accesses(&self.notices.take()));
        check(&format!("keyed, {tables}"), &found, 1, false);
        assert!(groups::delete(&mut self.session, group).await.expect("deleted"));
        let found = of_keys(accesses(&self.notices.take()));
        check(&format!("delete, {tables}"), &found, 1, false);
        assert!(found[0].condition.contains("scope"), "{found:#?}");
    }

    /// 2,000 groups of 50 members and 50 partitions, with 100 commits each in some.
    async fn fill(&self) {
        self.database
            .run(
                "insert into postrider.groups (tenant_id, name, start, start_upto, catalog_seen)
                 select 1, 'g' || g, 'earliest', 0, 1000000 from generate_series(1, 2000) g;
                 insert into postrider.group_members
                   (group_id, member_id, tenant_id, generation, patterns, session_timeout_ms)
                 select g, 'm' || m, 1, 1, '{a}', 600000
                 from generate_series(1, 2000) g, generate_series(1, 50) m;
                 insert into postrider.member_heartbeats
                 select member_number, 1, group_id, 600000, now() from postrider.group_members;
                 insert into postrider.assignments (group_id, partition_id, tenant_id, topic,
                   index, member_id, target_id, epoch, log_incarnation)
                 select g, p, 1, 't', p, 'm' || p, 'm' || p, 1, postrider.log_incarnation()
                 from generate_series(1, 2000) g, generate_series(1, 50) p;
                 insert into postrider.group_offsets
                 select p, g, 1, o, 1 from generate_series(1, 50) p, generate_series(1, 40) g,
                   generate_series(0, 99) o;
                 insert into postrider.idempotency_keys
                   (tenant_id, scope, idempotency_key, body_hash, status, answer)
                 select 1, 'POST /groups/g' || n % 2000 || '/seek', n, 'x', 200, 'x'
                 from generate_series(1, 100000) n;",
            )
            .await;
    }

    /// Most rows die and stay: whoever holds a snapshot would have it so.
    async fn bloat(&mut self) {
        self.epoch += 1;
        self.database
            .run(
                "update postrider.member_heartbeats set seen_at = seen_at;
                 update postrider.member_heartbeats set seen_at = seen_at;
                 update postrider.assignments set epoch = epoch + 1;
                 update postrider.groups set version = version + 1;
                 delete from postrider.group_offsets where next_offset < 99;
                 delete from postrider.idempotency_keys where idempotency_key > '2';",
            )
            .await;
    }
}

const ANALYSE: &str = "analyze postrider.groups, postrider.group_members,
    postrider.member_heartbeats, postrider.assignments, postrider.group_offsets,
    postrider.catalog_changes, postrider.idempotency_keys";

// On one thread: that is where the subscriber listens.
#[tokio::test]
async fn hot_statements_of_groups_go_by_their_keys_on_empty_full_and_bloated_tables() {
    let notices = Notices::default();
    let subscriber = registry().with(notices.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let database = TestDatabase::new().await;
    let mut session = database.connect().await;
    run(&mut session, EXPLAIN).await;
    let mut scene =
        Scene { database, session, notices, next_offset: 900_000, epoch: 1, next_group: 1_000 };
    scene.database.run(ANALYSE).await;
    // Nothing is there: only that the plans of this session are made for empty tables.
    for _ in 0..3 {
        groups::check(&mut scene.session, GroupId(7), "m3").await.expect("read");
        groups::due(&mut scene.session, Duration::from_secs(60)).await.expect("read");
    }
    scene.fill().await;
    scene.check("full, analysed empty").await;
    scene.database.run(ANALYSE).await;
    scene.check("full").await;
    scene.bloat().await;
    scene.check("bloated, analysed full").await;
    scene.database.run(ANALYSE).await;
    scene.check("bloated").await;
}

#[tokio::test]
async fn without_a_group_nothing_is_due_and_nothing_will_be() {
    let database = TestDatabase::new().await;
    let due = "select count(*) from postrider.groups_due(60000) where group_id is not null
        or next_ms is not null";
    assert_eq!(database.number(due).await, 0);
}
