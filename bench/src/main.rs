//! `make bench`: what the table of figures in the README is made with. Every figure of Postrider
//! is printed beside a floor from the same run.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    options::{Options, Row},
    report::{Bar, Line, Report, number},
    servers::{echo, echo::Echo, node::Node},
};

mod database;
mod load;
mod machine;
mod options;
mod process;
mod report;
mod rounds;
mod rows;
mod servers;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One run of the bench: what every row needs.
pub struct Bench {
    options: Options,
    report: Report,
    echo: Echo,
    folder: PathBuf,
    target: PathBuf,
    peak_memory: u64,
}

impl Bench {
    /// A fresh node with a PostgreSQL of its own, or the one to be measured.
    async fn node(&self, name: &str) -> Result<Node> {
        if let Some(address) = self.options.url {
            return Ok(Node::attached(address));
        }
        Node::start(&self.options.postrider, &self.folder.join(name)).await
    }

    fn wants(&self, rows: &[Row]) -> bool {
        rows.iter().any(|row| self.options.wants(*row))
    }

    /// Prints the most memory that any node took.
    fn memory(&mut self) {
        let megabytes = self.peak_memory as f64 / 1e6;
        self.report.line(Line {
            what: "memory of a node's own process, peak: MB".into(),
            ours: number(megabytes),
            floor: String::new(),
            figure: megabytes,
            bar: Bar::AtMost(200.0),
            note: "the highest of all nodes of this run".into(),
            void: String::new(),
        });
    }

    /// Remembers how much memory a node took.
    fn saw(&mut self, node: &Node) {
        self.peak_memory = self.peak_memory.max(node.peak_memory());
    }
}

fn main() -> ExitCode {
    match begin() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<bool> {
    if std::env::args().nth(1).as_deref() == Some("echo") {
        echo::run(echo::Arguments::parse_from(std::env::args().skip(1)))?;
        return Ok(true);
    }
    let options = Options::parse();
    options.check()?;
    process::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // Dropping the run ends every process that it started and removes its folder.
        tokio::select! {
            passed = run(options) => passed,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn run(options: Options) -> Result<bool> {
    if options.url.is_none() && !options.postrider.exists() {
        bail!("{} is missing: cargo build --release", options.postrider.display());
    }
    let folder = folder(options.folder.as_deref())?;
    let echo = Echo::start(folder.path(), &[]).await?;
    let target = options.postrider.parent().and_then(Path::parent);
    let target = target.unwrap_or(Path::new("target")).to_owned();
    let markdown = options.markdown.clone();
    let mut bench = Bench {
        options,
        report: Report::default(),
        echo,
        folder: folder.path().into(),
        target,
        peak_memory: 0,
    };
    machine::describe(&mut bench).await?;
    if bench.options.url.is_none() && bench.options.rows != [Row::Floors] {
        machine::describe_database(&mut bench).await?;
    }
    if let Err(error) = measure(&mut bench).await {
        process::print_logs(folder.path());
        return Err(error);
    }
    if let Some(file) = markdown {
        bench.report.write(&file)?;
    }
    Ok(bench.report.passed())
}

async fn measure(bench: &mut Bench) -> Result<()> {
    measure_log(bench).await?;
    measure_groups(bench).await?;
    measure_sockets(bench).await?;
    if bench.peak_memory > 0 {
        bench.memory();
    }
    Ok(())
}

async fn measure_log(bench: &mut Bench) -> Result<()> {
    if bench.wants(&[Row::Floors]) {
        rows::floors::run(bench).await?;
    }
    if bench.wants(&[Row::Batches, Row::Streams]) {
        rows::batches::run(bench).await?;
    }
    if bench.wants(&[Row::Singles, Row::Streams]) {
        rows::singles::run(bench).await?;
    }
    if bench.wants(&[Row::Idempotent]) {
        rows::idempotent::run(bench).await?;
    }
    if bench.wants(&[Row::Latency]) {
        rows::latency::run(bench).await?;
    }
    if bench.wants(&[Row::Wake]) {
        rows::wake::run(bench).await?;
    }
    if bench.wants(&[Row::Backlog]) {
        rows::backlog::run(bench).await?;
    }
    if bench.wants(&[Row::Held]) {
        rows::held::run(bench).await?;
    }
    if bench.wants(&[Row::Idle]) {
        rows::idle::run(bench).await?;
    }
    Ok(())
}

async fn measure_groups(bench: &mut Bench) -> Result<()> {
    if bench.wants(&[Row::Groups]) {
        rows::groups::run(bench).await?;
    }
    if bench.wants(&[Row::Commits]) {
        rows::commits::run(bench).await?;
    }
    if bench.wants(&[Row::IdleGroups]) {
        rows::idle_groups::run(bench).await?;
    }
    if bench.wants(&[Row::Rebalance]) {
        rows::rebalance::run(bench).await?;
    }
    Ok(())
}

async fn measure_sockets(bench: &mut Bench) -> Result<()> {
    if bench.wants(&[Row::Socket]) {
        rows::sockets::run(bench).await?;
    }
    if bench.wants(&[Row::SocketsTwoNodes]) {
        rows::sockets::run_two_nodes(bench).await?;
    }
    if bench.wants(&[Row::Frames]) {
        rows::frames::run(bench).await?;
    }
    if bench.wants(&[Row::Fanout]) {
        rows::fanout::run(bench).await?;
    }
    if bench.wants(&[Row::IdleSockets]) {
        rows::idle_sockets::run(bench).await?;
    }
    if bench.wants(&[Row::GroupSockets]) {
        rows::group_sockets::run(bench).await?;
    }
    Ok(())
}

/// A new folder that PostgreSQL's own user can enter when the bench is run by root.
fn folder(parent: Option<&Path>) -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("postrider-bench-");
    let folder = match parent {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    };
    let folder = folder.context("making a folder for data")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}
