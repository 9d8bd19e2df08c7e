//! What an operator wants to know of a database, read and never changed.

use sqlx::{PgConnection, Row};

use super::StoreError;

/// A session or a slot that keeps old row versions alive.
#[derive(Clone, Debug)]
pub struct Holder {
    /// What it is, for a person: `session 4711 (pg_dump), active`.
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
        "select 'session ' || pid || ' (' || application_name || '), ' || state,
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
        "select distinct 'session ' || a.pid || ' (' || a.application_name || '), ' || a.state,
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
