//! Who plays in the torture.

use std::{sync::Arc, time::Duration};

use postrider::{
    lifecycle::Lifecycle,
    log::{Log, ReadError, ReadRequest},
    model::{BucketId, PartitionId},
    store::{
        Database, Session, StoreError,
        append::{AppendStatement, Flush, Outcome},
        buckets, wakes,
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sqlx::Row;

use super::{PARTITIONS, Stage, audit, lock};

const CLASSES: [i16; 2] = [1, 2];

async fn pause(random: &mut StdRng, most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..=most_ms))).await;
}

/// Makes, opens, closes, seals and drops buckets, in an order and at times of its own.
pub(super) async fn maintain(stage: Arc<Stage>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut session = stage.database.connect().await;
    while !stage.is_over() {
        for class in CLASSES {
            while let Some(made) =
                buckets::make_next_committed(&mut session, class, 2).await.expect("made")
            {
                stage.count("made");
                if random.random_bool(0.7) {
                    told(&stage, "attach", buckets::attach_committed(&mut session, made).await);
                }
            }
            if buckets::roll(&mut session, class).await.expect("rolled") {
                stage.count("opened");
            }
        }
        for bucket in buckets::in_state(&mut session, "closed").await.expect("states") {
            if random.random_bool(0.6)
                && told(&stage, "seal", buckets::seal(&mut session, bucket).await) == Some(true)
            {
                stage.count("sealed");
            }
        }
        for bucket in buckets::in_state(&mut session, "sealed").await.expect("states") {
            told(&stage, "begin_drop", buckets::begin_drop(&mut session, bucket).await);
        }
        for bucket in buckets::in_state(&mut session, "dropping").await.expect("states") {
            drop_bucket(&stage, &mut session, bucket, &mut random).await;
        }
        pause(&mut random, 60).await;
    }
}

async fn drop_bucket(stage: &Stage, session: &mut Session, bucket: BucketId, random: &mut StdRng) {
    if told(stage, "detach", buckets::detach(session, bucket).await).is_none() {
        return;
    }
    if random.random_bool(0.3) {
        pause(random, 50).await;
    }
    audit::keep(session, bucket).await;
    if told(stage, "forget", buckets::forget_committed(session, bucket).await).is_some() {
        stage.count("dropped");
    }
}

/// Counts a refusal, which is tried again later.
fn told<T>(stage: &Stage, what: &str, done: Result<T, StoreError>) -> Option<T> {
    match done {
        Ok(value) => Some(value),
        Err(error @ StoreError::Refused { .. }) => {
            stage.count(format!("{what}: {:?}", error.refusal()));
            None
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Moves single partitions between classes, as a change of a topic's retention does.
pub(super) async fn change_classes(stage: Arc<Stage>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed + 1);
    let mut session = stage.database.connect().await;
    while !stage.is_over() {
        pause(&mut random, 120).await;
        let changed = sqlx::query(
            "update postrider.partitions set retention_class = 3 - retention_class
             where partition_id = $1",
        )
        .bind(random.random_range(1..=i64::from(PARTITIONS)))
        .execute(&mut session)
        .await;
        assert_eq!(changed.expect("changed").rows_affected(), 1);
        stage.count("class changes");
    }
}

/// Cancels statements of appenders and ends their sessions.
pub(super) async fn harm(stage: Arc<Stage>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed + 2);
    let mut session = stage.database.connect().await;
    while !stage.is_over() {
        pause(&mut random, 50).await;
        let Some(backend) = lock(&stage.backends).choose(&mut random).copied() else { continue };
        let how = if random.random_bool(0.85) { "cancel" } else { "terminate" };
        let sql = format!("select pg_{how}_backend({backend})");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut session).await.expect("asked");
        stage.count(how);
    }
}

/// One flusher of a node: its session, its slot, and its view of the open bucket, which is stale
/// whenever it likes.
struct Appender {
    session: Session,
    backend: i32,
    slot: i64,
    wake: i64,
}

impl Appender {
    async fn new(stage: &Stage) -> Result<Self, StoreError> {
        let mut session = stage.database.target().connect("flush").await?;
        let backend = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session).await?;
        let slot = wakes::open_slot(&mut session, 1).await?;
        lock(&stage.backends).push(backend);
        Ok(Self { session, backend, slot, wake: 1 })
    }

    /// Any bucket of the class will do for one who does not know better.
    async fn choose(
        &mut self,
        random: &mut StdRng,
        class: i16,
        skew: usize,
    ) -> Result<Option<BucketId>, StoreError> {
        if random.random_bool(0.65) {
            return buckets::newest_open(&mut self.session, class).await;
        }
        if random.random_bool(0.2) {
            // Long gone, or of another class.
            let newest = buckets::newest_open(&mut self.session, class).await?;
            return Ok(newest.map(|newest| BucketId(newest.0 - random.random_range(1..60))));
        }
        let ids: Vec<i64> = sqlx::query_scalar(
            "select bucket_id from postrider.buckets where retention_class = $1
             order by bucket_id desc limit 8",
        )
        .bind(class)
        .fetch_all(&mut self.session)
        .await?;
        let from = skew.min(ids.len());
        Ok(ids[from..].choose(random).copied().map(BucketId))
    }
}

