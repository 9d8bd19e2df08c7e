//! Ten thousand sockets, each with one subscription, to which nothing comes.

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
use tokio::{task::LocalSet, time::sleep};

use crate::{
    Bench,
    load::socket::Socket,
    process,
    report::{Bar, Line, number},
};

const SOCKETS: usize = 10_000;
const TOPICS: usize = 100;
/// Sockets are opened over so long, so that their pings are spread as well.
const RAMP: Duration = Duration::from_secs(25);
const OPENED: Duration = Duration::from_secs(120);
/// From the last socket's opening until the clock runs.
const SETTLE: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    failed: AtomicBool,
    open: AtomicUsize,
}

/// Closes the sockets when it is dropped.
struct Sockets(Arc<Shared>);

impl Drop for Sockets {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Measures it.
///
/// # Errors
/// When the node fails, or a socket is closed.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("idle-sockets").await?;
    for topic in 0..TOPICS {
        node.create(&format!("idle-{topic}"), 1).await?;
    }
    let memory = process::memory(node.pid()).context("no memory to look at")?;
    let shared = Arc::new(Shared::default());
    let sockets = begin(node.address, &shared)?;
    let check = || match shared.failed.load(Ordering::Relaxed) {
        true => bail!("a socket failed"),
        false => Ok(()),
    };
    let began = Instant::now();
    while shared.open.load(Ordering::Relaxed) < SOCKETS {
        check()?;
        if began.elapsed() > RAMP + OPENED {
            bail!("{} sockets are open", shared.open.load(Ordering::Relaxed));
        }
        sleep(Duration::from_millis(50)).await;
    }
    let opened = began.elapsed();
    sleep(SETTLE).await;
    let postmaster = node.database()?.postmaster;
    let clocks = || (process::cpu(node.pid()), process::cpu_of_postgres(postmaster));
    let (before, began) = (clocks(), Instant::now());
    sleep(WATCHED).await;
    let (after, took) = (clocks(), began.elapsed());
    let each = process::memory(node.pid()).unwrap_or(u64::MAX).saturating_sub(memory) as f64
        / 1_000.0
        / SOCKETS as f64;
    check()?;
    drop(sockets);
    let share = |before: Duration, after: Duration| {
        100.0 * (after - before).as_secs_f64() / took.as_secs_f64()
    };
    let note = format!(
        "{TOPICS} topics; opened in {} s; PostgreSQL took {} %",
        number(opened.as_secs_f64()),
        number(share(before.1, after.1)),
    );
    line(bench, "% of a core, node", share(before.0, after.0), 1.0, note);
    line(bench, "node memory each, KB", each, 12.0, String::new());
    bench.saw(&node);
    Ok(())
}

fn line(bench: &mut Bench, what: &str, figure: f64, most: f64, note: String) {
    bench.report.line(Line {
        what: format!("10,000 idle sockets: {what}"),
        ours: number(figure),
        floor: String::new(),
        figure,
        bar: Bar::AtMost(most),
        note,
        void: String::new(),
    });
}

fn begin(address: SocketAddr, shared: &Arc<Shared>) -> Result<Sockets> {
    let sockets = Sockets(Arc::clone(shared));
    let shared = Arc::clone(shared);
    thread::Builder::new().name("sockets".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return shared.failed.store(true, Ordering::Relaxed) };
        LocalSet::new().block_on(&runtime, async {
            for number in 0..SOCKETS {
                tokio::task::spawn_local(socket(address, number, Arc::clone(&shared)));
            }
            while !shared.stop.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(100)).await;
            }
        });
    })?;
    Ok(sockets)
}

async fn socket(address: SocketAddr, number: usize, shared: Arc<Shared>) {
    if let Err(error) = live(address, number, &shared).await
        && !shared.stop.load(Ordering::Relaxed)
        && !shared.failed.swap(true, Ordering::Relaxed)
    {
        eprintln!("      socket {number}: {error:#}");
    }
}

async fn live(address: SocketAddr, number: usize, shared: &Shared) -> Result<()> {
    sleep(RAMP.mul_f64(number as f64 / SOCKETS as f64)).await;
    let mut socket = Socket::open(address).await?;
    let topic = number % TOPICS;
    let subscribe = format!(
        "{{\"op\":\"subscribe\",\"id\":1,\"sub\":\"a\",\"topic\":\"idle-{topic}\",\
         \"from\":\"latest\",\"credit\":1000}}"
    );
    socket.ask(&subscribe).await?;
    shared.open.fetch_add(1, Ordering::Relaxed);
    let frame = socket.next().await?;
    bail!("{} while nothing was to come", String::from_utf8_lossy(frame))
}
