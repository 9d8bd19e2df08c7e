//! Batches of 100 messages of 100 bytes over 64 connections into sixteen partitions, beside the
//! append function driven directly with full flushes and beside durable-streams.

use std::sync::Arc;

use anyhow::Result;

use crate::{
    Bench,
    database::{Appender, Flush},
    load::{
        generator,
        payload::{self, Shape},
    },
    options::Row,
    report::Bar,
    rounds::{self, Party},
    servers::streams::Streams,
};

const TOPIC: &str = "batches";
const DIRECT: &str = "batches-direct";
const SHAPE: Shape = Shape::Batch(100);
const CONNECTIONS: usize = 64;
/// Messages of each partition in a full flush.
const FULL: usize = 1_000;
/// Connections that drive the append function: one waits for the partitions' locks with its flush
/// already sent, while the other commits. More of them were not faster.
const APPENDERS: usize = 2;
const APPEND: usize = 1;
const STREAMS: usize = 2;

/// Measures both comparisons in the same rounds.
///
/// # Errors
/// When a server fails, or what was acknowledged is not in the log.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let (plan, partitions) = (bench.options.plan(), SHAPE.partitions());
    let node = bench.node("batches").await?;
    let database = node.database()?;
    node.create(TOPIC, partitions).await?;
    node.create(DIRECT, partitions).await?;
    let target = database.target(DIRECT).await?;
    let flushes = Flush::several(partitions, FULL);
    let ours = Arc::new(payload::publishes(node.address, TOPIC, SHAPE));
    let mut streams = None;
    let mut appends = Arc::default();
    if bench.options.wants(Row::Streams) {
        let server = Streams::start(&bench.folder, &bench.target).await?;
        server.create(TOPIC, partitions).await?;
        appends = Arc::new(payload::stream_appends(server.address, TOPIC, partitions, SHAPE));
        streams = Some(server);
    }
    let (mut acknowledged, mut appended) = (0, 0);
    let sides = if streams.is_some() { 3 } else { 2 };
    let samples =
        rounds::interleave(plan, &bench.echo, sides, None, async |side| match (side, &streams) {
            (STREAMS, Some(streams)) => {
                let (address, each) = (streams.address, SHAPE.messages());
                let load = generator::publish(plan.timing, address, &appends, each, CONNECTIONS);
                Ok(rounds::observe(&[Party::Server(streams.pid())], load).await?.0)
            }
            (APPEND, _) => {
                let (database, target, flushes) =
                    (database.clone(), target.clone(), flushes.clone());
                let load = generator::drive(plan.timing, APPENDERS, move |_| {
                    Appender::open(database.clone(), target.clone(), flushes.clone())
                });
                let (sample, messages) = rounds::observe(&node.parties()?, load).await?;
                appended += messages;
                Ok(sample)
            }
            _ => {
                let each = SHAPE.messages();
                let load = generator::publish(plan.timing, node.address, &ours, each, CONNECTIONS);
                let (sample, messages) = rounds::observe(&node.parties()?, load).await?;
                acknowledged += messages;
                Ok(sample)
            }
        })
        .await?;
    let used = node.verify(TOPIC, partitions, acknowledged).await?;
    node.verify(DIRECT, partitions, appended).await?;
    bench.report.fact(format!("batches went to {used} of {partitions} partitions"));
    let what = "batches of 100, 16 partitions, 64 connections";
    bench.line(what, &samples, ("append", APPEND), Bar::AtLeast(0.4));
    if streams.is_some() {
        bench.line(what, &samples, ("durable-streams", STREAMS), Bar::AtLeast(0.7));
    }
    bench.saw(&node);
    Ok(())
}