pub(super) async fn append(stage: Arc<Stage>, seed: u64, number: u64) {
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(31) + number);
    // This node's view is behind by some buckets.
    let skew = random.random_range(0..4);
    let mut appender = None;
    let mut statement: Option<(i16, AppendStatement)> = None;
    let mut sequence = 0;
    while !stage.is_over() {
        let mut own = match appender.take() {
            Some(own) => own,
            None => match Appender::new(&stage).await {
                Ok(own) => own,
                Err(_) => continue,
            },
        };
        sequence += 1;
        let tag = format!("{number}.{sequence}");
        let done = flush(&stage, &mut own, &mut random, &mut statement, skew, &tag).await;
        match done {
            Ok(()) => appender = Some(own),
            Err(error) if !error.ends_session() => {
                stage.count(format!("append: {:?}", error.refusal()));
                statement = None;
                appender = Some(own);
            }
            Err(error) => {
                lock(&stage.backends).retain(|backend| *backend != own.backend);
                if error.outcome_is_unknown() {
                    stage.count("append: lost");
                    lock(&stage.unknown).push(tag.into_bytes());
                }
            }
        }
        if random.random_bool(0.3) {
            pause(&mut random, 40).await;
        }
    }
}

async fn flush(
    stage: &Stage,
    own: &mut Appender,
    random: &mut StdRng,
    statement: &mut Option<(i16, AppendStatement)>,
    skew: usize,
    tag: &str,
) -> Result<(), StoreError> {
    if random.random_bool(0.1) {
        let limit = ["1ms", "3ms", "20ms", "0", "0"].choose(random).expect("some");
        let sql = format!("set statement_timeout = '{limit}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut own.session).await?;
    }
    // An old view is kept for a while, long after its bucket was closed or dropped.
    if statement.is_none() || random.random_bool(0.1) {
        let class = *CLASSES.choose(random).expect("some");
        let chosen = own.choose(random, class, skew).await?;
        *statement = chosen.map(|bucket| (class, AppendStatement::new(bucket)));
    }
    let Some((class, append)) = statement.clone() else { return Ok(()) };
    let mut ids: Vec<i64> = sqlx::query_scalar(
        "select partition_id from postrider.partitions where retention_class = $1
         order by random() limit $2",
    )
    .bind(class)
    .bind(random.random_range(1..=4_i64))
    .fetch_all(&mut own.session)
    .await?;
    ids.sort_unstable();
    if ids.is_empty() {
        return Ok(());
    }
    let counts: Vec<i32> = ids.iter().map(|_| random.random_range(1..=9)).collect();
    let records: Vec<Vec<u8>> = ids.iter().map(|id| format!("{tag}.{id}").into_bytes()).collect();
    let flush = Flush {
        partitions: &ids,
        counts: &counts,
        records: &records,
        expects: None,
        claims: None,
        slot: own.slot,
        wake: own.wake,
    };
    let rows = append.run(&mut own.session, &flush).await?;
    if rows.iter().any(|(_, outcome)| !matches!(outcome, Outcome::Appended { .. })) {
        stage.count(format!("refused: {:?}", rows[0].1));
        *statement = None;
        return Ok(());
    }
    own.wake += 1;
    stage.count("appended");
    assert_eq!(rows.len(), ids.len());
    for (partition, outcome) in rows {
        let Outcome::Appended { base_offset, .. } = outcome else { continue };
        let at = ids.binary_search(&partition.0).expect("one that was asked for");
        let ack = (partition.0, base_offset, counts[at], records[at].clone());
        lock(&stage.acks).push(ack);
    }
    Ok(())
}

/// Reads a partition from its beginning, batch behind batch, through the node's own reader.
pub(super) async fn read(stage: Arc<Stage>, seed: u64, number: u64) {
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(37) + number);
    let database = Database::new(stage.database.target(), 2);
    database.prepared();
    let log = Log::new(database.clone(), Lifecycle::new());
    let id = PartitionId(random.random_range(1..=i64::from(PARTITIONS)));
    let partition = log.partition(id);
    let (mut next, mut low) = (0, 0);
    while !stage.is_over() {
        let request = ReadRequest { from: next, limit: random.random_range(1..200) };
        match log.read(&partition, request).await {
            Ok(page) => {
                assert!(page.watermarks.low >= low, "the low watermark of {id} fell");
                low = page.watermarks.low;
                for batch in &page.batches {
                    assert!(batch.base_offset <= next && batch.last_offset >= next, "{id}: {next}");
                    audit::read(&stage, id.0, batch).await;
                    next = batch.last_offset + 1;
                    stage.count("read");
                }
                if page.batches.is_empty() {
                    assert_eq!(next, page.watermarks.high, "{id}: an empty page before the end");
                    pause(&mut random, 20).await;
                }
            }
            Err(ReadError::OutOfRange(marks)) => {
                assert!(next < marks.low, "{id}: {next} is not outside of {marks:?}");
                stage.count("fell behind");
                next = marks.low;
            }
            Err(error) => panic!("{id} at {next}: {error}"),
        }
    }
    let at = sqlx::query("select high from postrider.watermarks($1)").bind(id.0);
    let at = at.fetch_one(&mut stage.database.connect().await).await.expect("a partition");
    assert!(next <= at.try_get::<i64, _>(0).expect("bigint"));
    database.close().await;
}
