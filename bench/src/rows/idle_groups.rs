//! A hundred groups of fifty members each, to which nothing comes: every member has a poll parked.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::{task::LocalSet, time::sleep};

use crate::{
    Bench,
    load::member::Member,
    process,
    report::{Bar, Line, number},
};

const TOPIC: &str = "idle-groups";
const GROUPS: usize = 100;
const MEMBERS: usize = 50;
/// Members join over so long, so that their polls' ends are spread as well.
const RAMP: Duration = Duration::from_secs(50);
/// Until every member has its partition.
const SETTLE: Duration = Duration::from_secs(120);
/// From then until the clock runs.
const REST: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    failed: AtomicBool,
    answered: AtomicUsize,
    /// Members that have one partition and are to keep it.
    settled: AtomicUsize,
}

/// Stops the members when it is dropped.
struct Members(Arc<Shared>);

impl Drop for Members {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Measures it.
///
/// # Errors
/// When the node fails, or a member is refused.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("idle-groups").await?;
    node.create(TOPIC, MEMBERS).await?;
    let shared = Arc::new(Shared::default());
    let members = begin(node.address, &shared)?;
    let began = Instant::now();
    while shared.settled.load(Ordering::Relaxed) < GROUPS * MEMBERS {
        if shared.failed.load(Ordering::Relaxed) || began.elapsed() > RAMP + SETTLE {
            bail!("{} members have what they are to have", shared.settled.load(Ordering::Relaxed));
        }
        sleep(Duration::from_millis(50)).await;
    }
    let settled = began.elapsed();
    sleep(REST).await;
    let postmaster = node.database()?.postmaster;
    let clocks = || (process::cpu(node.pid()), process::cpu_of_postgres(postmaster));
    let answered = || shared.answered.load(Ordering::Relaxed);
    let (before, polls, began) = (clocks(), answered(), Instant::now());
    sleep(WATCHED).await;
    let (after, polls, took) = (clocks(), answered() - polls, began.elapsed());
    if shared.failed.load(Ordering::Relaxed) {
        bail!("a member was refused");
    }
    drop(members);
    let share = |before: Duration, after: Duration| {
        100.0 * (after - before).as_secs_f64() / took.as_secs_f64()
    };
    let note = format!(
        "{} members have one partition each {} s after the first join; {polls} polls ended and \
         began again in {} s",
        GROUPS * MEMBERS,
        number(settled.as_secs_f64()),
        number(took.as_secs_f64())
    );
    let (node_share, database) = (share(before.0, after.0), share(before.1, after.1));
    for (who, figure, note) in [("node", node_share, note), ("PostgreSQL", database, String::new())]
    {
        bench.report.line(Line {
            what: format!("100 idle groups of 50: % of a core, {who}"),
            ours: number(figure),
            floor: String::new(),
            figure,
            bar: Bar::AtMost(3.0),
            note,
            void: String::new(),
        });
    }
    bench.saw(&node);
    Ok(())
}

fn begin(address: SocketAddr, shared: &Arc<Shared>) -> Result<Members> {
    let members = Members(Arc::clone(shared));
    let shared = Arc::clone(shared);
    thread::Builder::new().name("members".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return shared.failed.store(true, Ordering::Relaxed) };
        LocalSet::new().block_on(&runtime, async {
            for number in 0..GROUPS * MEMBERS {
                tokio::task::spawn_local(member(address, number, Arc::clone(&shared)));
            }
            while !shared.stop.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(100)).await;
            }
        });
    })?;
    Ok(members)
}

async fn member(address: SocketAddr, number: usize, shared: Arc<Shared>) {
    if let Err(error) = live(address, number, &shared).await
        && !shared.stop.load(Ordering::Relaxed)
        && !shared.failed.swap(true, Ordering::Relaxed)
    {
        eprintln!("      member {number}: {error:#}");
    }
}

async fn live(address: SocketAddr, number: usize, shared: &Shared) -> Result<()> {
    sleep(RAMP.mul_f64(number as f64 / (GROUPS * MEMBERS) as f64)).await;
    // As a client that says nothing about times: the session is 30 s, and a poll waits for 10.
    let body = format!("{{\"topics\":[\"{TOPIC}\"]}}");
    let group = format!("idle-{}", number / MEMBERS);
    let mut member = Member::join(address, &group, &body).await?;
    let mut is_settled = false;
    loop {
        let now = member.assignments.len() == 1 && member.revoke.is_empty();
        if now != is_settled {
            match now {
                true => shared.settled.fetch_add(1, Ordering::Relaxed),
                false => shared.settled.fetch_sub(1, Ordering::Relaxed),
            };
            is_settled = now;
        }
        member.poll(500, "20s").await?;
        shared.answered.fetch_add(1, Ordering::Relaxed);
    }
}
