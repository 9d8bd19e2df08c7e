//! One topic with many subscribers: every message goes to every socket.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;

use crate::{
    Bench,
    load::paced::{Crowd, Run, Times, publisher},
    process,
    report::{Bar, Line, number},
    servers::node::Node,
};

const TOPIC: &str = "fanout";
const RATE: f64 = 1_000.0;
/// The load before any socket is there, after which memory is looked at, and that which is not
/// counted with the sockets.
const BEFORE: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);
const OPENED: Duration = Duration::from_secs(60);
/// How long deliveries may go on after the last publish.
const LAST: Duration = Duration::from_secs(20);

/// What a crowd found.
struct Found {
    delivered: u64,
    p50: f64,
    p99: f64,
    memory_each: f64,
    cpu_each: f64,
    cpu_share: f64,
    reads: u64,
    appended: u64,
}

/// Measures 100 and 1,000 subscribers.
///
/// # Errors
/// When the node fails, or a message is lost.
pub async fn run(bench: &mut Bench) -> Result<()> {
    for (sockets, p99) in [(100, 3.0), (1_000, 30.0)] {
        let node = bench.node(&format!("fanout-{sockets}")).await?;
        let found = crowd(bench, &node, sockets).await?;
        let is_full = sockets == 1_000;
        report(bench, sockets, &found, p99, is_full);
        bench.saw(&node);
    }
    Ok(())
}

async fn crowd(bench: &Bench, node: &Node, sockets: usize) -> Result<Found> {
    let timing = bench.options.plan().timing;
    let count = |time: Duration| (time.as_secs_f64() * RATE) as u64;
    node.create("before", 1).await?;
    let times = Run(Times::new(count(BEFORE), 0));
    let before = publisher(node.address, "before", RATE, times.0.clone())?;
    while !before.is_finished() {
        sleep(Duration::from_millis(20)).await;
    }
    before.join().ok().context("the publisher panicked")??;

    node.create(TOPIC, 1).await?;
    let memory = process::memory(node.pid()).context("no memory to look at")?;
    let total = count(WARM_UP) + count(timing.window);
    let times = Run(Times::new(total, count(WARM_UP)));
    let crowd = Crowd::begin(node.address, TOPIC, sockets, timing.threads, &times.0)?;
    let began = Instant::now();
    while crowd.ready() < sockets as u64 {
        crowd.check()?;
        if began.elapsed() > OPENED {
            bail!("{} of {sockets} sockets are open", crowd.ready());
        }
        sleep(Duration::from_millis(10)).await;
    }
    let metrics = async || -> Result<[u64; 2]> {
        let names = ["postrider_read_pages_total", "postrider_append_flushes_total"];
        node.metrics(&names).await?.try_into().ok().context("two metrics")
    };
    let [reads, appended] = metrics().await?;
    let (cpu, began) = (process::cpu(node.pid()), Instant::now());
    let publishing = publisher(node.address, TOPIC, RATE, times.0.clone())?;
    let (expected, mut most_memory, mut published) = (total * sockets as u64, 0, None);
    while crowd.delivered() < expected {
        crowd.check()?;
        most_memory = most_memory.max(process::memory(node.pid()).unwrap_or(0));
        if publishing.is_finished() {
            let since = published.get_or_insert_with(Instant::now);
            if since.elapsed() > LAST {
                bail!("{} of {expected} messages were delivered", crowd.delivered());
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    let (cpu, took) = (process::cpu(node.pid()) - cpu, began.elapsed());
    let [reads, appended] = {
        let after = metrics().await?;
        [after[0] - reads, after[1] - appended]
    };
    publishing.join().ok().context("the publisher panicked")??;
    let latency = crowd.end()?;
    node.verify(TOPIC, 1, total).await?;
    Ok(Found {
        delivered: expected,
        p50: latency.micros(0.5) / 1_000.0,
        p99: latency.micros(0.99) / 1_000.0,
        memory_each: most_memory.saturating_sub(memory) as f64 / 1_000.0 / sockets as f64,
        cpu_each: cpu.as_secs_f64() * 1e6 / expected as f64,
        cpu_share: 100.0 * cpu.as_secs_f64() / took.as_secs_f64(),
        reads,
        appended,
    })
}

fn report(bench: &mut Bench, sockets: usize, found: &Found, p99: f64, is_full: bool) {
    let what = format!("fan-out to {} sockets, 1,000/s", number(sockets as f64));
    let mut line = |what: String, figure: f64, unit: &str, bar: Bar, note: String| {
        bench.report.line(Line {
            what,
            ours: format!("{} {unit}", number(figure)),
            floor: String::new(),
            figure,
            bar,
            note,
            void: String::new(),
        });
    };
    let note = format!(
        "p50 {} ms; all of {} deliveries, each in its turn; the node took {} % of a core",
        number(found.p50),
        number(found.delivered as f64),
        number(found.cpu_share.round()),
    );
    line(format!("{what}: p99 ms"), found.p99, "ms", Bar::AtMost(p99), note);
    let bar = |most: f64| if is_full { Bar::AtMost(most) } else { Bar::None };
    let none = String::new;
    line(format!("{what}: node memory each"), found.memory_each, "KB", bar(20.0), none());
    line(format!("{what}: node CPU a delivery"), found.cpu_each, "µs", bar(0.9), none());
    let note = format!("{} batches were appended", number(found.appended as f64));
    let most = bar(found.appended as f64);
    line(format!("{what}: reads from PostgreSQL"), found.reads as f64, "", most, note);
}
