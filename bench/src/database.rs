//! PostgreSQL as the floors see it: the append function driven directly, bare commits, and a
//! transaction that is held open.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rand::{SeedableRng as _, rngs::StdRng};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _,
    postgres::PgConnectOptions,
};

use crate::load::{generator::Worker, histogram::Histogram, payload};

/// Different flushes that a connection appends in turn.
const FLUSHES: usize = 8;
/// A record batch's head, and what a record takes beside its value.
const BATCH_BYTES: usize = 61;
const RECORD_BYTES: usize = 10;

/// The embedded server's superuser and database.
const USER: &str = "postrider";
const DATABASE: &str = "postgres";
/// Wake slots of the floors stand under a node that no node is.
const NO_NODE: i64 = -1;

/// A PostgreSQL on this machine.
#[derive(Clone, Debug)]
pub struct Database {
    /// The postmaster's process id.
    pub postmaster: u32,
    socket: PathBuf,
    port: u16,
}

impl Database {
    /// The server that runs on a data directory of Postrider's, found by its `postmaster.pid`.
    ///
    /// # Errors
    /// When there is no such file, or it is not what PostgreSQL writes.
    pub fn of_data_directory(data: &Path) -> Result<Self> {
        let file = find(data, "postmaster.pid", 3).context("no postmaster.pid")?;
        let text = fs::read_to_string(&file)?;
        let lines: Vec<_> = text.lines().collect();
        let [pid, _, _, port, socket, ..] = lines[..] else {
            bail!("an unfinished postmaster.pid")
        };
        Ok(Self { postmaster: pid.parse()?, socket: socket.into(), port: port.parse()? })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let socket = self.socket.to_string_lossy().replace('/', "%2F");
        format!("postgres://{USER}@{socket}:{}/{DATABASE}?sslmode=disable", self.port)
    }

    /// Connects.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect(&self) -> Result<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(&self.socket)
            .port(self.port)
            .username(USER)
            .database(DATABASE);
        options.connect().await.context("connecting to the node's PostgreSQL")
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// When there is no such setting.
    pub async fn setting(&self, name: &str) -> Result<String> {
        let mut connection = self.connect().await?;
        let row = sqlx::query("select current_setting($1)").bind(name);
        Ok(row.fetch_one(&mut connection).await?.get(0))
    }

    /// The median time, in microseconds, of inserting 100 bytes and committing, one at a time.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn bare_commit(&self, tries: usize) -> Result<f64> {
        let mut connection = self.connect().await?;
        sqlx::query("create table bench_commit (value text)").execute(&mut connection).await?;
        let value = "x".repeat(100);
        let mut times = Histogram::default();
        for _ in 0..tries {
            let began = Instant::now();
            sqlx::query("insert into bench_commit values ($1)")
                .bind(&value)
                .execute(&mut connection)
                .await?;
            times.record(began.elapsed());
        }
        sqlx::query("drop table bench_commit").execute(&mut connection).await?;
        Ok(times.micros(0.5))
    }

    /// Opens a transaction with a snapshot, and leaves it open for as long as what is returned
    /// lives.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn hold(&self) -> Result<Held> {
        let mut connection = self.connect().await?;
        sqlx::query("begin isolation level repeatable read").execute(&mut connection).await?;
        sqlx::query("select count(*) from pg_class").fetch_one(&mut connection).await?;
        Ok(Held { connection, since: Instant::now() })
    }

    /// The partitions of a topic, sorted, and the bucket that takes their appends.
    ///
    /// # Errors
    /// When there is no such topic, or no bucket is open.
    pub async fn target(&self, topic: &str) -> Result<Target> {
        let mut connection = self.connect().await?;
        let rows = sqlx::query(
            "select p.partition_id, p.retention_class from postrider.partitions p
             join postrider.topics t on p.owner_id = t.topic_id
             where t.name = $1 and p.deleted_at is null order by p.partition_id",
        )
        .bind(topic)
        .fetch_all(&mut connection)
        .await?;
        let class: i16 = rows.first().context("no such topic")?.get(1);
        let bucket = sqlx::query(
            "select bucket_id from postrider.buckets
             where retention_class = $1 and state = 'open' order by bucket_id desc limit 1",
        )
        .bind(class)
        .fetch_one(&mut connection)
        .await?;
        let partitions = rows.iter().map(|row| row.get(0)).collect();
        Ok(Target { partitions, bucket: bucket.get(0) })
    }
}

