//! Advisory locks: 64-bit keys with the class of lock in the highest byte.

use sqlx::PgConnection;

use super::StoreError;

/// Shared by every flush into a bucket, exclusive for its seal: `BUCKET + bucket_id`.
pub const BUCKET: i64 = 1 << 56;
/// One maintenance duty runs on the node that holds its lock: `DUTY + number of the duty`.
pub const DUTY: i64 = 2 << 56;
/// Held by whoever changes the catalog, until the commit.
pub const CATALOG: i64 = 3 << 56;
/// Held by the one node that migrates.
pub const MIGRATION: i64 = 4 << 56;
/// Exclusive for whoever changes a group's members or assignments, shared by every commit of
/// offsets: `GROUP + group_id`.
pub const GROUP: i64 = 5 << 56;
/// Held by whoever makes, opens (`roll_buckets`) or attaches a bucket, until the commit.
pub const BUCKETS: i64 = 6 << 56;

/// Takes a session's lock if it is free. The session must be a direct one, past any pooler.
pub async fn try_session(conn: &mut PgConnection, key: i64) -> Result<bool, StoreError> {
    let taken = sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(key).fetch_one(conn);
    Ok(taken.await?)
}

/// Whether anybody holds a session's lock in this database. It takes no session of one's own to
/// ask, so those who would like the lock can ask often.
pub async fn is_held(conn: &mut PgConnection, key: i64) -> Result<bool, StoreError> {
    let held = sqlx::query_scalar(
        "select exists (
           select from pg_locks l join pg_database d on d.oid = l.database
           where l.locktype = 'advisory' and d.datname = current_database() and l.granted
             and l.objsubid = 1 and (l.classid::bigint << 32) + l.objid::bigint = $1)",
    );
    Ok(held.bind(key).fetch_one(conn).await?)
}

/// Waits for a lock that lasts until the transaction ends.
pub async fn transaction(conn: &mut PgConnection, key: i64) -> Result<(), StoreError> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(key).execute(conn).await?;
    Ok(())
}
