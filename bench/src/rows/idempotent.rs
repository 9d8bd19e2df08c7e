//! Idempotent single publishes of 100 bytes into one partition, beside plain ones of the same node
//! in the same round: 64 producers, one request of each under way, and one producer with 64.

use std::sync::Arc;

use anyhow::Result;

use crate::{
    Bench,
    load::{
        generator,
        numbered::{self, Numbered, Window},
        payload::{self, Shape},
    },
    report::{Bar, Line, number},
    rounds,
    servers::node::Node,
};

/// Requests under way at any time.
const CONNECTIONS: usize = 64;
const BAR: Bar = Bar::AtLeast(0.8);
const OURS: usize = 0;
const PLAIN: usize = 1;

/// Measures both rows.
///
/// # Errors
/// When a server fails, or what was acknowledged is not in the log.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("idempotent").await?;
    for (what, producers) in [
        ("idempotent single publishes, 64 producers", CONNECTIONS),
        ("idempotent single publishes, one producer, 64 under way", 1),
    ] {
        row(bench, &node, what, producers).await?;
    }
    bench.saw(&node);
    Ok(())
}

async fn row(bench: &mut Bench, node: &Node, what: &str, producers: usize) -> Result<()> {
    let topics = [format!("idempotent-{producers}"), format!("plain-{producers}")];
    for topic in &topics {
        node.create(topic, 1).await?;
    }
    let plain = Arc::new(payload::publishes(node.address, &topics[PLAIN], Shape::Single));
    // Sequences go on from round to round.
    let windows: Vec<Arc<Window>> = (0..producers).map(|_| Arc::default()).collect();
    let ours: Vec<_> = (0..producers)
        .map(|producer| Arc::new(numbered::publishes(node.address, &topics[OURS], producer)))
        .collect();
    let plan = bench.options.plan();
    let mut acknowledged = [0, 0];
    let samples = rounds::interleave(plan, &bench.echo, 2, None, async |side| {
        let parties = node.parties()?;
        let (sample, messages) = if side == PLAIN {
            let load = generator::publish(plan.timing, node.address, &plain, 1, CONNECTIONS);
            rounds::observe(&parties, load).await?
        } else {
            let (ours, windows, address) = (ours.clone(), windows.clone(), node.address);
            let load = generator::drive(plan.timing, CONNECTIONS, move |number| {
                let producer = number % producers;
                Numbered::open(address, ours[producer].clone(), windows[producer].clone(), number)
            });
            rounds::observe(&parties, load).await?
        };
        acknowledged[side] += messages;
        Ok(sample)
    })
    .await?;
    for (topic, acknowledged) in topics.iter().zip(acknowledged) {
        node.verify(topic, 1, acknowledged).await?;
    }
    bench.report.line(Line {
        what: format!("{what} / plain ones"),
        ours: format!("{}/s", number(samples.figure(OURS))),
        floor: format!("plain {}/s", number(samples.figure(PLAIN))),
        figure: samples.ratio(OURS, PLAIN),
        bar: BAR,
        note: samples.note(OURS, PLAIN),
        void: samples.void.clone(),
    });
    Ok(())
}