/// A transaction that stands open.
pub struct Held {
    connection: PgConnection,
    since: Instant,
}

impl Held {
    /// Ends it: how long it was open.
    ///
    /// # Errors
    /// When the server has ended it before.
    pub async fn release(mut self) -> Result<Duration> {
        sqlx::query("select 1").execute(&mut self.connection).await?;
        let held = self.since.elapsed();
        sqlx::query("rollback").execute(&mut self.connection).await?;
        self.connection.close().await?;
        Ok(held)
    }
}

/// Where direct appends go.
#[derive(Clone, Debug)]
pub struct Target {
    /// Partition ids, sorted.
    pub partitions: Vec<i64>,
    bucket: i64,
}

impl Target {
    /// Only its partition `index`.
    pub fn only(&self, index: usize) -> Self {
        Self { partitions: vec![self.partitions[index]], bucket: self.bucket }
    }
}

/// What one call of the append function is given: one entry a partition.
#[derive(Clone, Debug)]
pub struct Flush {
    /// Messages in each partition's records.
    pub messages: i32,
    /// The records of each partition.
    pub records: Vec<Vec<u8>>,
}

impl Flush {
    /// A few different flushes for so many partitions, each with `messages` messages of 100
    /// bytes of random text.
    pub fn several(partitions: usize, messages: usize) -> Arc<Vec<Self>> {
        let mut random = StdRng::seed_from_u64(2);
        let flush = |_| Self {
            messages: messages as i32,
            records: (0..partitions).map(|_| records(&mut random, messages)).collect(),
        };
        Arc::new((0..FLUSHES).map(flush).collect())
    }
}

/// Bytes as long as a record batch with so many messages.
fn records(random: &mut StdRng, messages: usize) -> Vec<u8> {
    let each = payload::VALUE_BYTES + RECORD_BYTES;
    payload::text(random, BATCH_BYTES + messages * each).into_bytes()
}

/// A connection that calls the append function again and again.
pub struct Appender {
    connection: PgConnection,
    target: Target,
    statement: Arc<str>,
    flushes: Arc<Vec<Flush>>,
    next: usize,
    slot: i64,
    wake: i64,
}

impl Appender {
    /// Connects and opens a wake slot of its own. The flushes are appended in turn; one with
    /// fewer records than the target has partitions goes to the first ones.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn open(
        database: Database,
        target: Target,
        flushes: Arc<Vec<Flush>>,
    ) -> Result<Self> {
        let mut connection = database.connect().await?;
        let slot = sqlx::query("select postrider.open_wake_slot($1)").bind(NO_NODE);
        let slot = slot.fetch_one(&mut connection).await?.get(0);
        let statement = format!(
            "select outcome from postrider.append_{}($1, $2, $3, null, $4, $5)",
            target.bucket
        )
        .into();
        Ok(Self { connection, target, statement, flushes, next: 0, slot, wake: 0 })
    }
}

impl Worker for Appender {
    async fn once(&mut self) -> Result<u64> {
        let flush = &self.flushes[self.next];
        self.next = (self.next + 1) % self.flushes.len();
        self.wake += 1;
        let count = flush.records.len();
        let rows = sqlx::query(AssertSqlSafe(Arc::clone(&self.statement)))
            .bind(&self.target.partitions[..count])
            .bind(vec![flush.messages; count])
            .bind(&flush.records)
            .bind(self.slot)
            .bind(self.wake)
            .fetch_all(&mut self.connection)
            .await?;
        let appended = rows.iter().filter(|row| row.get::<i16, _>(0) == 0).count();
        if appended != count {
            bail!("the append function refused a flush");
        }
        Ok(u64::try_from(flush.messages)? * count as u64)
    }
}

fn find(folder: &Path, name: &str, depth: usize) -> Option<PathBuf> {
    let here = folder.join(name);
    if here.is_file() {
        return Some(here);
    }
    let folders = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    (depth > 0)
        .then(|| folders.filter(|path| path.is_dir()).find_map(|path| find(&path, name, depth - 1)))
        .flatten()
}
