//! The life of a bucket: ahead, open, closed, sealed, dropping, gone. A bucket's table is made
//! alone and attached afterwards, and leaves by DETACH CONCURRENTLY before it is dropped:
//! `PARTITION OF` and a plain DROP would hold up every append.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{StoreError, lock};
use crate::model::BucketId;

const APPEND: &str = include_str!("../../migrations/bucket/append.sql");
const READ: &str = include_str!("../../migrations/bucket/read.sql");

/// The texts from which each bucket's functions are made.
pub(super) const TEMPLATES: [&str; 2] = [APPEND, READ];

/// How long a change of a shared table waits for a lock before it is tried again later.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '500ms'";
/// How long nodes that start at once wait for each other: making a bucket takes milliseconds.
const MAKE_TIMEOUT: &str = "set local lock_timeout = '5s'";

/// The SQL that makes the functions of one bucket.
pub(super) fn functions_of(bucket: BucketId, class: i16) -> String {
    TEMPLATES
        .concat()
        .replace("$bucket$", &bucket.to_string())
        .replace("$class$", &class.to_string())
        .replace("$lock$", &(lock::BUCKET + bucket.0).to_string())
}

/// The newest open bucket of a class.
pub async fn newest_open(
    conn: &mut PgConnection,
    class: i16,
) -> Result<Option<BucketId>, StoreError> {
    let bucket: Option<i64> = sqlx::query_scalar(
        "select bucket_id from postrider.buckets
         where retention_class = $1 and state = 'open' order by bucket_id desc limit 1",
    )
    .bind(class)
    .fetch_optional(conn)
    .await?;
    Ok(bucket.map(BucketId))
}

/// How the column of records is stored: PostgreSQL's lz4 where the server was built with it,
/// else as it comes; pglz is four times slower than either.
async fn storage_clause(conn: &mut PgConnection) -> Result<&'static str, StoreError> {
    let lz4: bool = sqlx::query_scalar(
        "select 'lz4' = any (enumvals) from pg_settings where name = 'default_toast_compression'",
    )
    .fetch_one(conn)
    .await?;
    Ok(if lz4 { "set compression lz4" } else { "set storage external" })
}

/// Classes in which a bucket is to be made or opened; most of the time there is none.
pub async fn due(conn: &mut PgConnection, ahead: i64) -> Result<Vec<i16>, StoreError> {
    let due = sqlx::query_scalar(
        "select c.retention_class from postrider.retention_classes c
         where (select count(*) from postrider.buckets b
             where b.retention_class = c.retention_class and b.state = 'ahead') < $1
           or exists (select from postrider.buckets b
             where b.retention_class = c.retention_class and b.state = 'ahead'
               and b.opens_at <= clock_timestamp())
         order by c.retention_class",
    );
    Ok(due.bind(ahead).fetch_all(conn).await?)
}

/// Makes the next bucket of a class, if fewer than `ahead` stand ready: its row, its table and
/// its functions, committed together. It begins where the newest one ends.
pub async fn make_next_committed(
    conn: &mut PgConnection,
    class: i16,
    ahead: i64,
) -> Result<Option<BucketId>, StoreError> {
    let storage = storage_clause(conn).await?;
    let mut tx = conn.begin().await?;
    sqlx::query(MAKE_TIMEOUT).execute(&mut *tx).await?;
    lock::transaction(&mut tx, lock::BUCKETS).await?;
    let made: Option<i64> = sqlx::query_scalar(
        "insert into postrider.buckets (retention_class, state, opens_at, closes_at)
         select c.retention_class, 'ahead', next.opens_at,
           date_bin(c.bucket_window, next.opens_at, 'epoch') + c.bucket_window
         from postrider.retention_classes c
         cross join lateral (
           select greatest(max(b.closes_at),
             date_bin(c.bucket_window, clock_timestamp(), 'epoch')) as opens_at
           from postrider.buckets b where b.retention_class = c.retention_class) next
         where c.retention_class = $1
           and (select count(*) from postrider.buckets b
             where b.retention_class = $1 and b.state = 'ahead') < $2
         returning bucket_id",
    )
    .bind(class)
    .bind(ahead)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(bucket) = made.map(BucketId) else {
        tx.rollback().await?;
        return Ok(None);
    };
    let table = format!(
        "create table postrider.batches_{bucket} (
           like postrider.batches,
           constraint batches_{bucket}_bucket_id_check check (bucket_id = {bucket}),
           constraint batches_{bucket}_pkey primary key (partition_id, base_offset)
         ) with (toast_tuple_target = 8160, autovacuum_vacuum_insert_threshold = -1,
           vacuum_truncate = off, toast.autovacuum_vacuum_insert_threshold = -1,
           toast.vacuum_truncate = off);
         alter table postrider.batches_{bucket} alter column records {storage};"
    );
    sqlx::raw_sql(AssertSqlSafe(table)).execute(&mut *tx).await?;
    sqlx::raw_sql(AssertSqlSafe(functions_of(bucket, class))).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(Some(bucket))
}

