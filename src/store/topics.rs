//! Topics and their partitions. Whoever changes them holds the catalog lock until the commit, so
//! that `catalog_changes` is numbered in the order of commits.

use std::time::Duration;

use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use time::OffsetDateTime;

use super::{Incarnation, StoreError, append::unix_ms, lock};
use crate::model::{
    Name, PartitionId, TenantId, TopicId,
    topic::{Compression, Durability, Keyless, Retention, TopicSettings},
};

/// A topic as it stands.
#[derive(Clone, Debug)]
pub struct TopicRow {
    /// Which incarnation.
    pub id: TopicId,
    /// Its name.
    pub name: Name,
    /// What it was told.
    pub settings: TopicSettings,
    /// Its partitions by number; none when only the settings were asked for.
    pub partitions: Vec<PartitionId>,
    /// When it was made, in ms since 1970.
    pub created_ms: i64,
    /// In which incarnation of the log it was read, where the reader says so.
    pub incarnation: Option<Incarnation>,
}

const COLUMNS: &str = "t.topic_id, t.name, t.partition_count, t.retention_ms, t.durability,
    t.compression, t.max_message_bytes, t.keyless, t.created_at, t.retention_bytes";

fn topic(row: &PgRow) -> Result<TopicRow, StoreError> {
    let shape = |what: &str| StoreError::Shape(format!("{what} of a topic"));
    let name: String = row.try_get(1)?;
    let retention_ms: Option<i64> = row.try_get(3)?;
    let durability: &str = row.try_get(4)?;
    let retention = match retention_ms {
        None => Retention::Forever,
        Some(ms) => Retention::For(Duration::from_millis(
            u64::try_from(ms).map_err(|_| shape("retention"))?,
        )),
    };
    let retention_bytes: Option<i64> = row.try_get(9)?;
    let settings = TopicSettings {
        partitions: u32::try_from(row.try_get::<i32, _>(2)?).map_err(|_| shape("partitions"))?,
        retention,
        retention_bytes: retention_bytes
            .map(u64::try_from)
            .transpose()
            .map_err(|_| shape("retention_bytes"))?,
        durability: [Durability::Local, Durability::Replicated]
            .into_iter()
            .find(|level| level.as_str() == durability)
            .ok_or_else(|| shape("durability"))?,
        compression: Compression::parse(row.try_get(5)?).ok_or_else(|| shape("compression"))?,
        max_message_bytes: u32::try_from(row.try_get::<i32, _>(6)?)
            .map_err(|_| shape("max_message_bytes"))?,
        keyless: Keyless::parse(row.try_get(7)?).ok_or_else(|| shape("keyless"))?,
    };
    Ok(TopicRow {
        id: TopicId(row.try_get(0)?),
        name: Name::parse(&name).map_err(|_| shape("name"))?,
        settings,
        partitions: Vec::new(),
        created_ms: unix_ms(row.try_get::<OffsetDateTime, _>(8)?),
        incarnation: None,
    })
}

fn retention_ms(retention: Retention) -> Option<i64> {
    match retention {
        Retention::Forever => None,
        Retention::For(keep) => Some(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)),
    }
}

fn retention_bytes(settings: &TopicSettings) -> Option<i64> {
    settings.retention_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// A topic with its partitions, if there is one of that name.
pub async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    name: &Name,
) -> Result<Option<TopicRow>, StoreError> {
    let sql = select_topics(
        "from postrider.topics t where t.tenant_id = $1 and t.name = $2",
        ", array(select p.partition_id from postrider.partitions p
           where p.owner_id = t.topic_id and p.lane = 0 and p.deleted_at is null
           order by p.index)",
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(tenant.0)
        .bind(name.as_str())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut found = topic(&row)?;
    let ids: Vec<i64> = row.try_get(10)?;
    found.partitions = ids.into_iter().map(PartitionId).collect();
    Ok(Some(found))
}

fn select_topics(from: &str, more: &str) -> String {
    format!("select {COLUMNS}{more} {from}")
}

