//! One socket publishes messages at set times, and others tell how long each took to reach them.
//! The topic has one partition and one publisher, so a message's number is its offset.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::task::{JoinSet, LocalSet};

use super::{
    frames,
    histogram::Histogram,
    payload::{self, VALUE_BYTES},
    socket::{Blocking, Socket, is_ok},
};

/// Different messages.
const POOL: usize = 1_024;
/// How long a message may be under way.
const PATIENCE: Duration = Duration::from_secs(20);
/// Credit of a subscriber, and after how many messages it is given again.
const CREDIT: u64 = 100_000;
const AGAIN: u64 = 50_000;
const CREDIT_BYTES: u64 = 64 * 1024 * 1024;

/// When each message of a run was sent.
pub struct Times {
    began: Instant,
    sent: Vec<AtomicU64>,
    /// The first message that counts.
    first_counted: u64,
    stop: AtomicBool,
}

impl Times {
    /// Of `total` messages, of which those from `first_counted` on count.
    pub fn new(total: u64, first_counted: u64) -> Arc<Self> {
        let sent = (0..total).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { began: Instant::now(), sent, first_counted, stop: AtomicBool::new(false) })
    }

    /// Messages of the run.
    pub fn total(&self) -> u64 {
        self.sent.len() as u64
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn received(&self, number: u64, now: u64, latency: &mut Histogram) -> Result<()> {
        let sent = self.sent.get(number as usize).context("a message that nobody sent")?;
        let sent = sent.load(Ordering::Acquire);
        if sent == 0 {
            bail!("message {number} came before it was sent");
        }
        if number >= self.first_counted {
            latency.record(Duration::from_nanos(now.saturating_sub(sent)));
        }
        Ok(())
    }
}

