//! A group of four over sockets drains a backlog of a million messages and commits as it goes,
//! beside one plain reader of the same messages over HTTP that parses them alike.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::time::timeout;

use super::{
    backlog::{MESSAGES, fill},
    groups::{MEMBERS, TOPIC, read, work},
};
use crate::{
    Bench,
    load::{generator::Outcome, group_socket::GroupSocket, histogram::Histogram},
    report::{Bar, Line, number},
    rounds,
};

const GROUP: usize = 0;
const PLAIN: usize = 1;
/// How often a member that waits for the others looks whether they are there.
const LOOK: Duration = Duration::from_millis(5);
const ASSEMBLED: Duration = Duration::from_secs(60);

/// The members of one group, and from when to when they read.
#[derive(Default)]
struct Assembly {
    settled: AtomicUsize,
    span: Mutex<Option<(Instant, Instant)>>,
}

impl Assembly {
    fn read(&self, from: Instant, to: Instant) {
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, ended) = span.unwrap_or((from, to));
        *span = Some((began.min(from), ended.max(to)));
    }

    fn took(&self) -> Option<Duration> {
        let span = *self.span.lock().unwrap_or_else(PoisonError::into_inner);
        span.map(|(began, ended)| ended - began)
    }
}

/// Measures it.
///
/// # Errors
/// When the node fails, or messages are missing.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("group-sockets").await?;
    node.create(TOPIC, MEMBERS).await?;
    fill(&node, TOPIC, MEMBERS).await?;
    let ends: Arc<[u64]> = node.high_watermarks(TOPIC, MEMBERS).await?.into();
    let (plan, parties, address) = (bench.options.plan(), node.parties()?, node.address);
    let threads = plan.timing.threads;
    let mut groups = 0;
    let samples = rounds::interleave(plan, &bench.echo, 2, None, async |side| {
        let load: Pin<Box<dyn Future<Output = Result<Outcome>>>> = match side {
            PLAIN => {
                let all: Vec<u32> = (0..MEMBERS as u32).collect();
                Box::pin(work(1, vec![all], move |mine| read(address, mine)))
            }
            _ => {
                groups += 1;
                Box::pin(drain(threads, address, format!("sockets-{groups}"), Arc::clone(&ends)))
            }
        };
        let (sample, messages) = rounds::observe(&parties, load).await?;
        if messages != MESSAGES as u64 {
            bail!("{messages} messages were read, not {MESSAGES}");
        }
        Ok(sample)
    })
    .await?;
    bench.report.line(Line {
        what: "a group of 4 over sockets draining 1,000,000: messages/s".into(),
        ours: format!("{}/s", number(samples.figure(GROUP))),
        floor: format!("one plain reader {}/s", number(samples.figure(PLAIN))),
        figure: samples.ratio(GROUP, PLAIN),
        bar: Bar::AtLeast(0.8),
        note: samples.note(GROUP, PLAIN),
        void: samples.void.clone(),
    });
    bench.saw(&node);
    Ok(())
}

/// A new group reads everything. Assembling it is not counted.
async fn drain(
    threads: usize,
    address: SocketAddr,
    group: String,
    ends: Arc<[u64]>,
) -> Result<Outcome> {
    let assembly = Arc::new(Assembly::default());
    let all = Arc::clone(&assembly);
    let mut outcome = work(threads, vec![(); MEMBERS], move |()| {
        member(address, group.clone(), Arc::clone(&ends), Arc::clone(&all))
    })
    .await?;
    let took = assembly.took().context("nobody has read")?;
    outcome.rate = outcome.acknowledged as f64 / took.as_secs_f64();
    Ok(outcome)
}

async fn member(
    address: SocketAddr,
    group: String,
    ends: Arc<[u64]>,
    assembly: Arc<Assembly>,
) -> Result<(u64, Histogram)> {
    let mut member = GroupSocket::join(address, &group, TOPIC).await?;
    let (since, mut is_counted) = (Instant::now(), false);
    while assembly.settled.load(Ordering::Relaxed) < MEMBERS {
        if member.is_settled() != is_counted {
            is_counted = !is_counted;
            match is_counted {
                true => assembly.settled.fetch_add(1, Ordering::Relaxed),
                false => assembly.settled.fetch_sub(1, Ordering::Relaxed),
            };
        }
        if since.elapsed() > ASSEMBLED {
            bail!("the group does not settle");
        }
        if let Ok(followed) = timeout(LOOK, member.follow()).await {
            followed?;
        }
    }
    let partition = member.held.first().context("it has nothing")?.partition;
    let began = Instant::now();
    let count = member.drain(ends[partition as usize]).await?;
    assembly.read(began, Instant::now());
    Ok((count, Histogram::default()))
}
