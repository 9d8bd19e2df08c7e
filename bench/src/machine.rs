//! What the machine can do, before anything is compared on it.

use std::{fs, thread};

use anyhow::Result;

use crate::{Bench, report::number, rounds};

/// Inserts of 100 bytes, each committed.
const COMMITS: usize = 2_000;

/// Prints processors, memory and the echo's pace.
///
/// # Errors
/// When the echo fails.
pub async fn describe(bench: &mut Bench) -> Result<()> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let model = first_value("/proc/cpuinfo", "model name");
    let memory = first_value("/proc/meminfo", "MemTotal");
    bench.report.fact(format!("machine: {cores} cores ({model}), memory {memory}"));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    bench.report.fact(format!("load before: {}", load.trim()));
    let pace = rounds::pace(&bench.echo, bench.options.generator_threads).await?;
    bench.report.fact(format!("echo: {} requests/s over 64 connections", number(pace)));
    Ok(())
}

/// Prints what a bare commit on the node's PostgreSQL takes.
///
/// # Errors
/// When the node cannot be started.
pub async fn describe_database(bench: &mut Bench) -> Result<()> {
    let node = bench.node("machine").await?;
    let database = node.database()?;
    let commit = database.bare_commit(COMMITS).await?;
    let version = database.setting("server_version").await?;
    let fsync = database.setting("fsync").await?;
    let method = database.setting("wal_sync_method").await?;
    bench.report.fact(format!(
        "PostgreSQL {version}, fsync {fsync} by {method}: a bare commit of 100 bytes takes {} µs",
        number(commit)
    ));
    Ok(())
}

fn first_value(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or(String::new(), |(_, value)| value.trim().into())
}
