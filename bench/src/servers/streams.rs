//! The peer: crate `durable-streams`, a log over HTTP with a fsynced write-ahead log of its own
//! and no database. It is installed once, below target/, and started with its defaults.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{free_port, until_ready};
use crate::{load::client::Connection, process::Process};

const VERSION: &str = "0.1.5";

/// A durable-streams server that runs as a child process.
pub struct Streams {
    process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Streams {
    /// Installs it when it is missing, and starts it with its data in `folder`.
    ///
    /// # Errors
    /// When it cannot be installed, or does not answer within a few seconds.
    pub async fn start(folder: &Path, target: &Path) -> Result<Self> {
        let program = installed(target)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = Command::new(program);
        command.args(["--port", &address.port().to_string(), "--data-dir"]);
        command.arg(folder.join("durable-streams"));
        let mut process = Process::start(command, &folder.join("durable-streams.log"))?;
        until_ready(&mut process, address, "/health").await.context("durable-streams")?;
        Ok(Self { process, address })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Makes `count` streams of JSON named `prefix-0`, `prefix-1`, …
    ///
    /// # Errors
    /// When one is refused.
    pub async fn create(&self, prefix: &str, count: usize) -> Result<()> {
        let mut connection = Connection::open(self.address).await?;
        for index in 0..count {
            let request = format!(
                "PUT /{prefix}-{index} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
                 content-length: 0\r\n\r\n",
                self.address
            );
            let answer = connection.exchange(request.as_bytes()).await?;
            if !answer.is_success() {
                bail!("creating a stream: {}", answer.status);
            }
        }
        Ok(())
    }
}

fn installed(target: &Path) -> Result<PathBuf> {
    let root = target.join(format!("durable-streams-{VERSION}"));
    let program = root.join("bin/durable-streams-server");
    if program.exists() {
        return Ok(program);
    }
    println!("installing durable-streams {VERSION} (once)");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["install", "durable-streams", "--locked", "--version", VERSION, "--root"])
        .arg(&root)
        .status()
        .context("running cargo install")?;
    if !status.success() || !program.exists() {
        bail!("cargo install durable-streams failed");
    }
    Ok(program)
}
