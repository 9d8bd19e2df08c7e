//! A group of four drains a backlog of a million messages and commits with every poll, beside
//! plain readers of the same messages: one that goes through the partitions in turn, and four.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::{sync::oneshot, task::LocalSet, time::timeout};

use super::backlog::{MESSAGES, PAGE, fill};
use crate::{
    Bench,
    load::{
        client::Connection,
        generator::Outcome,
        histogram::Histogram,
        member::{Member, Message},
        payload,
    },
    report::{Bar, Line, number},
    rounds::{self, Samples},
    servers::node::Node,
};

pub(super) const TOPIC: &str = "groups";
pub(super) const MEMBERS: usize = 4;
/// How long a drain may take.
pub(super) const DRAIN: Duration = Duration::from_secs(300);
const GROUP: usize = 0;
const PLAIN: usize = 1;
const FOUR: usize = 2;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    next_offset: u64,
    high_watermark: u64,
}

/// Measures it.
///
/// # Errors
/// When the node fails, or messages are missing.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("groups").await?;
    node.create(TOPIC, MEMBERS).await?;
    fill(&node, TOPIC, MEMBERS).await?;
    let (plan, parties, address) = (bench.options.plan(), node.parties()?, node.address);
    let threads = plan.timing.threads;
    let mut groups = 0;
    let samples = rounds::interleave(plan, &bench.echo, 3, None, async |side| {
        let all: Vec<u32> = (0..MEMBERS as u32).collect();
        let each: Vec<Vec<u32>> = all.iter().map(|partition| vec![*partition]).collect();
        let load: std::pin::Pin<Box<dyn Future<Output = Result<Outcome>>>> = match side {
            GROUP => {
                groups += 1;
                let members = assemble(&node, &format!("drain-{groups}")).await?;
                Box::pin(work(threads, members, drain))
            }
            PLAIN => Box::pin(work(1, vec![all], move |mine| read(address, mine))),
            _ => Box::pin(work(threads, each, move |mine| read(address, mine))),
        };
        let (sample, messages) = rounds::observe(&parties, load).await?;
        if messages != MESSAGES as u64 {
            bail!("{messages} messages were read, not {MESSAGES}");
        }
        Ok(sample)
    })
    .await?;
    let what = "a group of 4 draining 1,000,000 with commits: messages/s";
    line(bench, what, &samples, ("one plain reader", PLAIN), Bar::AtLeast(0.6));
    line(bench, what, &samples, ("four plain readers", FOUR), Bar::None);
    bench.saw(&node);
    Ok(())
}

fn line(bench: &mut Bench, what: &str, samples: &Samples, floor: (&str, usize), bar: Bar) {
    let (name, side) = floor;
    bench.report.line(Line {
        what: what.into(),
        ours: format!("{}/s", number(samples.figure(GROUP))),
        floor: format!("{name} {}/s", number(samples.figure(side))),
        figure: samples.ratio(GROUP, side),
        bar,
        note: samples.note(GROUP, side),
        void: samples.void.clone(),
    });
}

/// A new group, each of whose members has one partition.
async fn assemble(node: &Node, group: &str) -> Result<Vec<Member>> {
    let body = format!("{{\"topics\":[\"{TOPIC}\"]}}");
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(Member::join(node.address, group, &body).await?);
    }
    let since = Instant::now();
    loop {
        for member in &mut members {
            member.poll(0, "0s").await?;
        }
        let is_settled =
            |member: &Member| member.assignments.len() == 1 && member.revoke.is_empty();
        if members.iter().all(is_settled) {
            return Ok(members);
        }
        if since.elapsed() > DRAIN {
            bail!("the group does not settle");
        }
    }
}

/// Reads until nothing is left, and commits it.
async fn drain(member: Member) -> Result<(u64, Histogram)> {
    let mut member = member.reopen().await?;
    let (mut total, mut latency) = (0, Histogram::default());
    loop {
        let sent = Instant::now();
        let count = member.poll(PAGE, "0s").await?;
        latency.record(sent.elapsed());
        total += count;
        if count == 0 {
            return Ok((total, latency));
        }
    }
}

/// Reads partitions to their ends without a group.
pub(super) async fn read(address: SocketAddr, partitions: Vec<u32>) -> Result<(u64, Histogram)> {
    let mut connection = Connection::open(address).await?;
    let (mut total, mut latency) = (0, Histogram::default());
    for partition in partitions {
        let mut from = 0;
        loop {
            let path = format!(
                "/v1/topics/{TOPIC}/partitions/{partition}/messages?from={from}&limit={PAGE}"
            );
            let sent = Instant::now();
            let request = payload::request(address, "GET", &path, "");
            let answer = connection.exchange(&request).await.context("a page")?;
            let page: Page<'_> = serde_json::from_slice(answer.body).context("an odd page")?;
            latency.record(sent.elapsed());
            let in_order = page.messages.iter().zip(from..).all(|(message, offset)| {
                message.offset == offset && message.partition == partition
            });
            if !in_order {
                bail!("a page from {from} of {partition} is not in order");
            }
            total += page.messages.len() as u64;
            from = page.next_offset;
            if from == page.high_watermark {
                break;
            }
        }
    }
    Ok((total, latency))
}

/// Runs a piece of work for each of `things` on a few threads that run nothing else.
pub(super) async fn work<T, W, F>(threads: usize, things: Vec<T>, each: W) -> Result<Outcome>
where
    T: Send + 'static,
    W: Fn(T) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(u64, Histogram)>> + 'static,
{
    let threads = threads.clamp(1, things.len());
    let mut shares: Vec<Vec<T>> = (0..threads).map(|_| Vec::new()).collect();
    for (at, thing) in things.into_iter().enumerate() {
        shares[at % threads].push(thing);
    }
    let began = Instant::now();
    let mut results = Vec::new();
    for share in shares {
        let ((answer, result), each) = (oneshot::channel(), each.clone());
        thread::Builder::new().name("drain".into()).spawn(move || {
            let _ = answer.send(on_thread(share, each));
        })?;
        results.push(result);
    }
    let mut outcome = Outcome::default();
    for result in results {
        for (count, latency) in result.await.context("a thread ended early")?? {
            outcome.acknowledged += count;
            outcome.latency.merge(&latency);
        }
    }
    outcome.rate = outcome.acknowledged as f64 / began.elapsed().as_secs_f64();
    Ok(outcome)
}

fn on_thread<T, F>(share: Vec<T>, each: impl Fn(T) -> F) -> Result<Vec<(u64, Histogram)>>
where
    F: Future<Output = Result<(u64, Histogram)>> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let tasks: Vec<_> =
            share.into_iter().map(|thing| tokio::task::spawn_local(each(thing))).collect();
        let all = async {
            let mut done = Vec::new();
            for task in tasks {
                done.push(task.await??);
            }
            Ok(done)
        };
        timeout(DRAIN, all).await.context("not drained in time")?
    })
}
