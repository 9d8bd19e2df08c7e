//! What an operator wants to know of a database, read and never changed.

use sqlx::{PgConnection, Row};

use super::StoreError;

/// A session or a slot that keeps old row versions alive.
#[derive(Clone, Debug)]
pub struct Holder {
    /// What it is, for a person: `session 4711 (ada, pg_dump), active`.
    pub name: String,
    /// For how long it has done so, in seconds; unknown for slots.
    pub seconds: Option<i64>,
}

/// How far ahead the buckets of one class reach.
#[derive(Clone, Copy, Debug)]
pub struct Runway {
    /// The class.
    pub class: i16,
    /// Buckets that take appends.
    pub open: i64,
    /// Buckets that stand ready.
    pub ahead: i64,
    /// Seconds until the last of them closes; negative when that is past.
    pub seconds: i64,
}

/// Sessions with a transaction older than `seconds`, prepared transactions and replication slots
/// that hold back the horizon, the oldest first.
pub async fn holders(conn: &mut PgConnection, seconds: i64) -> Result<Vec<Holder>, StoreError> {
    let rows = sqlx::query(
        "select 'session ' || pid || ' (' || concat_ws(', ', usename, nullif(application_name, ''))
             || '), ' || state,
           extract(epoch from clock_timestamp() - xact_start)::bigint
         from pg_stat_activity
         where xact_start < clock_timestamp() - $1 * interval '1 second'
           and pid <> pg_backend_pid() and backend_type = 'client backend'
         union all
         select 'prepared transaction ' || gid,
           extract(epoch from clock_timestamp() - prepared)::bigint
         from pg_prepared_xacts where prepared < clock_timestamp() - $1 * interval '1 second'
         union all
         select 'replication slot ' || slot_name, null
         from pg_replication_slots
         where not active and (xmin is not null or catalog_xmin is not null)
         order by 2 desc nulls last",
    )
    .bind(seconds)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(Holder { name: row.try_get(0)?, seconds: row.try_get(1)? })).collect()
}

/// Sessions that hold a lock on `batches` or one of its tables for longer than `seconds`: they
/// delay drops of buckets, never publishes.
pub async fn batch_readers(
    conn: &mut PgConnection,
    seconds: i64,
) -> Result<Vec<Holder>, StoreError> {
    let rows = sqlx::query(
        "select distinct 'session ' || a.pid || ' ('
             || concat_ws(', ', a.usename, nullif(a.application_name, '')) || '), ' || a.state,
           extract(epoch from clock_timestamp() - a.xact_start)::bigint
         from pg_locks l
         join pg_stat_activity a on a.pid = l.pid
         where l.locktype = 'relation' and l.relation = to_regclass('postrider.batches')
           and a.xact_start < clock_timestamp() - $1 * interval '1 second'
           and a.pid <> pg_backend_pid()
         order by 2 desc",
    )
    .bind(seconds)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(Holder { name: row.try_get(0)?, seconds: row.try_get(1)? })).collect()
}

/// The runway of every class.
pub async fn runways(conn: &mut PgConnection) -> Result<Vec<Runway>, StoreError> {
    let rows = sqlx::query(
        "select c.retention_class,
           count(*) filter (where b.state = 'open'),
           count(*) filter (where b.state = 'ahead'),
           coalesce(extract(epoch from max(b.closes_at) filter (where b.state in ('open', 'ahead'))
             - clock_timestamp()), 0)::bigint
         from postrider.retention_classes c
         left join postrider.buckets b on b.retention_class = c.retention_class
         group by c.retention_class order by c.retention_class",
    )
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Runway {
                class: row.try_get(0)?,
                open: row.try_get(1)?,
                ahead: row.try_get(2)?,
                seconds: row.try_get(3)?,
            })
        })
        .collect()
}

/// Buckets whose drop was begun and not finished.
pub async fn dropping(conn: &mut PgConnection) -> Result<i64, StoreError> {
    let count = "select count(*) from postrider.buckets where state = 'dropping'";
    Ok(sqlx::query_scalar(count).fetch_one(conn).await?)
}

/// The database's time, in ms since 1970.
pub async fn now_ms(conn: &mut PgConnection) -> Result<i64, StoreError> {
    let now = "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint";
    Ok(sqlx::query_scalar(now).fetch_one(conn).await?)
}

/// A table with many dead rows.
#[derive(Clone, Debug)]
pub struct Bloated {
    /// Its name.
    pub table: String,
    /// Rows that are dead and not removed, as the statistics have it.
    pub dead: i64,
    /// Rows that live.
    pub live: i64,
}

