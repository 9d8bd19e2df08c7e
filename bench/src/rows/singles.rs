//! Single publishes of 100 bytes, into one partition and with keys over sixteen, beside the echo
//! and beside durable-streams.

use std::sync::Arc;

use anyhow::Result;

use crate::{
    Bench,
    load::{
        generator,
        payload::{self, Shape},
    },
    options::Row,
    report::{Bar, Line, number},
    rounds::{self, Party, Samples},
    servers::{node::Node, streams::Streams},
};

/// Connections, the bar beside the echo and the bar beside durable-streams.
const CELLS: [(usize, Bar, Bar); 4] = [
    (8, Bar::None, Bar::AtLeast(0.45)),
    (64, Bar::AtLeast(0.48), Bar::AtLeast(0.75)),
    (256, Bar::AtLeast(0.70), Bar::AtLeast(1.0)),
    (1_024, Bar::AtLeast(0.72), Bar::AtLeast(1.0)),
];
const OURS: usize = 0;
const ECHO: usize = 1;
const STREAMS: usize = 2;

/// One comparison: a shape over so many partitions (or streams).
struct Cell {
    name: String,
    shape: Shape,
    partitions: usize,
    connections: usize,
}

/// Measures every cell.
///
/// # Errors
/// When a server fails, or what was acknowledged is not in the log.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("singles").await?;
    let streams = match bench.options.wants(Row::Streams) {
        true => Some(Streams::start(&bench.folder, &bench.target).await?),
        false => None,
    };
    for (shape, partitions) in [(Shape::Single, 1), (Shape::Keyed, 16)] {
        for (connections, beside_echo, beside_streams) in CELLS {
            let wanted = connections == 64 || !bench.options.is_quick();
            if !wanted || (connections == 8 && streams.is_none()) {
                continue;
            }
            let name = format!("singles-{partitions}-{connections}");
            let cell = Cell { name, shape, partitions, connections };
            let samples = measure(bench, &node, streams.as_ref(), &cell).await?;
            let what =
                format!("single publishes, {partitions} partitions, {connections} connections");
            bench.line(&what, &samples, ("echo", ECHO), beside_echo);
            if streams.is_some() {
                bench.line(&what, &samples, ("durable-streams", STREAMS), beside_streams);
            }
        }
    }
    bench.saw(&node);
    Ok(())
}

async fn measure(
    bench: &Bench,
    node: &Node,
    streams: Option<&Streams>,
    cell: &Cell,
) -> Result<Samples> {
    let Cell { name, shape, partitions, connections } = cell;
    node.create(name, *partitions).await?;
    let ours = Arc::new(payload::publishes(node.address, name, *shape));
    let echoed = Arc::new(payload::publishes(bench.echo.address, name, *shape));
    let mut appended = Arc::default();
    if let Some(streams) = streams {
        streams.create(name, *partitions).await?;
        appended = Arc::new(payload::stream_appends(streams.address, name, *partitions, *shape));
    }
    let plan = bench.options.plan();
    let sides = if streams.is_some() { 3 } else { 2 };
    let mut acknowledged = 0;
    let samples = rounds::interleave(plan, &bench.echo, sides, Some(ECHO), async |side| {
        let (address, requests) = match (side, streams) {
            (OURS, _) => (node.address, &ours),
            (STREAMS, Some(streams)) => (streams.address, &appended),
            _ => (bench.echo.address, &echoed),
        };
        let parties = match (side, streams) {
            (OURS, _) => node.parties()?,
            (STREAMS, Some(streams)) => vec![Party::Server(streams.pid())],
            _ => vec![Party::Server(bench.echo.pid())],
        };
        let load = generator::publish(plan.timing, address, requests, 1, *connections);
        let (sample, messages) = rounds::observe(&parties, load).await?;
        if side == OURS {
            acknowledged += messages;
        }
        Ok(sample)
    })
    .await?;
    node.verify(name, *partitions, acknowledged).await?;
    Ok(samples)
}

impl Bench {
    /// Adds a line that compares our rate, side 0, with that of side `floor`.
    pub fn line(&mut self, what: &str, samples: &Samples, (floor, side): (&str, usize), bar: Bar) {
        self.report.line(Line {
            what: format!("{what} / {floor}"),
            ours: format!("{}/s", number(samples.figure(OURS))),
            floor: format!("{floor} {}/s", number(samples.figure(side))),
            figure: samples.ratio(OURS, side),
            bar,
            note: samples.note(OURS, side),
            void: samples.void.clone(),
        });
    }
}