/// Buckets whose table does not hang under `batches` yet.
pub async fn unattached(conn: &mut PgConnection) -> Result<Vec<BucketId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "select b.bucket_id from postrider.buckets b
         where b.state <> 'dropping' and not exists (
           select from pg_inherits i
           where i.inhrelid = to_regclass('postrider.batches_' || b.bucket_id))
         order by b.bucket_id",
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(BucketId).collect())
}

/// Hangs a bucket's table under `batches`, unless another node did. Its check constraint spares
/// the scan.
pub async fn attach_committed(conn: &mut PgConnection, bucket: BucketId) -> Result<(), StoreError> {
    let mut tx = conn.begin().await?;
    sqlx::query(LOCK_TIMEOUT).execute(&mut *tx).await?;
    lock::transaction(&mut tx, lock::BUCKETS).await?;
    if !unattached(&mut tx).await?.contains(&bucket) {
        return Ok(tx.rollback().await?);
    }
    let attach = format!(
        "alter table postrider.batches attach partition postrider.batches_{bucket}
         for values in ({bucket})"
    );
    sqlx::query(AssertSqlSafe(attach)).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

/// Opens what is due in a class and closes what it follows.
pub async fn roll(conn: &mut PgConnection, class: i16) -> Result<bool, StoreError> {
    let rolled = sqlx::query_scalar("select postrider.roll_buckets($1)").bind(class);
    Ok(rolled.fetch_all(conn).await?.pop().unwrap_or(false))
}

/// Buckets in one state, the oldest first.
pub async fn in_state(conn: &mut PgConnection, state: &str) -> Result<Vec<BucketId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "select bucket_id from postrider.buckets where state = $1 order by bucket_id",
    )
    .bind(state)
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(BucketId).collect())
}

/// Seals a closed bucket unless a flush is inside it at this moment.
pub async fn seal(conn: &mut PgConnection, bucket: BucketId) -> Result<bool, StoreError> {
    let sealed = sqlx::query_scalar("select postrider.seal_bucket($1)").bind(bucket.0);
    Ok(sealed.fetch_all(conn).await?.pop().unwrap_or(false))
}

/// Moves low watermarks past a sealed bucket whose time is over.
pub async fn begin_drop(conn: &mut PgConnection, bucket: BucketId) -> Result<bool, StoreError> {
    let begun = sqlx::query_scalar("select postrider.begin_drop($1)").bind(bucket.0);
    Ok(begun.fetch_all(conn).await?.pop().unwrap_or(false))
}

/// The bucket whose detaching was ended before it was done. There is one at the most, and none
/// other can be detached concurrently before it is finalised.
pub async fn pending_detach(conn: &mut PgConnection) -> Result<Option<BucketId>, StoreError> {
    let bucket: Option<i64> = sqlx::query_scalar(
        "select b.bucket_id from postrider.buckets b
         join pg_inherits i on i.inhrelid = to_regclass('postrider.batches_' || b.bucket_id)
         where i.inhdetachpending",
    )
    .fetch_optional(conn)
    .await?;
    Ok(bucket.map(BucketId))
}