/// Tables of the schema with at least `dead` dead rows, more than live ones, the worst first.
pub async fn bloated(conn: &mut PgConnection, dead: i64) -> Result<Vec<Bloated>, StoreError> {
    let rows = sqlx::query(
        "select relname::text, n_dead_tup, n_live_tup from pg_stat_user_tables
         where schemaname = 'postrider' and n_dead_tup >= $1 and n_dead_tup > n_live_tup
         order by n_dead_tup desc",
    )
    .bind(dead)
    .fetch_all(conn)
    .await?;
    let bloated = |row: &sqlx::postgres::PgRow| {
        Ok(Bloated { table: row.try_get(0)?, dead: row.try_get(1)?, live: row.try_get(2)? })
    };
    rows.iter().map(bloated).collect()
}

/// A replication slot.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether anybody reads from it.
    pub is_active: bool,
    /// Bytes of WAL that are kept for it; none where it has not begun.
    pub kept_bytes: Option<i64>,
}

/// All replication slots, the one that keeps most first.
pub async fn slots(conn: &mut PgConnection) -> Result<Vec<Slot>, StoreError> {
    let rows = sqlx::query(
        "select slot_name::text, active,
           pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
         from pg_replication_slots order by 3 desc nulls last",
    )
    .fetch_all(conn)
    .await?;
    let slot = |row: &sqlx::postgres::PgRow| {
        Ok(Slot { name: row.try_get(0)?, is_active: row.try_get(1)?, kept_bytes: row.try_get(2)? })
    };
    rows.iter().map(slot).collect()
}

/// How far the ids of transactions have gone on since rows were frozen.
#[derive(Clone, Debug)]
pub struct XidAge {
    /// Of the whole database.
    pub database: i64,
    /// The oldest table of the schema, and its age.
    pub table: Option<(String, i64)>,
    /// The age at which the server freezes by itself.
    pub freeze_max: i64,
    /// Sealed buckets that stay and are not frozen yet.
    pub unfrozen: i64,
}

/// The age of the oldest transaction id.
pub async fn xid_age(conn: &mut PgConnection) -> Result<XidAge, StoreError> {
    let row = sqlx::query(
        "select age(datfrozenxid)::bigint,
           current_setting('autovacuum_freeze_max_age')::bigint,
           (select count(*) from postrider.buckets b
            join postrider.retention_classes c on c.retention_class = b.retention_class
            where b.state = 'sealed' and b.frozen_at is null
              and coalesce(c.longest > interval '1 day', true)),
           t.relname, t.age
         from pg_database d
         left join lateral (
           select relname::text, age(relfrozenxid)::bigint from pg_class
           where relnamespace = 'postrider'::regnamespace and relkind = 'r'
           order by 2 desc limit 1) t (relname, age) on true
         where d.datname = current_database()",
    )
    .fetch_one(conn)
    .await?;
    let table: Option<String> = row.try_get(3)?;
    let age: Option<i64> = row.try_get(4)?;
    Ok(XidAge {
        database: row.try_get(0)?,
        freeze_max: row.try_get(1)?,
        unfrozen: row.try_get(2)?,
        table: table.zip(age),
    })
}

/// What waits in the outbox of SQL publishers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that are committed and not appended, counted up to the bound that was given.
    pub messages: i64,
    /// For how long the oldest of them has waited, in seconds.
    pub seconds: i64,
}

/// The backlog of the outbox, at most `bound` messages of each shard counted.
pub async fn backlog(conn: &mut PgConnection, bound: i64) -> Result<Backlog, StoreError> {
    let row = sqlx::query(
        "select count(o.published_at),
           coalesce(extract(epoch from clock_timestamp() - min(o.published_at)), 0)::bigint
         from (select distinct on (shard) * from postrider.outbox_cursors
           order by shard, n desc) c
         cross join lateral (
           select o.published_at from postrider.outbox o
           where o.place between c.shard * 3 and c.shard * 3 + 2
             and not pg_visible_in_snapshot(o.xid, c.seen)
             and not (o.outbox_id <= c.after_id
               and coalesce(pg_visible_in_snapshot(o.xid, c.until), false))
           limit $1) o",
    )
    .bind(bound)
    .fetch_one(conn)
    .await?;
    Ok(Backlog { messages: row.try_get(0)?, seconds: row.try_get(1)? })
}
