//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};

use crate::{load::generator::Timing, rounds::Plan};

/// Measures Postrider beside floors that run on the same machine at the same time.
#[derive(Parser, Debug)]
#[command(name = "bench")]
pub struct Options {
    /// What to measure: `all`, `quick` (a few rows, under a minute), or rows by name.
    #[arg(default_value = "all")]
    pub rows: Vec<Row>,
    /// Interleaved rounds of each comparison.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// The measured seconds of each side in a round.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// How many seconds the transaction of `commits` stands open.
    #[arg(long, default_value_t = 300.0)]
    pub held_seconds: f64,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 2)]
    pub generator_threads: usize,
    /// The program to measure.
    #[arg(long, default_value = "target/release/postrider")]
    pub postrider: PathBuf,
    /// Measure a node that already listens here, such as 127.0.0.1:8080, in those rows that need
    /// nothing but its HTTP interface.
    #[arg(long)]
    pub url: Option<SocketAddr>,
    /// A folder for data, made and removed again; it must be on the disk to be measured.
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Where to write the report as Markdown.
    #[arg(long)]
    pub markdown: Option<PathBuf>,
}

/// A row of the table.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Every row.
    All,
    /// A few rows, in under a minute.
    Quick,
    /// The floors alone: needs no node, and is not part of `all`.
    Floors,
    /// Batches of 100 beside the append function.
    Batches,
    /// Single publishes beside the echo.
    Singles,
    /// Idempotent single publishes beside plain ones.
    Idempotent,
    /// Single publishes and batches beside durable-streams.
    Streams,
    /// One client and eight beside direct appends.
    Latency,
    /// A publish on one node answers a poll on another.
    Wake,
    /// Reading a backlog beside ready-made pages.
    Backlog,
    /// Publishing beside an open transaction.
    Held,
    /// Ten thousand idle topics.
    Idle,
    /// A group draining a backlog beside plain readers.
    Groups,
    /// Commits of groups beside an open transaction.
    Commits,
    /// A hundred idle groups of fifty members.
    IdleGroups,
    /// A join and a death in a group of fifty.
    Rebalance,
    /// From a publish on a socket to its message on another.
    Socket,
    /// The same from one node to another.
    SocketsTwoNodes,
    /// Frames of 100 beside batches of 100 over HTTP.
    Frames,
    /// One topic with 100 and with 1,000 subscribers.
    Fanout,
    /// Ten thousand idle sockets.
    IdleSockets,
    /// A group draining a backlog over sockets beside a plain reader.
    GroupSockets,
}

impl Options {
    /// Whether `row` is to be measured.
    pub fn wants(&self, row: Row) -> bool {
        self.rows.iter().any(|chosen| match chosen {
            Row::All => row != Row::Floors,
            Row::Quick => matches!(row, Row::Batches | Row::Singles | Row::Latency),
            chosen => *chosen == row,
        })
    }

    /// Fails when a row needs a node that the bench has started.
    ///
    /// # Errors
    /// When `--url` was given together with such a row.
    pub fn check(&self) -> Result<()> {
        let of_the_log =
            [Row::Batches, Row::Streams, Row::Latency, Row::Wake, Row::Held, Row::Idle];
        let of_groups = [Row::Groups, Row::Commits, Row::IdleGroups, Row::Rebalance];
        let of_sockets = [
            Row::Socket,
            Row::SocketsTwoNodes,
            Row::Frames,
            Row::Fanout,
            Row::IdleSockets,
            Row::GroupSockets,
        ];
        let mut own = of_the_log.iter().chain(&of_groups).chain(&of_sockets);
        if self.url.is_some() && own.any(|row| self.wants(*row)) {
            bail!("with --url only `singles`, `idempotent` and `backlog` can be measured");
        }
        Ok(())
    }

    /// Whether this is the run of under a minute.
    pub fn is_quick(&self) -> bool {
        self.rows.contains(&Row::Quick)
    }

    /// How comparisons are run.
    pub fn plan(&self) -> Plan {
        let (rounds, seconds) =
            if self.is_quick() { (1, 1.0) } else { (self.rounds, self.seconds) };
        Plan {
            rounds: rounds.max(1),
            timing: Timing {
                warm_up: Duration::from_secs_f64((seconds / 5.0).clamp(0.2, 1.0)),
                window: Duration::from_secs_f64(seconds.clamp(0.1, 600.0)),
                threads: self.generator_threads,
            },
        }
    }
}
