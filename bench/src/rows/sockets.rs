//! From a publish on one socket to its message on another, at a steady rate: on one node, and from
//! one node to the other. A bare commit of the same PostgreSQL is measured between the runs.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use crate::{
    Bench,
    load::paced::{Run, Times, publisher, receiver},
    report::{Bar, Line, median, number},
    servers::node::Node,
};

const RATE: f64 = 2_000.0;
/// Runs of which the median counts.
const RUNS: usize = 3;
const WARM_UP: Duration = Duration::from_secs(1);
const COMMITS: usize = 1_000;
/// A bare commit that takes longer makes the bars multiples of it: milliseconds.
const USUAL_COMMIT: f64 = 0.15;

/// What one run found, in milliseconds.
struct Found {
    p50: f64,
    p99: f64,
    longest: f64,
}

/// Measures one node.
///
/// # Errors
/// When the node fails, or a message is lost.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("socket").await?;
    let (found, commit) = runs(bench, &node, &node).await?;
    let (most_p50, most_p99) = match commit <= USUAL_COMMIT {
        true => (0.45, 2.5),
        false => (4.0 * commit, 20.0 * commit),
    };
    let what = "publish on a socket to receive on another, 2,000/s";
    lines(bench, what, &found, commit, (most_p50, most_p99));
    bench.saw(&node);
    Ok(())
}

/// Measures two nodes.
///
/// # Errors
/// When a node fails, or a message is lost.
pub async fn run_two_nodes(bench: &mut Bench) -> Result<()> {
    let first = bench.node("sockets-two-nodes").await?;
    let log = bench.folder.join("sockets-second.log");
    let second = Node::beside(&bench.options.postrider, &first.database()?, &log).await?;
    let (found, commit) = runs(bench, &first, &second).await?;
    let what = "publish on a socket to receive on another node, 2,000/s";
    lines(bench, what, &found, commit, (6.0, 15.0));
    bench.saw(&first);
    bench.saw(&second);
    Ok(())
}

/// Every run, and what a bare commit takes in milliseconds.
async fn runs(bench: &Bench, from: &Node, to: &Node) -> Result<(Vec<Found>, f64)> {
    let window = bench.options.plan().timing.window;
    let first_counted = (WARM_UP.as_secs_f64() * RATE) as u64;
    let total = first_counted + (window.as_secs_f64() * RATE) as u64;
    let database = from.database()?;
    let (mut found, mut commits) = (Vec::new(), Vec::new());
    let runs = if bench.options.is_quick() { 1 } else { RUNS };
    for run in 0..runs {
        let topic = format!("socket-{run}");
        from.create(&topic, 1).await?;
        let times = Run(Times::new(total, first_counted));
        let receiver = receiver(to.address, &topic, times.0.clone())?;
        let publisher = publisher(from.address, &topic, RATE, times.0.clone())?;
        let ended = || receiver.is_finished() && publisher.is_finished();
        while !ended() {
            sleep(Duration::from_millis(20)).await;
        }
        publisher.join().ok().context("the publisher panicked")??;
        let latency = receiver.join().ok().context("the receiver panicked")??;
        from.verify(&topic, 1, total).await?;
        let [p50, p99] = [0.5, 0.99].map(|share| latency.micros(share) / 1_000.0);
        found.push(Found { p50, p99, longest: latency.max_micros() / 1_000.0 });
        commits.push(database.bare_commit(COMMITS).await? / 1_000.0);
    }
    Ok((found, median(&commits)))
}

fn lines(bench: &mut Bench, what: &str, found: &[Found], commit: f64, most: (f64, f64)) {
    let of = |pick: fn(&Found) -> f64| found.iter().map(pick).collect::<Vec<f64>>();
    let each = |figures: &[f64]| {
        figures.iter().map(|figure| number(*figure)).collect::<Vec<_>>().join(", ")
    };
    let longest = each(&of(|found| found.longest));
    for (name, figures, most) in
        [("p50", of(|found| found.p50), most.0), ("p99", of(|found| found.p99), most.1)]
    {
        let figure = median(&figures);
        bench.report.line(Line {
            what: format!("{what}: {name} ms"),
            ours: format!("{} ms", number(figure)),
            floor: format!("commit {} ms", number(commit)),
            figure,
            bar: Bar::AtMost(most),
            note: format!("runs {}; the longest of each {longest} ms", each(&figures)),
            void: String::new(),
        });
    }
}
