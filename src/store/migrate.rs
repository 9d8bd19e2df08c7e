//! Bringing a database to this version: migrations/*.sql once each and never edited, then the
//! functions as they stand, then the functions of every bucket. One node at a time.

use sqlx::{AssertSqlSafe, Connection, PgConnection, migrate::Migrator};

use super::{StoreError, buckets, lock};
use crate::model::BucketId;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// migrations/functions, one function a file, in an order in which each finds what it calls.
const FUNCTIONS: [&str; 52] = [
    include_str!("../../migrations/functions/segment_end.sql"),
    include_str!("../../migrations/functions/enter_bucket.sql"),
    include_str!("../../migrations/functions/admit.sql"),
    include_str!("../../migrations/functions/prune_marks.sql"),
    include_str!("../../migrations/functions/standing_mark.sql"),
    include_str!("../../migrations/functions/standing_key.sql"),
    include_str!("../../migrations/functions/partition_low.sql"),
    include_str!("../../migrations/functions/watermarks.sql"),
    include_str!("../../migrations/functions/offset_at.sql"),
    include_str!("../../migrations/functions/offset_of_bytes.sql"),
    include_str!("../../migrations/functions/first_visible.sql"),
    include_str!("../../migrations/functions/retain.sql"),
    include_str!("../../migrations/functions/purge_hidden.sql"),
    include_str!("../../migrations/functions/forget_deleted.sql"),
    include_str!("../../migrations/functions/seal_bucket.sql"),
    include_str!("../../migrations/functions/roll_buckets.sql"),
    include_str!("../../migrations/functions/begin_drop.sql"),
    include_str!("../../migrations/functions/forget_bucket.sql"),
    include_str!("../../migrations/functions/outbox_headers.sql"),
    include_str!("../../migrations/functions/outbox_add.sql"),
    include_str!("../../migrations/functions/publish.sql"),
    include_str!("../../migrations/functions/outbox_next.sql"),
    include_str!("../../migrations/functions/outbox_append.sql"),
    include_str!("../../migrations/functions/outbox_empty.sql"),
    include_str!("../../migrations/functions/as_text.sql"),
    include_str!("../../migrations/functions/unpack_varint.sql"),
    include_str!("../../migrations/functions/unpack.sql"),
    include_str!("../../migrations/functions/messages.sql"),
    include_str!("../../migrations/functions/wakes_since.sql"),
    include_str!("../../migrations/functions/open_wake_slot.sql"),
    include_str!("../../migrations/functions/log_incarnation.sql"),
    include_str!("../../migrations/functions/group_committed.sql"),
    include_str!("../../migrations/functions/group_next_epoch.sql"),
    include_str!("../../migrations/functions/group_open.sql"),
    include_str!("../../migrations/functions/group_join.sql"),
    include_str!("../../migrations/functions/group_leave.sql"),
    include_str!("../../migrations/functions/group_expire.sql"),
    include_str!("../../migrations/functions/group_apply.sql"),
    include_str!("../../migrations/functions/group_confirm.sql"),
    include_str!("../../migrations/functions/group_commit.sql"),
    include_str!("../../migrations/functions/group_check.sql"),
    include_str!("../../migrations/functions/group_renew.sql"),
    include_str!("../../migrations/functions/group_view.sql"),
    include_str!("../../migrations/functions/group_versions.sql"),
    include_str!("../../migrations/functions/groups_due.sql"),
    include_str!("../../migrations/functions/group_beat.sql"),
    include_str!("../../migrations/functions/group_seek.sql"),
    include_str!("../../migrations/functions/group_set_paused.sql"),
    include_str!("../../migrations/functions/group_delete.sql"),
    include_str!("../../migrations/functions/group_drop_partitions.sql"),
    include_str!("../../migrations/functions/group_lag.sql"),
    include_str!("../../migrations/functions/group_prune.sql"),
];

/// Why a database could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A migration failed or does not match what the database has.
    #[error("the database cannot be migrated: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A statement around them failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Migrates over a session of its own, which is best closed afterwards: it held a lock.
pub async fn run(conn: &mut PgConnection) -> Result<(), MigrateError> {
    sqlx::query("select pg_advisory_lock($1)").bind(lock::MIGRATION).execute(&mut *conn).await?;
    let mut migrator = Migrator {
        migrations: MIGRATIONS.migrations.clone(),
        // A newer node may have migrated already: old binaries go on beside a new schema.
        ignore_missing: true,
        locking: false,
        ..Migrator::DEFAULT
    };
    migrator.dangerous_set_table_name("postrider.migrations");
    migrator.create_schema("postrider");
    migrator.run_direct(None, &mut *conn, false).await?;
    install_functions(conn).await?;
    sqlx::query("select pg_advisory_unlock($1)").bind(lock::MIGRATION).execute(conn).await?;
    Ok(())
}

/// Whether the database has every migration that this program knows.
pub async fn is_current(conn: &mut PgConnection) -> Result<bool, StoreError> {
    let applied: Result<Vec<i64>, _> =
        sqlx::query_scalar("select version from postrider.migrations where success")
            .fetch_all(conn)
            .await;
    match applied.map_err(StoreError::from) {
        Ok(applied) => Ok(MIGRATIONS.iter().all(|known| applied.contains(&known.version))),
        Err(error) if error.refusal() == Some(super::error::Refusal::Missing) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn install_functions(conn: &mut PgConnection) -> Result<(), MigrateError> {
    let wanted = fingerprint(FUNCTIONS.iter().chain(&buckets::TEMPLATES));
    let installed: Option<String> =
        sqlx::query_scalar("select fingerprint from postrider.installed_functions")
            .fetch_optional(&mut *conn)
            .await?;
    if installed.as_deref() == Some(wanted.as_str()) {
        return Ok(());
    }
    let mut tx = conn.begin().await?;
    for function in FUNCTIONS {
        sqlx::raw_sql(function).execute(&mut *tx).await?;
    }
    let buckets: Vec<(i64, i16)> =
        sqlx::query_as("select bucket_id, retention_class from postrider.buckets")
            .fetch_all(&mut *tx)
            .await?;
    // Under another signature they would stand beside the new ones, and calls be ambiguous.
    let old: Vec<String> = sqlx::query_scalar(
        "select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace = 'postrider'::regnamespace
           and p.proname ~ '^(append|read)_[0-9]+$'",
    )
    .fetch_all(&mut *tx)
    .await?;
    for function in old {
        let drop = format!("drop function {function}");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *tx).await?;
    }
    for (bucket, class) in buckets {
        let sql = buckets::functions_of(BucketId(bucket), class);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await?;
    }
    sqlx::query(
        "insert into postrider.installed_functions (fingerprint) values ($1)
         on conflict (only_row) do update set fingerprint = excluded.fingerprint",
    )
    .bind(wanted)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// A 64-bit FNV-1a of all texts: it only has to change when they do.
fn fingerprint<'a>(texts: impl Iterator<Item = &'a &'a str>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}
