//! One client that publishes one message at a time, beside the append function called directly
//! and the echo; and eight clients beside eight connections that call the append function.

use std::sync::Arc;

use anyhow::Result;

use crate::{
    Bench,
    database::{Appender, Flush},
    load::{
        generator,
        payload::{self, Shape},
    },
    report::{Bar, Line, number},
    rounds::{self, Party, Plan, Sample},
    servers::node::Node,
};

const TOPIC: &str = "latency";
const DIRECT: &str = "latency-direct";
const CLIENTS: usize = 8;
const OURS: usize = 0;
const APPEND: usize = 1;
const ECHO: usize = 2;
/// Eight connections that all append to one partition, and wait for its lock in turn.
const APPEND_TO_ONE: usize = 2;

/// Measures both comparisons.
///
/// # Errors
/// When a server fails, or what was acknowledged is not in the log.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("latency").await?;
    node.create(TOPIC, 1).await?;
    node.create(DIRECT, CLIENTS).await?;
    let mut acknowledged = one(bench, &node).await?;
    acknowledged += eight(bench, &node).await?;
    node.verify(TOPIC, 1, acknowledged).await?;
    bench.saw(&node);
    Ok(())
}

async fn one(bench: &mut Bench, node: &Node) -> Result<u64> {
    let mut plan = bench.options.plan();
    plan.timing.threads = 1;
    let echoed = Arc::new(payload::publishes(bench.echo.address, TOPIC, Shape::Single));
    let ours = Arc::new(payload::publishes(node.address, TOPIC, Shape::Single));
    let mut acknowledged = 0;
    let samples = rounds::interleave(plan, &bench.echo, 3, None, async |side| {
        let (mut sample, messages) = match side {
            APPEND => append(node, plan, 1, false).await?,
            ECHO => {
                let load = generator::publish(plan.timing, bench.echo.address, &echoed, 1, 1);
                rounds::observe(&[Party::Server(bench.echo.pid())], load).await?
            }
            _ => {
                let load = generator::publish(plan.timing, node.address, &ours, 1, 1);
                rounds::observe(&node.parties()?, load).await?
            }
        };
        if side == OURS {
            acknowledged += messages;
        }
        sample.figure = sample.latency[0];
        Ok(sample)
    })
    .await?;
    let commit = node.database()?.bare_commit(1_000).await?;
    let [ours, append, echo] = [OURS, APPEND, ECHO].map(|side| samples.figure(side));
    bench.report.line(Line {
        what: "one client, one message at a time, p50 / append + echo".into(),
        ours: format!("{} µs", number(ours)),
        floor: format!("{} + {} µs", number(append), number(echo)),
        figure: ours / (append + echo),
        bar: Bar::AtMost(1.2),
        note: format!("ours {}", samples.side_note(OURS)),
        void: samples.void.clone(),
    });
    bench.report.line(Line {
        what: "the same / a bare commit".into(),
        ours: format!("{} µs", number(ours)),
        floor: format!("commit {} µs", number(commit)),
        figure: ours / commit,
        bar: Bar::None,
        note: String::new(),
        void: samples.void.clone(),
    });
    Ok(acknowledged)
}

async fn eight(bench: &mut Bench, node: &Node) -> Result<u64> {
    let plan = bench.options.plan();
    let ours = Arc::new(payload::publishes(node.address, TOPIC, Shape::Single));
    let mut acknowledged = 0;
    let samples = rounds::interleave(plan, &bench.echo, 3, None, async |side| {
        if side != OURS {
            return Ok(append(node, plan, CLIENTS, side == APPEND_TO_ONE).await?.0);
        }
        let load = generator::publish(plan.timing, node.address, &ours, 1, CLIENTS);
        let (sample, messages) = rounds::observe(&node.parties()?, load).await?;
        acknowledged += messages;
        Ok(sample)
    })
    .await?;
    let what = "eight clients, one message at a time";
    bench.line(what, &samples, ("append, 8 partitions", APPEND), Bar::AtLeast(1.3));
    bench.line(what, &samples, ("append, one partition", APPEND_TO_ONE), Bar::None);
    Ok(acknowledged)
}

/// Calls the append function with one message at a time, each connection for a partition of its
/// own, or all for one.
async fn append(
    node: &Node,
    plan: Plan,
    connections: usize,
    to_one: bool,
) -> Result<(Sample, u64)> {
    let database = node.database()?;
    let target = database.target(DIRECT).await?;
    let flushes = Flush::several(1, 1);
    let load = generator::drive(plan.timing, connections, move |number| {
        let target = target.only(if to_one { 0 } else { number });
        Appender::open(database.clone(), target, flushes.clone())
    });
    rounds::observe(&node.parties()?, load).await
}