/// Takes a dropping bucket's table from under `batches`. It waits for readers of the parent and
/// can be ended at any moment: then it is finalised here at the next try. Never in a transaction.
pub async fn detach(conn: &mut PgConnection, bucket: BucketId) -> Result<(), StoreError> {
    let pending: Option<bool> = sqlx::query_scalar(
        "select inhdetachpending from pg_inherits
         where inhrelid = to_regclass('postrider.batches_' || $1)",
    )
    .bind(bucket.0)
    .fetch_optional(&mut *conn)
    .await?;
    let how = match pending {
        None => return Ok(()),
        Some(true) => "finalize",
        Some(false) => "concurrently",
    };
    sqlx::query("set lock_timeout = '5s'").execute(&mut *conn).await?;
    let detach =
        format!("alter table postrider.batches detach partition postrider.batches_{bucket} {how}");
    sqlx::query(AssertSqlSafe(detach)).execute(conn).await?;
    Ok(())
}

/// Drops a detached bucket: its segments, its table, its functions, its row.
pub async fn forget_committed(conn: &mut PgConnection, bucket: BucketId) -> Result<(), StoreError> {
    let mut tx = conn.begin().await?;
    sqlx::query(LOCK_TIMEOUT).execute(&mut *tx).await?;
    sqlx::query("select postrider.forget_bucket($1)").bind(bucket.0).execute(&mut *tx).await?;
    let drop = format!(
        "drop table if exists postrider.batches_{bucket};
         drop function if exists postrider.append_{bucket};
         drop function if exists postrider.read_{bucket};"
    );
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

/// A sealed bucket whose rows are not frozen yet, of the classes that keep for longer than a day;
/// `tried` are left out.
pub async fn unfrozen(
    conn: &mut PgConnection,
    tried: &[i64],
) -> Result<Option<BucketId>, StoreError> {
    let bucket: Option<i64> = sqlx::query_scalar(
        "select b.bucket_id from postrider.buckets b
         join postrider.retention_classes c on c.retention_class = b.retention_class
         where b.state = 'sealed' and b.frozen_at is null and b.bucket_id <> all ($1)
           and coalesce(c.longest > interval '1 day', true)
         order by b.bucket_id limit 1",
    )
    .bind(tried)
    .fetch_optional(conn)
    .await?;
    Ok(bucket.map(BucketId))
}

/// Freezes the rows of a sealed bucket, slowly, and notes it. False when some could not be: a
/// transaction is open that began before the bucket was sealed. Never in a transaction.
pub async fn freeze(conn: &mut PgConnection, bucket: BucketId) -> Result<bool, StoreError> {
    // Every row of a sealed bucket is of a transaction below this one.
    let next: i64 =
        sqlx::query_scalar("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
            .fetch_one(&mut *conn)
            .await?;
    sqlx::query("set vacuum_cost_delay = '2ms'").execute(&mut *conn).await?;
    sqlx::query("set lock_timeout = '5s'").execute(&mut *conn).await?;
    let vacuum = format!("vacuum (freeze, parallel 0) postrider.batches_{bucket}");
    sqlx::query(AssertSqlSafe(vacuum)).execute(&mut *conn).await?;
    let done = sqlx::query(
        "update postrider.buckets b set frozen_at = clock_timestamp()
         where b.bucket_id = $1 and b.state = 'sealed' and not exists (
           select from pg_class c
           where c.oid in (
               select to_regclass('postrider.batches_' || $1)
               union all
               select reltoastrelid from pg_class
               where oid = to_regclass('postrider.batches_' || $1) and reltoastrelid <> 0)
             and age(c.relfrozenxid)
               > age((mod($2, 4294967296))::text::xid))",
    )
    .bind(bucket.0)
    .bind(next)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}
