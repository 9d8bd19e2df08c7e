//! Ten thousand topics in which nothing happens, each with a long poll parked on it; and how
//! long a node takes to start beside them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    task::{JoinSet, LocalSet},
    time::{sleep, timeout},
};

use crate::{
    Bench,
    load::{client::Connection, payload},
    process,
    report::{Bar, Line, number},
    servers::node::Node,
};

const TOPICS: usize = 10_000;
const MAKERS: usize = 16;
/// A topic that is refused with 503, as when the disk stalls, is tried again.
const TRIES: usize = 30;
const PAUSE: Duration = Duration::from_millis(500);
/// The polls begin over so long, so that their ends are spread as well.
const RAMP: Duration = Duration::from_secs(25);
const POLL: Duration = Duration::from_secs(60);
/// From the last poll's begin until the clock runs.
const SETTLE: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(60);

/// Measures it.
///
/// # Errors
/// When a node fails, or a poll is refused.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("idle").await?;
    let began = Instant::now();
    make_topics(&node).await?;
    let made = began.elapsed();
    let polls = Polls::begin(node.address)?;
    sleep(RAMP + SETTLE).await;
    polls.check()?;
    let postmaster = node.database()?.postmaster;
    let clocks = || (process::cpu(node.pid()), process::cpu_of_postgres(postmaster));
    let (answered, before, began) = (polls.answered(), clocks(), Instant::now());
    sleep(WATCHED).await;
    let (after, took) = (clocks(), began.elapsed());
    polls.check()?;
    let answered = polls.answered() - answered;
    drop(polls);
    let share = |before: Duration, after: Duration| {
        100.0 * (after - before).as_secs_f64() / took.as_secs_f64()
    };
    let note = format!(
        "{TOPICS} topics made in {} s; {answered} polls ended and began again in {} s",
        number(made.as_secs_f64()),
        number(took.as_secs_f64())
    );
    line(
        bench,
        "10,000 idle topics, polled: % of a core, node",
        share(before.0, after.0),
        2.0,
        note,
    );
    let what = "10,000 idle topics, polled: % of a core, PostgreSQL";
    line(bench, what, share(before.1, after.1), 2.0, String::new());
    bench.saw(&node);
    drop(node);
    let node = bench.node("idle").await?;
    let seconds = node.start_took.as_secs_f64();
    let note = "from starting the program to /readyz, its PostgreSQL included".into();
    line(bench, "start with 10,000 topics: seconds", seconds, 3.0, note);
    Ok(())
}

fn line(bench: &mut Bench, what: &str, figure: f64, most: f64, note: String) {
    bench.report.line(Line {
        what: what.into(),
        ours: number(figure),
        floor: String::new(),
        figure,
        bar: Bar::AtMost(most),
        note,
        void: String::new(),
    });
}

async fn make_topics(node: &Node) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut makers = JoinSet::new();
    for _ in 0..MAKERS {
        let (next, address) = (next.clone(), node.address);
        makers.spawn(async move {
            let mut connection = Connection::open(address).await?;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= TOPICS {
                    return Ok(());
                }
                let path = format!("/v1/topics/idle-{index}");
                let request = payload::request(address, "PUT", &path, "{\"partitions\":1}");
                let mut tries = 1;
                loop {
                    let answer = connection.exchange(&request).await?;
                    if answer.is_success() {
                        break;
                    }
                    if answer.status != 503 || tries == TRIES {
                        bail!("{path}: {}", String::from_utf8_lossy(answer.body));
                    }
                    tries += 1;
                    sleep(PAUSE).await;
                }
            }
        });
    }
    while let Some(maker) = makers.join_next().await {
        maker??;
    }
    Ok(())
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    failed: AtomicBool,
    answered: AtomicUsize,
}

/// Long polls on every topic, again and again, until this is dropped.
struct Polls(Arc<Shared>);

impl Polls {
    fn begin(address: SocketAddr) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let polls = Self(shared.clone());
        thread::Builder::new().name("polls".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return shared.failed.store(true, Ordering::Relaxed) };
            LocalSet::new().block_on(&runtime, async {
                for index in 0..TOPICS {
                    tokio::task::spawn_local(watched(address, index, shared.clone()));
                }
                while !shared.stop.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(100)).await;
                }
            });
        })?;
        Ok(polls)
    }

    fn answered(&self) -> usize {
        self.0.answered.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<()> {
        if self.0.failed.load(Ordering::Relaxed) {
            bail!("a long poll failed");
        }
        Ok(())
    }
}

impl Drop for Polls {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

async fn watched(address: SocketAddr, index: usize, shared: Arc<Shared>) {
    if let Err(error) = poll(address, index, &shared).await
        && !shared.failed.swap(true, Ordering::Relaxed)
    {
        eprintln!("      the poll of topic {index}: {error:#}");
    }
}

async fn poll(address: SocketAddr, index: usize, shared: &Shared) -> Result<()> {
    sleep(RAMP.mul_f64(index as f64 / TOPICS as f64)).await;
    let path = format!("/v1/topics/idle-{index}/partitions/0/messages?from=0&wait=30s");
    let request = payload::request(address, "GET", &path, "");
    let mut connection = Connection::open(address).await.context("connecting")?;
    loop {
        let answer = timeout(POLL, connection.exchange(&request)).await.context("no answer")??;
        if !answer.is_success() {
            bail!("{}: {}", answer.status, String::from_utf8_lossy(answer.body));
        }
        shared.answered.fetch_add(1, Ordering::Relaxed);
    }
}