/// Ends the threads of a run when it is dropped.
pub struct Run(pub Arc<Times>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// A thread that publishes every message of `times` to `topic`, `rate` a second, and waits for
/// every acknowledgement.
///
/// # Errors
/// When there is no thread.
pub fn publisher(
    address: SocketAddr,
    topic: &str,
    rate: f64,
    times: Arc<Times>,
) -> Result<JoinHandle<Result<()>>> {
    let topic = topic.to_owned();
    let body = move || publish(address, &topic, rate, &times);
    Ok(thread::Builder::new().name("publisher".into()).spawn(body)?)
}

fn publish(address: SocketAddr, topic: &str, rate: f64, times: &Times) -> Result<()> {
    let mut random = StdRng::seed_from_u64(3);
    let frame = |_| {
        let value = payload::text(&mut random, VALUE_BYTES);
        frames::text(&format!(
            "{{\"op\":\"publish\",\"id\":1,\"topic\":\"{topic}\",\
             \"messages\":[{{\"value\":\"{value}\"}}]}}"
        ))
    };
    let pool: Vec<_> = (0..POOL).map(frame).collect();
    let mut socket = Blocking::open(address, PATIENCE)?;
    socket.never_wait()?;
    let (began, mut acknowledged) = (Instant::now(), 0);
    for (number, sent) in times.sent.iter().enumerate() {
        let due = began + Duration::from_secs_f64(number as f64 / rate);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if times.stop.load(Ordering::Relaxed) {
            bail!("stopped");
        }
        sent.store(times.now(), Ordering::Release);
        socket.send(&pool[number % POOL])?;
        acknowledged += acknowledgements(&mut socket)?;
    }
    let since = Instant::now();
    while acknowledged < times.total() {
        if since.elapsed() > PATIENCE {
            bail!("{acknowledged} of {} messages were acknowledged", times.total());
        }
        thread::sleep(Duration::from_millis(1));
        acknowledged += acknowledgements(&mut socket)?;
    }
    Ok(())
}

fn acknowledgements(socket: &mut Blocking) -> Result<u64> {
    let mut count = 0;
    while let Some(frame) = socket.next()? {
        is_ok(frame)?;
        count += 1;
    }
    Ok(count)
}

/// A thread that receives every message of `times` and says how long they took.
///
/// # Errors
/// When it cannot subscribe.
pub fn receiver(
    address: SocketAddr,
    topic: &str,
    times: Arc<Times>,
) -> Result<JoinHandle<Result<Histogram>>> {
    let mut socket = Blocking::open(address, PATIENCE)?;
    socket.ask(&subscribe(topic))?;
    let body = move || {
        let (mut latency, mut next, mut credit) = (Histogram::default(), 0, 0);
        while next < times.total() {
            let frame = socket.next()?.with_context(|| format!("message {next} did not come"))?;
            let (now, before) = (times.now(), next);
            frames::offsets(frame, |offset| receive(&times, offset, now, &mut next, &mut latency))?;
            credit += next - before;
            if credit >= AGAIN {
                socket.send(&more_credit(&mut credit))?;
            }
        }
        Ok(latency)
    };
    Ok(thread::Builder::new().name("receiver".into()).spawn(body)?)
}

fn receive(
    times: &Times,
    offset: u64,
    now: u64,
    next: &mut u64,
    latency: &mut Histogram,
) -> Result<()> {
    if offset != *next {
        bail!("offset {offset} came where {next} was to come");
    }
    *next += 1;
    times.received(offset, now, latency)
}

fn subscribe(topic: &str) -> String {
    format!(
        "{{\"op\":\"subscribe\",\"id\":1,\"sub\":\"a\",\"topic\":\"{topic}\",\"from\":\"latest\",\
         \"credit\":{CREDIT},\"credit_bytes\":{CREDIT_BYTES}}}"
    )
}

/// A frame that gives back what was used; the bytes are filled up by the server.
fn more_credit(used: &mut u64) -> Vec<u8> {
    let messages = std::mem::take(used);
    frames::text(&format!("{{\"op\":\"credit\",\"sub\":\"a\",\"messages\":{messages}}}"))
}

/// Many subscribers of one topic, on threads that run nothing else.
pub struct Crowd {
    threads: Vec<JoinHandle<Result<Histogram>>>,
    ready: Arc<AtomicU64>,
    delivered: Arc<AtomicU64>,
    failed: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Crowd {
    /// Begins to open `sockets` sockets, each with one subscription.
    ///
    /// # Errors
    /// When there are no threads.
    pub fn begin(
        address: SocketAddr,
        topic: &str,
        sockets: usize,
        threads: usize,
        times: &Arc<Times>,
    ) -> Result<Self> {
        let mut crowd = Self {
            threads: Vec::new(),
            ready: Arc::default(),
            delivered: Arc::default(),
            failed: Arc::default(),
        };
        for number in 0..threads {
            let count = sockets / threads + usize::from(number < sockets % threads);
            let (topic, times) = (topic.to_owned(), Arc::clone(times));
            let (ready, delivered) = (Arc::clone(&crowd.ready), Arc::clone(&crowd.delivered));
            let failed = Arc::clone(&crowd.failed);
            let body = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let all = subscribers(address, &topic, count, &times, &ready, &delivered);
                let done = LocalSet::new().block_on(&runtime, all);
                if let Err(why) = &done {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(anyhow::anyhow!("{why:#}"));
                }
                done
            };
            let thread = thread::Builder::new().name(format!("crowd-{number}")).spawn(body)?;
            crowd.threads.push(thread);
        }
        Ok(crowd)
    }

    /// Sockets that are subscribed.
    pub fn ready(&self) -> u64 {
        self.ready.load(Ordering::Relaxed)
    }

    /// Messages delivered to all sockets together.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Fails when one of them has.
    ///
    /// # Errors
    /// With the first failure.
    pub fn check(&self) -> Result<()> {
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// Waits until every one has received every message: how long they took.
    ///
    /// # Errors
    /// When one has failed.
    pub fn end(self) -> Result<Histogram> {
        let mut latency = Histogram::default();
        for thread in self.threads {
            let done = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            latency.merge(&done?);
        }
        Ok(latency)
    }
}

async fn subscribers(
    address: SocketAddr,
    topic: &str,
    count: usize,
    times: &Arc<Times>,
    ready: &AtomicU64,
    delivered: &Arc<AtomicU64>,
) -> Result<Histogram> {
    // One for all sockets of a thread: a thousand of them would not stay in the caches.
    let latency = Rc::new(RefCell::new(Histogram::default()));
    let mut open = JoinSet::new();
    for _ in 0..count {
        let mut socket = Socket::open(address).await?;
        socket.ask(&subscribe(topic)).await?;
        ready.fetch_add(1, Ordering::Relaxed);
        let (times, delivered) = (Arc::clone(times), Arc::clone(delivered));
        let latency = Rc::clone(&latency);
        open.spawn_local(async move { one(socket, &times, &delivered, &latency).await });
    }
    while let Some(done) = open.join_next().await {
        done??;
    }
    Ok(latency.take())
}

async fn one(
    mut socket: Socket,
    times: &Times,
    delivered: &AtomicU64,
    latency: &RefCell<Histogram>,
) -> Result<()> {
    let (mut next, mut credit) = (0, 0);
    while next < times.total() {
        let frame = socket.next().await?;
        let (now, before) = (times.now(), next);
        frames::offsets(frame, |offset| {
            receive(times, offset, now, &mut next, &mut latency.borrow_mut())
        })?;
        delivered.fetch_add(next - before, Ordering::Relaxed);
        credit += next - before;
        if credit >= AGAIN {
            socket.send(&more_credit(&mut credit)).await?;
        }
    }
    Ok(())
}