/// Topics by name, behind `after` and beginning with `prefix`, at most `limit`.
pub async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    prefix: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<TopicRow>, StoreError> {
    let sql = select_topics(
        "from postrider.topics t
         where t.tenant_id = $1 and t.name > $3 and starts_with(t.name, $2)
         order by t.name limit $4",
        "",
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(tenant.0)
        .bind(prefix)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(topic).collect()
}

/// Makes a topic; returns false when one of that name stands already.
pub async fn create_committed(
    conn: &mut PgConnection,
    tenant: TenantId,
    name: &Name,
    settings: &TopicSettings,
) -> Result<bool, StoreError> {
    let mut tx = conn.begin().await?;
    lock::transaction(&mut tx, lock::CATALOG).await?;
    let id: Option<i64> = sqlx::query_scalar(
        "insert into postrider.topics (tenant_id, name, partition_count, retention_ms,
           durability, compression, max_message_bytes, keyless, retention_bytes)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict on constraint topics_tenant_id_name_key do nothing
         returning topic_id",
    )
    .bind(tenant.0)
    .bind(name.as_str())
    .bind(i32::try_from(settings.partitions).unwrap_or(i32::MAX))
    .bind(retention_ms(settings.retention))
    .bind(settings.durability.as_str())
    .bind(settings.compression.as_str())
    .bind(i32::try_from(settings.max_message_bytes).unwrap_or(i32::MAX))
    .bind(settings.keyless.as_str())
    .bind(retention_bytes(settings))
    .fetch_optional(&mut *tx)
    .await?;
    let Some(id) = id.map(TopicId) else { return Ok(false) };
    add_partitions(&mut tx, tenant, id, 0, settings).await?;
    note_change(&mut tx, id).await?;
    tx.commit().await?;
    Ok(true)
}

async fn add_partitions(
    conn: &mut PgConnection,
    tenant: TenantId,
    topic: TopicId,
    have: u32,
    settings: &TopicSettings,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into postrider.partitions (tenant_id, owner_id, index, retention_class)
         select $1, $2, g, $5 from generate_series($3::int, $4::int - 1) g",
    )
    .bind(tenant.0)
    .bind(topic.0)
    .bind(i32::try_from(have).unwrap_or(i32::MAX))
    .bind(i32::try_from(settings.partitions).unwrap_or(i32::MAX))
    .bind(settings.retention.class().number())
    .execute(conn)
    .await?;
    Ok(())
}

async fn note_change(conn: &mut PgConnection, topic: TopicId) -> Result<(), StoreError> {
    sqlx::query("insert into postrider.catalog_changes (owner_id) values ($1)")
        .bind(topic.0)
        .execute(conn)
        .await?;
    Ok(())
}

/// A flush that waits for a paused standby holds the rows of its partitions for as long: whoever
/// holds the catalog lock gives up before the changes behind it do.
async fn wait_briefly(conn: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("set local lock_timeout = '2s'").execute(conn).await?;
    Ok(())
}

/// Changes a topic: `change` sees it as it stands, under the lock, and says what it shall be or
/// why not. A refusal changes nothing. None: there is no such topic.
pub async fn alter_committed<E>(
    conn: &mut PgConnection,
    tenant: TenantId,
    name: &Name,
    change: impl FnOnce(&TopicSettings) -> Result<TopicSettings, E>,
) -> Result<Option<Result<(), E>>, StoreError> {
    let mut tx = conn.begin().await?;
    lock::transaction(&mut tx, lock::CATALOG).await?;
    let Some(standing) = find(&mut tx, tenant, name).await? else { return Ok(None) };
    let wanted = match change(&standing.settings) {
        Ok(wanted) => wanted,
        Err(refusal) => return Ok(Some(Err(refusal))),
    };
    sqlx::query(
        "update postrider.topics set partition_count = $2, retention_ms = $3, durability = $4,
           compression = $5, max_message_bytes = $6, keyless = $7, retention_bytes = $8
         where topic_id = $1",
    )
    .bind(standing.id.0)
    .bind(i32::try_from(wanted.partitions).unwrap_or(i32::MAX))
    .bind(retention_ms(wanted.retention))
    .bind(wanted.durability.as_str())
    .bind(wanted.compression.as_str())
    .bind(i32::try_from(wanted.max_message_bytes).unwrap_or(i32::MAX))
    .bind(wanted.keyless.as_str())
    .bind(retention_bytes(&wanted))
    .execute(&mut *tx)
    .await?;
    if wanted.retention.class() != standing.settings.retention.class() {
        wait_briefly(&mut tx).await?;
        let locked = "select 1 from postrider.partitions where owner_id = $1
            and deleted_at is null order by partition_id for no key update";
        sqlx::query(locked).bind(standing.id.0).execute(&mut *tx).await?;
        sqlx::query(
            "update postrider.partitions set retention_class = $2
             where owner_id = $1 and deleted_at is null",
        )
        .bind(standing.id.0)
        .bind(wanted.retention.class().number())
        .execute(&mut *tx)
        .await?;
    }
    add_partitions(&mut tx, tenant, standing.id, standing.settings.partitions, &wanted).await?;
    note_change(&mut tx, standing.id).await?;
    tx.commit().await?;
    Ok(Some(Ok(())))
}

