//! Interleaved rounds: ours, floor, ours, floor, … so that whatever else the machine does falls
//! on both. A round in which the echo is too slow says nothing and is run again.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    load::{
        generator::{Outcome, Timing},
        payload::{self, Shape},
    },
    process,
    report::{median, number},
    servers::echo::Echo,
};

/// A round whose echo answers fewer requests per second than this is void.
pub const ECHO_FLOOR: f64 = 40_000.0;
/// A share of a core, in percent, that others may take before a line says so.
const DISTURBED: f64 = 30.0;
/// Connections with which a round's echo is taken.
const ECHO_CONNECTIONS: usize = 64;

/// How a comparison is run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds that count.
    pub rounds: usize,
    /// The time of each side in a round.
    pub timing: Timing,
}

/// A process whose share of the processors is told beside a figure.
#[derive(Clone, Copy, Debug)]
pub enum Party {
    /// A server's own process.
    Server(u32),
    /// A PostgreSQL with all its backends, by its postmaster.
    Postgres(u32),
}

/// One side's figure in one round.
#[derive(Debug, Default)]
pub struct Sample {
    /// The figure: mostly messages per second.
    pub figure: f64,
    /// Median and 99th percentile of the answers' times, in microseconds.
    pub latency: [f64; 2],
    /// Shares in percent of one core: generator, server, PostgreSQL, everything else.
    pub shares: [f64; 4],
}

/// The samples of all rounds: one list a side.
#[derive(Debug)]
pub struct Samples {
    sides: Vec<Vec<Sample>>,
    /// Why they count for nothing; empty when they count.
    pub void: String,
}

impl Samples {
    /// No samples yet, of so many sides.
    pub fn of(sides: usize) -> Self {
        Self { sides: (0..sides).map(|_| Vec::new()).collect(), void: String::new() }
    }

    /// Adds a round's sample of one side.
    pub fn push(&mut self, side: usize, sample: Sample) {
        self.sides[side].push(sample);
    }

    /// The median figure of a side.
    pub fn figure(&self, side: usize) -> f64 {
        median(&self.figures(side))
    }

    /// A side's figure in every round.
    pub fn figures(&self, side: usize) -> Vec<f64> {
        self.sides[side].iter().map(|sample| sample.figure).collect()
    }

    /// Our median divided by that of side `floor`.
    pub fn ratio(&self, ours: usize, floor: usize) -> f64 {
        self.figure(ours) / self.figure(floor)
    }

    /// Spread of the ratio over the rounds, times and processor shares, in words.
    pub fn note(&self, ours: usize, floor: usize) -> String {
        let ratios: Vec<_> = self
            .figures(ours)
            .iter()
            .zip(self.figures(floor))
            .map(|(ours, floor)| ours / floor)
            .collect();
        let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = ratios.iter().copied().fold(0.0, f64::max);
        format!(
            "{}rounds {} to {}; ours {}; floor {}",
            self.disturbance(),
            number(lowest),
            number(highest),
            self.side_note(ours),
            self.side_note(floor)
        )
    }

    /// A warning when something else on the machine took much of it.
    fn disturbance(&self) -> String {
        let others: Vec<_> = self.sides.iter().flatten().map(|sample| sample.shares[3]).collect();
        let others = median(&others);
        match others > DISTURBED {
            true => format!("DISTURBED by others ({} % of a core); ", number(others.round())),
            false => String::new(),
        }
    }

    /// Times and processor shares of one side, in words: medians over the rounds.
    pub fn side_note(&self, side: usize) -> String {
        let of = |pick: &dyn Fn(&Sample) -> f64| {
            number(median(&self.sides[side].iter().map(pick).collect::<Vec<_>>()).round())
        };
        format!(
            "p50 {} p99 {} µs, cpu % generator {} server {} postgres {} others {}",
            of(&|sample| sample.latency[0]),
            of(&|sample| sample.latency[1]),
            of(&|sample| sample.shares[0]),
            of(&|sample| sample.shares[1]),
            of(&|sample| sample.shares[2]),
            of(&|sample| sample.shares[3]),
        )
    }
}

/// Runs every side of every round with `run`, which is told the side's number. Where side
/// `echo_side` is itself the echo, its figure decides whether the round counts.
///
/// # Errors
/// What `run` fails with.
pub async fn interleave(
    plan: Plan,
    echo: &Echo,
    sides: usize,
    echo_side: Option<usize>,
    mut run: impl AsyncFnMut(usize) -> Result<Sample>,
) -> Result<Samples> {
    let mut kept = Samples::of(sides);
    let mut repeats = plan.rounds;
    while kept.sides[0].len() < plan.rounds {
        let mut round = Vec::new();
        for side in 0..sides {
            round.push(run(side).await?);
        }
        let pace = match echo_side {
            Some(side) => round[side].figure,
            None => pace(echo, plan.timing.threads).await?,
        };
        if pace < ECHO_FLOOR {
            eprintln!("      round void: the echo answered {} requests/s", number(pace));
            if repeats > 0 {
                repeats -= 1;
                continue;
            }
            kept.void = format!("the echo was below {} requests/s", number(ECHO_FLOOR));
        }
        for (side, sample) in round.into_iter().enumerate() {
            kept.push(side, sample);
        }
    }
    Ok(kept)
}

/// Requests per second that the echo answers over 64 connections, in half a second.
///
/// # Errors
/// When it fails to answer.
pub async fn pace(echo: &Echo, threads: usize) -> Result<f64> {
    let requests = payload::publishes(echo.address, "echo", Shape::Single).into();
    let warm_up = Duration::from_millis(150);
    let timing = Timing { warm_up, window: Duration::from_millis(500), threads };
    let outcome =
        crate::load::generator::publish(timing, echo.address, &requests, 1, ECHO_CONNECTIONS);
    Ok(outcome.await?.rate)
}

/// Runs one side under `parties`' clocks: its sample, with the rate as the figure, and how many
/// messages were acknowledged.
///
/// # Errors
/// What `load` fails with.
pub async fn observe(
    parties: &[Party],
    load: impl Future<Output = Result<Outcome>>,
) -> Result<(Sample, u64)> {
    let (before, began) = (clocks(parties), Instant::now());
    let outcome = load.await?;
    let (after, took) = (clocks(parties), began.elapsed());
    let mut shares = [0.0; 4];
    for (share, (before, after)) in shares.iter_mut().zip(before.into_iter().zip(after)) {
        *share = 100.0 * after.saturating_sub(before).as_secs_f64() / took.as_secs_f64();
    }
    shares[3] = (shares[3] - shares[0] - shares[1] - shares[2]).max(0.0);
    let latency = [outcome.latency.micros(0.5), outcome.latency.micros(0.99)];
    Ok((Sample { figure: outcome.rate, latency, shares }, outcome.acknowledged))
}

/// Processor time of the generator, the servers, PostgreSQL, and the whole machine.
fn clocks(parties: &[Party]) -> [Duration; 4] {
    let mut clocks =
        [process::cpu(std::process::id()), Duration::ZERO, Duration::ZERO, process::busy()];
    for party in parties {
        match *party {
            Party::Server(pid) => clocks[1] += process::cpu(pid),
            Party::Postgres(pid) => clocks[2] += process::cpu_of_postgres(pid),
        }
    }
    clocks
}
