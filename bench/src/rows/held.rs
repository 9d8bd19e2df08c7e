//! Every publish row again beside a transaction that another session holds open: whatever updates
//! or deletes a row per publish collapses there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    Bench,
    load::{
        generator::{self, Timing},
        payload::{self, Shape},
    },
    report::{Bar, Line, number},
    rounds::{self, ECHO_FLOOR, Sample, Samples},
    servers::node::Node,
};

/// How long the transaction stands open in a round.
const HELD: Duration = Duration::from_secs(60);
const CELLS: [(Shape, usize); 9] = [
    (Shape::Batch(100), 64),
    (Shape::Single, 64),
    (Shape::Single, 256),
    (Shape::Single, 1_024),
    (Shape::Keyed, 64),
    (Shape::Keyed, 256),
    (Shape::Keyed, 1_024),
    (Shape::Single, 8),
    (Shape::Single, 1),
];
const BESIDE: usize = 0;
const WITHOUT: usize = 1;

/// One publish row, over all rounds.
struct Cell {
    topic: String,
    shape: Shape,
    connections: usize,
    requests: Arc<Vec<Vec<u8>>>,
    acknowledged: u64,
    samples: Samples,
}

/// Measures every publish row beside the transaction and without it. Within a round all rows run
/// in turn, first without and then beside it, each round beginning with another row, so that
/// every row also runs late in the transaction's life.
///
/// # Errors
/// When a server fails, or what was acknowledged is not in the log.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("held").await?;
    let mut cells = Vec::new();
    for (shape, connections) in CELLS {
        let topic = format!("held-{}-{connections}", cells.len());
        node.create(&topic, shape.partitions()).await?;
        let requests = payload::publishes(node.address, &topic, shape).into();
        let samples = Samples::of(2);
        cells.push(Cell { topic, shape, connections, requests, acknowledged: 0, samples });
    }
    let plan = bench.options.plan();
    let timing = Timing { window: HELD / CELLS.len() as u32, ..plan.timing };
    let (mut round, mut voided) = (0, 0);
    while round < plan.rounds {
        cells.rotate_left(1);
        let mut samples = all(&node, &mut cells, timing, WITHOUT).await?;
        let held = node.database()?.hold().await?;
        samples.extend(all(&node, &mut cells, timing, BESIDE).await?);
        let took = held.release().await?;
        if took < HELD {
            bail!("the transaction stood open for {took:?} only");
        }
        if rounds::pace(&bench.echo, timing.threads).await? < ECHO_FLOOR {
            eprintln!("      round void: the echo was too slow");
            voided += 1;
            if voided < plan.rounds {
                continue;
            }
            cells.iter_mut().for_each(|cell| cell.samples.void = "the echo was too slow".into());
        }
        for (index, side, sample) in samples {
            cells[index].samples.push(side, sample);
        }
        round += 1;
    }
    cells.sort_by(|one, other| one.topic.cmp(&other.topic));
    for cell in &cells {
        node.verify(&cell.topic, cell.shape.partitions(), cell.acknowledged).await?;
        report(bench, cell);
    }
    bench.saw(&node);
    Ok(())
}

async fn all(
    node: &Node,
    cells: &mut [Cell],
    timing: Timing,
    side: usize,
) -> Result<Vec<(usize, usize, Sample)>> {
    let began = Instant::now();
    let mut samples = Vec::new();
    for (index, cell) in cells.iter_mut().enumerate() {
        let (requests, each) = (&cell.requests, cell.shape.messages());
        let load = generator::publish(timing, node.address, requests, each, cell.connections);
        let (sample, messages) = rounds::observe(&node.parties()?, load).await?;
        cell.acknowledged += messages;
        samples.push((index, side, sample));
    }
    let what = if side == BESIDE { "beside" } else { "without" };
    println!("      {what} the open transaction: {:?}", began.elapsed());
    Ok(samples)
}

fn report(bench: &mut Bench, cell: &Cell) {
    let Cell { shape, connections, samples, .. } = cell;
    let partitions = shape.partitions();
    let kind = match shape {
        Shape::Batch(count) => format!("batches of {count}"),
        Shape::Single | Shape::Keyed => "single publishes".into(),
    };
    bench.report.line(Line {
        what: format!("open transaction: {kind}, {partitions} partitions, {connections} conn."),
        ours: format!("{}/s", number(samples.figure(BESIDE))),
        floor: format!("without it {}/s", number(samples.figure(WITHOUT))),
        figure: samples.ratio(BESIDE, WITHOUT),
        bar: Bar::AtLeast(0.9),
        note: samples.note(BESIDE, WITHOUT),
        void: samples.void.clone(),
    });
}
