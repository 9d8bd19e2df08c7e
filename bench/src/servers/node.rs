//! Postrider as a user runs it: the release program, a process of its own, with an embedded
//! PostgreSQL below a folder that is made for it and removed with it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::time::timeout;

use super::{free_port, until_ready};
use crate::{
    database::Database,
    load::{client::Connection, payload},
    process::{self, Process},
    rounds::Party,
};

/// How long one administrative request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// A running node.
pub struct Node {
    process: Option<Process>,
    data: Option<PathBuf>,
    /// Where it listens.
    pub address: SocketAddr,
    /// From starting the program to its first answer of being ready.
    pub start_took: Duration,
}

#[derive(Deserialize)]
struct Page {
    high_watermark: u64,
}

impl Node {
    /// Starts a node with a PostgreSQL of its own in `data`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(program: &Path, data: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("serve").arg("--data-dir").arg(data);
        Self::launch(command, Some(data.into()), &data.with_extension("log")).await
    }

    /// Starts a node on somebody else's PostgreSQL.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn beside(program: &Path, database: &Database, log: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("serve").args(["--database-url", &database.url()]);
        Self::launch(command, None, log).await
    }

    async fn launch(mut command: Command, data: Option<PathBuf>, log: &Path) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        command.args(["--listen", &address.to_string()]);
        let began = Instant::now();
        let mut process = Process::start(command, log)?;
        until_ready(&mut process, address, "/readyz").await.context("the node")?;
        Ok(Self { process: Some(process), data, address, start_took: began.elapsed() })
    }

    /// A node that somebody else has started.
    pub fn attached(address: SocketAddr) -> Self {
        Self { process: None, data: None, address, start_took: Duration::ZERO }
    }

    /// Its process id; 0, which no process has, when somebody else has started it.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// Its PostgreSQL.
    ///
    /// # Errors
    /// When it has none of its own, or the server has left no trace in the data directory.
    pub fn database(&self) -> Result<Database> {
        let data = self.data.as_deref().context("this node has no PostgreSQL of its own")?;
        Database::of_data_directory(data)
    }

    /// The processes to watch while it is under load.
    ///
    /// # Errors
    /// As [`Node::database`].
    pub fn parties(&self) -> Result<Vec<Party>> {
        if self.process.is_none() {
            return Ok(Vec::new());
        }
        Ok(vec![Party::Server(self.pid()), Party::Postgres(self.database()?.postmaster)])
    }

    /// The greatest resident size of its own process, in bytes.
    pub fn peak_memory(&self) -> u64 {
        process::peak_memory(self.pid()).unwrap_or(0)
    }

    /// The values of some metrics without labels.
    ///
    /// # Errors
    /// When the node does not tell one of them.
    pub async fn metrics(&self, names: &[&str]) -> Result<Vec<u64>> {
        let mut connection = Connection::open(self.address).await?;
        let request = payload::request(self.address, "GET", "/metrics", "");
        let answer = timeout(REQUEST, connection.exchange(&request)).await??;
        let text = String::from_utf8_lossy(answer.body);
        let value = |name: &&str| {
            let of = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
            text.lines().find_map(of).with_context(|| format!("no metric {name}"))
        };
        names.iter().map(value).collect()
    }

    /// Makes a topic, in place of one that an earlier run has left.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create(&self, topic: &str, partitions: usize) -> Result<()> {
        let mut connection = Connection::open(self.address).await?;
        let body = format!("{{\"partitions\":{partitions}}}");
        let path = format!("/v1/topics/{topic}");
        if self.process.is_none() {
            let request = payload::request(self.address, "DELETE", &path, "");
            timeout(REQUEST, connection.exchange(&request)).await??;
        }
        let request = payload::request(self.address, "PUT", &path, &body);
        let answer = timeout(REQUEST, connection.exchange(&request)).await??;
        if !answer.is_success() {
            bail!("PUT {path}: {} {}", answer.status, String::from_utf8_lossy(answer.body));
        }
        Ok(())
    }

    /// The high watermark of each partition.
    ///
    /// # Errors
    /// When a partition cannot be read.
    pub async fn high_watermarks(&self, topic: &str, partitions: usize) -> Result<Vec<u64>> {
        let mut connection = Connection::open(self.address).await?;
        let mut highs = Vec::new();
        for partition in 0..partitions {
            let path =
                format!("/v1/topics/{topic}/partitions/{partition}/messages?from=latest&limit=1");
            let request = payload::request(self.address, "GET", &path, "");
            let answer = timeout(REQUEST, connection.exchange(&request)).await??;
            if !answer.is_success() {
                bail!("GET {path}: {} {}", answer.status, String::from_utf8_lossy(answer.body));
            }
            highs.push(serde_json::from_slice::<Page>(answer.body)?.high_watermark);
        }
        Ok(highs)
    }

    /// Proves that the log holds what was acknowledged: how many partitions have messages.
    ///
    /// # Errors
    /// When the high watermarks do not add up to `acknowledged`.
    pub async fn verify(&self, topic: &str, partitions: usize, acknowledged: u64) -> Result<usize> {
        let highs = self.high_watermarks(topic, partitions).await?;
        let held: u64 = highs.iter().sum();
        if held != acknowledged {
            bail!("{topic} holds {held} messages, and {acknowledged} were acknowledged");
        }
        Ok(highs.iter().filter(|high| **high > 0).count())
    }
}

impl Drop for Node {
    /// A node that had to be killed leaves its PostgreSQL behind.
    fn drop(&mut self) {
        let database = self.database();
        if let Some(process) = &mut self.process {
            process.stop();
        }
        let Ok(Database { postmaster, .. }) = database else { return };
        if process::runs(postmaster) {
            process::signal(postmaster, Signal::INT);
            let began = Instant::now();
            while process::runs(postmaster) && began.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}
