//! The floors alone, without a node: what this machine's echo and durable-streams do, and what
//! the load generator takes of it.

use std::sync::Arc;

use anyhow::Result;

use crate::{
    Bench,
    load::{
        generator,
        payload::{self, Shape},
    },
    report::{Bar, Line, number},
    rounds::{self, Party},
    servers::streams::Streams,
};

/// Measures both with each number of connections.
///
/// # Errors
/// When a server fails.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let streams = Streams::start(&bench.folder, &bench.target).await?;
    let plan = bench.options.plan();
    for shape in [Shape::Single, Shape::Keyed, Shape::Batch(100)] {
        for connections in [1, 8, 64, 256, 1_024] {
            let (name, count) = (format!("floors-{shape:?}-{connections}"), shape.partitions());
            let name = name.replace(['(', ')'], "-");
            streams.create(&name, count).await?;
            let echoed = Arc::new(payload::publishes(bench.echo.address, &name, shape));
            let appended = Arc::new(payload::stream_appends(streams.address, &name, count, shape));
            let samples = rounds::interleave(plan, &bench.echo, 2, None, async |side| {
                let (address, requests, pid) = match side {
                    0 => (streams.address, &appended, streams.pid()),
                    _ => (bench.echo.address, &echoed, bench.echo.pid()),
                };
                let each = shape.messages();
                let load = generator::publish(plan.timing, address, requests, each, connections);
                Ok(rounds::observe(&[Party::Server(pid)], load).await?.0)
            })
            .await?;
            bench.report.line(Line {
                what: format!("durable-streams, {shape:?}, {connections} connections / echo"),
                ours: format!("{}/s", number(samples.figure(0))),
                floor: format!("echo {}/s", number(samples.figure(1))),
                figure: samples.ratio(0, 1),
                bar: Bar::None,
                note: samples.note(0, 1).replace("ours", "durable-streams"),
                void: samples.void.clone(),
            });
        }
    }
    Ok(())
}
