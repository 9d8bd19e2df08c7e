//! Closed-loop load: a number of workers, each with one request under way, on a few threads that
//! run nothing else.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    sync::oneshot,
    task::LocalSet,
    time::{sleep, timeout},
};

use super::{client::Connection, histogram::Histogram};

/// How long answers may be waited for after the last request of a load was sent.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// How long a load runs, and on how many threads.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time before the measured window.
    pub warm_up: Duration,
    /// The measured window.
    pub window: Duration,
    /// Threads that share the workers.
    pub threads: usize,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages acknowledged within the window, per second.
    pub rate: f64,
    /// Messages acknowledged from the first request to the last answer.
    pub acknowledged: u64,
    /// Time from a request to its answer, over the whole load.
    pub latency: Histogram,
}

/// Something that can be asked again and again, one request at a time.
pub trait Worker {
    /// Sends one request and waits for its answer: how many messages were acknowledged.
    fn once(&mut self) -> impl Future<Output = Result<u64>>;

    /// Waits for what is still under way after the last request: how many messages that was.
    fn end(&mut self) -> impl Future<Output = Result<u64>> {
        async { Ok(0) }
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    messages: AtomicU64,
}

/// Stops the threads also when the waiting future is dropped.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Runs `workers` workers, which `open` makes, for the time of `timing`.
///
/// # Errors
/// When a worker cannot be opened or fails once: such a run measures nothing.
pub async fn drive<W, O, F>(timing: Timing, workers: usize, open: O) -> Result<Outcome>
where
    W: Worker + 'static,
    O: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = Result<W>> + 'static,
{
    let threads = timing.threads.clamp(1, workers.max(1));
    let shared: Vec<_> = (0..threads).map(|_| Arc::new(Shared::default())).collect();
    let guards: Vec<_> = shared.iter().cloned().map(Running).collect();
    let mut results = Vec::new();
    for (index, shared) in shared.iter().enumerate() {
        let (answer, result) = oneshot::channel();
        let (open, shared) = (open.clone(), shared.clone());
        let mine: Vec<_> = (index..workers).step_by(threads).collect();
        thread::Builder::new().name(format!("load-{index}")).spawn(move || {
            let _ = answer.send(run_thread(timing, mine, open, &shared));
        })?;
        results.push(result);
    }
    sleep(timing.warm_up).await;
    let (began, before) = (Instant::now(), total(&shared));
    sleep(timing.window).await;
    let (took, after) = (began.elapsed(), total(&shared));
    drop(guards);
    let mut outcome =
        Outcome { rate: (after - before) as f64 / took.as_secs_f64(), ..Outcome::default() };
    for result in results {
        let latency = result.await.context("a load thread ended early")??;
        outcome.latency.merge(&latency);
    }
    outcome.acknowledged = total(&shared);
    Ok(outcome)
}

fn total(shared: &[Arc<Shared>]) -> u64 {
    shared.iter().map(|shared| shared.messages.load(Ordering::Relaxed)).sum()
}

fn run_thread<W, O, F>(
    timing: Timing,
    mine: Vec<usize>,
    open: O,
    shared: &Arc<Shared>,
) -> Result<Histogram>
where
    W: Worker + 'static,
    O: Fn(usize) -> F + 'static,
    F: Future<Output = Result<W>> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let deadline = timing.warm_up + timing.window + LAST_ANSWERS;
    LocalSet::new().block_on(&runtime, async {
        let tasks: Vec<_> = mine
            .into_iter()
            .map(|number| tokio::task::spawn_local(repeat(open(number), shared.clone())))
            .collect();
        let all = async {
            let mut latency = Histogram::default();
            for task in tasks {
                latency.merge(&task.await??);
            }
            Ok(latency)
        };
        timeout(deadline, all).await.context("answers outstanding after the load's end")?
    })
}

async fn repeat<W: Worker>(
    open: impl Future<Output = Result<W>>,
    shared: Arc<Shared>,
) -> Result<Histogram> {
    let stop_on_error = Running(shared.clone());
    let mut worker = open.await?;
    let mut latency = Histogram::default();
    while !shared.stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let messages = worker.once().await?;
        latency.record(sent.elapsed());
        // One writer a counter: a plain load and store keeps the bus lock out of the loop.
        shared
            .messages
            .store(shared.messages.load(Ordering::Relaxed) + messages, Ordering::Relaxed);
    }
    let messages = worker.end().await?;
    shared.messages.store(shared.messages.load(Ordering::Relaxed) + messages, Ordering::Relaxed);
    drop(stop_on_error);
    Ok(latency)
}

/// A connection that walks over prepared requests.
pub struct Publisher {
    connection: Connection,
    requests: Arc<Vec<Vec<u8>>>,
    next: usize,
    per_request: u64,
}

impl Publisher {
    /// Connects worker `number` of `workers`, which starts at a place of its own in `requests`.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn open(
        address: SocketAddr,
        requests: Arc<Vec<Vec<u8>>>,
        per_request: u64,
        (number, workers): (usize, usize),
    ) -> Result<Self> {
        let connection = Connection::open(address).await.context("connecting")?;
        let next = number * requests.len() / workers.max(1);
        Ok(Self { connection, requests, next, per_request })
    }
}

impl Worker for Publisher {
    async fn once(&mut self) -> Result<u64> {
        let request = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        let answer = self.connection.exchange(request).await.context("a request unanswered")?;
        if !answer.is_success() {
            bail!("answered {}: {}", answer.status, String::from_utf8_lossy(answer.body));
        }
        Ok(self.per_request)
    }
}

/// Runs prepared requests of `per_request` messages over `connections` connections.
///
/// # Errors
/// As [`drive`]; also when an answer is anything but 2xx.
pub async fn publish(
    timing: Timing,
    address: SocketAddr,
    requests: &Arc<Vec<Vec<u8>>>,
    per_request: u64,
    connections: usize,
) -> Result<Outcome> {
    let requests = requests.clone();
    drive(timing, connections, move |number| {
        Publisher::open(address, requests.clone(), per_request, (number, connections))
    })
    .await
}