/// Deletes a topic. Its partitions take no append from the commit on and their messages cannot be
/// read; the space comes back with the buckets. None: there is no such topic.
pub async fn delete_committed(
    conn: &mut PgConnection,
    tenant: TenantId,
    name: &Name,
) -> Result<Option<TopicRow>, StoreError> {
    let mut tx = conn.begin().await?;
    lock::transaction(&mut tx, lock::CATALOG).await?;
    let Some(standing) = find(&mut tx, tenant, name).await? else { return Ok(None) };
    wait_briefly(&mut tx).await?;
    let locked = "select 1 from postrider.partitions where owner_id = $1
        order by partition_id for no key update";
    sqlx::query(locked).bind(standing.id.0).execute(&mut *tx).await?;
    sqlx::query(
        "update postrider.partitions set deleted_at = clock_timestamp() where owner_id = $1",
    )
    .bind(standing.id.0)
    .execute(&mut *tx)
    .await?;
    // Segments in buckets that stand go with their bucket; the others have nothing to go with.
    sqlx::query(
        "delete from postrider.segments s using postrider.partitions p
         where p.owner_id = $1 and s.partition_id = p.partition_id
           and not exists (select from postrider.buckets b where b.bucket_id = s.bucket_id)",
    )
    .bind(standing.id.0)
    .execute(&mut *tx)
    .await?;
    super::groups::drop_partitions(&mut tx, &standing.partitions).await?;
    sqlx::query("delete from postrider.topics where topic_id = $1")
        .bind(standing.id.0)
        .execute(&mut *tx)
        .await?;
    note_change(&mut tx, standing.id).await?;
    tx.commit().await?;
    Ok(Some(standing))
}

/// A change of the catalog: its number, whose it is, and the partitions that the owner has or had.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its number.
    pub id: i64,
    /// The topic.
    pub topic: TopicId,
    /// The topic's partitions, also those of a deleted topic.
    pub partitions: Vec<PartitionId>,
}

/// Changes of the catalog behind `seen`, in the order of their commits.
pub async fn changes_since(conn: &mut PgConnection, seen: i64) -> Result<Vec<Change>, StoreError> {
    let rows: Vec<(i64, i64, Vec<i64>)> = sqlx::query_as(
        "select c.change_id, c.owner_id, array(
           select p.partition_id from postrider.partitions p where p.owner_id = c.owner_id)
         from postrider.catalog_changes c where c.change_id > $1 order by c.change_id",
    )
    .bind(seen)
    .fetch_all(conn)
    .await?;
    let change = |(id, topic, ids): (i64, i64, Vec<i64>)| Change {
        id,
        topic: TopicId(topic),
        partitions: ids.into_iter().map(PartitionId).collect(),
    };
    Ok(rows.into_iter().map(change).collect())
}

/// The number of the last change of the catalog.
pub async fn last_change(conn: &mut PgConnection) -> Result<i64, StoreError> {
    let last = sqlx::query_scalar(
        "select coalesce((select change_id from postrider.catalog_changes
           order by change_id desc limit 1), 0)",
    );
    Ok(last.fetch_one(conn).await?)
}

/// Forgets changes older than any node may go without looking; the newest stays.
pub async fn prune_changes(conn: &mut PgConnection) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from postrider.catalog_changes c
         where c.made_at < clock_timestamp() - interval '10 minutes'
           and c.change_id < (select max(change_id) from postrider.catalog_changes)",
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
