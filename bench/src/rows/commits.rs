//! Four hundred commits a second over a hundred groups, at set times, beside a transaction that
//! another session holds open, and without it before and after.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::{sync::Mutex, task::JoinSet, time::sleep_until};

use crate::{
    Bench,
    load::{client::Connection, histogram::Histogram, member::Member, payload},
    process,
    report::{Bar, Line, number},
    servers::node::Node,
};

/// What each fifth of the time is longer by, so that the transaction is not let go too early.
const MARGIN: Duration = Duration::from_millis(20);
const TOPIC: &str = "commits";
const GROUPS: usize = 100;
/// Between two commits of a group.
const EACH: Duration = Duration::from_millis(250);
/// Messages in the topic: each commit is one further on, and none may be above the end.
const MESSAGES: usize = 20_000;
const BATCH: usize = 1_000;
const WARM_UP: Duration = Duration::from_secs(3);

/// A group's only member, and the offset that it has committed.
type Committer = Arc<Mutex<(Member, u64)>>;

/// Measures it.
///
/// # Errors
/// When the node fails, a commit is refused, or the transaction did not stand open as long.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("commits").await?;
    let committers = prepare(&node).await?;
    let held_for = Duration::from_secs_f64(bench.options.held_seconds.clamp(2.0, 900.0));
    let without_for = (held_for / 5).max(Duration::from_secs(1));
    commit(&committers, WARM_UP).await?;
    let mut without = commit(&committers, without_for).await?;
    let clocks = |node: &Node| -> Result<_> {
        Ok((process::cpu(node.pid()), process::cpu_of_postgres(node.database()?.postmaster)))
    };
    let held = node.database()?.hold().await?;
    let (before, began) = (clocks(&node)?, Instant::now());
    // In fifths, since what goes wrong grows with the age of the transaction.
    let (mut beside, mut worst, mut last) = (Histogram::default(), 0.0_f64, 0.0);
    for _ in 0..5 {
        let fifth = commit(&committers, held_for / 5 + MARGIN).await?;
        last = fifth.micros(0.99);
        worst = worst.max(last);
        beside.merge(&fifth);
    }
    let (after, took) = (clocks(&node)?, began.elapsed());
    let held = held.release().await?;
    if held < held_for {
        bail!("the transaction stood open for {held:?} only");
    }
    without.merge(&commit(&committers, without_for).await?);
    let share = |before: Duration, after: Duration| {
        number((100.0 * (after - before).as_secs_f64() / took.as_secs_f64()).round())
    };
    let (ours, floor) = (beside.micros(0.99).max(last), without.micros(0.99));
    let note = format!(
        "{} commits in {} s beside it; p50 {} and {} µs, the worst fifth's p99 {} µs, the last \
         one's {} µs, longest {} µs; cpu % server {} postgres {}",
        beside.len(),
        number(took.as_secs_f64().round()),
        number(beside.micros(0.5).round()),
        number(without.micros(0.5).round()),
        number(worst.round()),
        number(last.round()),
        number(beside.max_micros().round()),
        share(before.0, after.0),
        share(before.1, after.1),
    );
    bench.report.line(Line {
        what: "open transaction: 400 commits/s over 100 groups: p99".into(),
        ours: format!("{} µs", number(ours.round())),
        floor: format!("without it {} µs", number(floor.round())),
        figure: ours / floor,
        bar: Bar::AtMost(1.5),
        note,
        void: String::new(),
    });
    bench.saw(&node);
    Ok(())
}

async fn prepare(node: &Node) -> Result<Vec<Committer>> {
    node.create(TOPIC, 1).await?;
    let mut connection = Connection::open(node.address).await?;
    let requests = payload::publishes(node.address, TOPIC, payload::Shape::Batch(BATCH));
    for request in requests.iter().cycle().take(MESSAGES / BATCH) {
        let answer = connection.exchange(request).await?;
        if !answer.is_success() {
            bail!("filling the topic: {}", answer.status);
        }
    }
    let mut committers = Vec::new();
    for group in 0..GROUPS {
        let body = format!("{{\"topics\":[\"{TOPIC}\"]}}");
        let member = Member::join(node.address, &format!("commits-{group}"), &body).await?;
        committers.push(Arc::new(Mutex::new((member, 0))));
    }
    Ok(committers)
}

/// Every group commits at its own times for so long. A commit that comes late counts from when it
/// was due.
async fn commit(committers: &[Committer], window: Duration) -> Result<Histogram> {
    let began = Instant::now();
    let mut groups = JoinSet::new();
    for (at, committer) in committers.iter().enumerate() {
        let first = began + EACH.mul_f64(at as f64 / GROUPS as f64);
        groups.spawn(one_group(Arc::clone(committer), first, began + window));
    }
    let mut latency = Histogram::default();
    while let Some(group) = groups.join_next().await {
        latency.merge(&group??);
    }
    Ok(latency)
}

async fn one_group(committer: Committer, first: Instant, end: Instant) -> Result<Histogram> {
    let mut standing = committer.lock().await;
    let (member, offset) = &mut *standing;
    let (mut latency, mut due) = (Histogram::default(), first);
    while due < end {
        sleep_until(due.into()).await;
        *offset += 1;
        if *offset > MESSAGES as u64 {
            bail!("the topic has no more messages to be committed");
        }
        // A heartbeat that carries the commit: what `poll` does beside it costs no statement.
        member.poll_with(0, "0s", &[(0, *offset)]).await?;
        latency.record(due.elapsed());
        due += EACH;
    }
    Ok(latency)
}
