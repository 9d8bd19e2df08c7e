//! What has to be true of every row that was ever there.

use std::collections::{BTreeMap, HashMap, HashSet};

use postrider::{log::LogBatch, model::BucketId, store::Session};
use sqlx::Row;

use super::{Stage, lock};

/// Rows of dropped buckets, and what readers were given.
pub(super) const TABLE: &str = "
    create table public.kept (
      bucket_id bigint, partition_id bigint, base_offset bigint, last_offset bigint,
      end_bytes bigint, appended_at timestamptz, records bytea);
    create table public.given (
      partition_id bigint, base_offset bigint, last_offset bigint, records bytea)";

/// Keeps the rows of a bucket that is about to be dropped.
pub(super) async fn keep(session: &mut Session, bucket: BucketId) {
    let sql = format!(
        "delete from public.kept where bucket_id = {bucket};
         insert into public.kept select bucket_id, partition_id, base_offset, last_offset,
           end_bytes, appended_at, records from postrider.batches_{bucket}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(session).await.expect("kept");
}

/// Keeps what a reader was given.
pub(super) async fn read(stage: &Stage, partition: i64, batch: &LogBatch) {
    sqlx::query("insert into public.given values ($1, $2, $3, $4)")
        .bind(partition)
        .bind(batch.base_offset)
        .bind(batch.last_offset)
        .bind(&batch.records[..])
        .execute(&mut stage.database.connect().await)
        .await
        .expect("kept");
}

/// One row of the log.
struct Stored {
    base: i64,
    last: i64,
    end_bytes: i64,
    at: time::OffsetDateTime,
    records: Vec<u8>,
}

pub(super) async fn check(stage: &Stage) {
    let logs = stored(stage).await;
    let mut rows: HashMap<(i64, i64), &Stored> = HashMap::new();
    for (partition, log) in &logs {
        dense(*partition, log);
        rows.extend(log.iter().map(|row| ((*partition, row.base), row)));
    }
    let acks = lock(&stage.acks).clone();
    let unknown: HashSet<Vec<u8>> = lock(&stage.unknown).iter().cloned().collect();
    println!("{} rows, {} acknowledged, {} unknown", rows.len(), acks.len(), unknown.len());
    for (partition, base, count, tag) in &acks {
        let row = rows.remove(&(*partition, *base));
        let found = row.map(|row| (row.last - row.base + 1, row.records.as_slice()));
        let expected = Some((i64::from(*count), tag.as_slice()));
        assert_eq!(found, expected, "an acknowledged append of partition {partition} at {base}");
    }
    for row in rows.values() {
        let end = row.records.iter().rposition(|byte| *byte == b'.').expect("a tag");
        assert!(unknown.contains(&row.records[..end]), "a row that nobody appended");
    }
    given(stage, &logs).await;
    segments(stage, &logs).await;
    enough(stage, acks.len());
}

/// All rows by partition and offset, from the dropped buckets and from those that stand.
async fn stored(stage: &Stage) -> BTreeMap<i64, Vec<Stored>> {
    let columns =
        "bucket_id, partition_id, base_offset, last_offset, end_bytes, appended_at, records";
    let mut sql = format!("select {columns} from public.kept");
    for row in stage.database.rows("select bucket_id from postrider.buckets").await {
        let bucket: i64 = row.try_get(0).expect("bigint");
        // A bucket that was copied and not dropped yet is there twice.
        sql.push_str(&format!(" union select {columns} from postrider.batches_{bucket}"));
    }
    sql.push_str(" order by 2, 3, 4");
    let mut logs: BTreeMap<i64, Vec<Stored>> = BTreeMap::new();
    for row in stage.database.rows(&sql).await {
        let log = logs.entry(row.try_get(1).expect("bigint")).or_default();
        log.push(Stored {
            base: row.try_get(2).expect("bigint"),
            last: row.try_get(3).expect("bigint"),
            end_bytes: row.try_get(4).expect("bigint"),
            at: row.try_get(5).expect("a time"),
            records: row.try_get(6).expect("bytes"),
        });
    }
    logs
}

/// Offsets and bytes without a gap or an overlap from 0 on, times that never fall.
fn dense(partition: i64, log: &[Stored]) {
    let (mut next, mut bytes, mut at) = (0, 0, None);
    for row in log {
        assert_eq!(row.base, next, "offsets of partition {partition}");
        assert!(row.last >= row.base);
        next = row.last + 1;
        bytes += row.records.len() as i64;
        assert_eq!(row.end_bytes, bytes, "bytes of partition {partition} at {}", row.base);
        assert!(at <= Some(row.at), "times of partition {partition} at {}", row.base);
        at = Some(row.at);
    }
}

/// Readers were given what is in the log.
async fn given(stage: &Stage, logs: &BTreeMap<i64, Vec<Stored>>) {
    let rows = "select partition_id, base_offset, last_offset, records from public.given";
    for row in stage.database.rows(rows).await {
        let (partition, base): (i64, i64) =
            (row.try_get(0).expect("bigint"), row.try_get(1).expect("bigint"));
        let log = &logs[&partition];
        let at = log.binary_search_by_key(&base, |stored| stored.base);
        let stored = &log[at.unwrap_or_else(|_| panic!("a reader of {partition} saw {base}"))];
        assert_eq!(stored.last, row.try_get::<i64, _>(2).expect("bigint"));
        assert_eq!(stored.records, row.try_get::<Vec<u8>, _>(3).expect("bytes"));
    }
}

/// Each partition goes on where its log ends, and begins where its low watermark says.
async fn segments(stage: &Stage, logs: &BTreeMap<i64, Vec<Stored>>) {
    for (partition, log) in logs {
        let sql = format!("select low, high from postrider.watermarks({partition})");
        let rows = stage.database.rows(&sql).await;
        let (low, high): (i64, i64) =
            (rows[0].try_get(0).expect("bigint"), rows[0].try_get(1).expect("bigint"));
        assert_eq!(Some(high), log.last().map(|row| row.last + 1), "the end of {partition}");
        assert!(low <= high && (low == high || log.iter().any(|row| row.base == low)), "{low}");
    }
    // Below the low watermark a bucket of one class may go before an older one of another.
    let overlaps = stage
        .database
        .number(
            "select count(*) from postrider.segments a join postrider.segments b
             using (partition_id) where a.first_offset < b.first_offset
               and a.end_offset is distinct from b.first_offset
               and b.first_offset > postrider.partition_low(a.partition_id)
               and not exists (select from postrider.segments c
                 where c.partition_id = a.partition_id and c.first_offset > a.first_offset
                   and c.first_offset < b.first_offset)",
        )
        .await;
    assert_eq!(overlaps, 0, "segments do not join");
}

/// A torture in which nothing happened proves nothing.
fn enough(stage: &Stage, acks: usize) {
    let counts = lock(&stage.counts).clone();
    let of = |what: &str| counts.get(what).copied().unwrap_or_default();
    assert!(acks > 500, "only {acks} appends");
    for (what, least) in [
        ("opened", 15),
        ("sealed", 20),
        ("dropped", 10),
        ("class changes", 40),
        ("cancel", 50),
        ("terminate", 10),
        ("read", 100),
        ("refused: NotOpen", 10),
        ("refused: Moved", 10),
        ("append: Some(Missing)", 1),
    ] {
        assert!(of(what) >= least, "{what} only {} times: {counts:?}", of(what));
    }
}
