//! A member joins a group of fifty over two hundred partitions, and one dies: how long until every
//! partition has its owner, and how many others had to give something up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use crate::{
    Bench,
    load::member::Member,
    report::{Bar, Line, median, number},
    servers::node::Node,
};

const TOPIC: &str = "rebalance";
const PARTITIONS: usize = 200;
const MEMBERS: usize = 50;
const SESSION: f64 = 3.0;
const PATIENCE: Duration = Duration::from_secs(60);

/// By member each of its partitions with its epoch, without those that it is to give up.
type Owned = Arc<Mutex<BTreeMap<usize, BTreeMap<u32, i64>>>>;

struct Group<'a> {
    node: &'a Node,
    owned: Owned,
    members: JoinSet<Result<()>>,
    living: BTreeMap<usize, AbortHandle>,
    born: usize,
}

/// Measures it.
///
/// # Errors
/// When the node fails, a member is refused, or a partition stays without an owner.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("rebalance").await?;
    node.create(TOPIC, PARTITIONS).await?;
    let (members, owned) = (JoinSet::new(), Owned::default());
    let mut group = Group { node: &node, owned, members, living: BTreeMap::new(), born: 0 };
    for _ in 0..MEMBERS {
        group.join().await?;
    }
    let mut epochs = group.settled(Instant::now()).await?.1;
    let (mut joins, mut deaths) = (Vec::new(), Vec::new());
    for _ in 0..bench.options.plan().rounds {
        let began = Instant::now();
        group.join().await?;
        joins.push(group.measured(began, &mut epochs).await?);
        // Polls park anew; the death is to find a group at rest.
        sleep(Duration::from_millis(1_500)).await;
        let began = Instant::now();
        group.dies();
        deaths.push(group.measured(began, &mut epochs).await?);
        sleep(Duration::from_millis(500)).await;
    }
    report(bench, "a join", &joins, 2.0);
    report(bench, "a death (session of 3 s)", &deaths, SESSION + 1.0);
    drop(group);
    bench.saw(&node);
    Ok(())
}

fn report(bench: &mut Bench, what: &str, rounds: &[(f64, usize)], most: f64) {
    let seconds: Vec<f64> = rounds.iter().map(|(seconds, _)| *seconds).collect();
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    let moved = rounds.iter().map(|(_, moved)| *moved).max().unwrap_or(0);
    bench.report.line(Line {
        what: format!("group of 50, 200 partitions, {what}: s to all owned"),
        ours: number(median(&seconds)),
        floor: String::new(),
        figure: longest,
        bar: Bar::AtMost(most),
        note: format!(
            "the figure is the longest of {} rounds; at most {moved} of {PARTITIONS} partitions \
             got another epoch, all others stayed as they were",
            rounds.len()
        ),
        void: String::new(),
    });
}

impl Group<'_> {
    async fn join(&mut self) -> Result<()> {
        let body = format!("{{\"topics\":[\"{TOPIC}\"],\"session_timeout\":\"{SESSION}s\"}}");
        let member = Member::join(self.node.address, TOPIC, &body).await?;
        let handle = self.members.spawn(live(member, self.born, Arc::clone(&self.owned)));
        self.living.insert(self.born, handle);
        self.born += 1;
        Ok(())
    }

    /// The oldest one is heard no more.
    fn dies(&mut self) {
        if let Some((number, handle)) = self.living.pop_first() {
            handle.abort();
            unlocked(&self.owned).remove(&number);
        }
    }

    /// Seconds since `began` when every partition has its owner, and how many have another epoch.
    async fn measured(
        &mut self,
        began: Instant,
        epochs: &mut BTreeMap<u32, i64>,
    ) -> Result<(f64, usize)> {
        let (took, now) = self.settled(began).await?;
        let moved = epochs.iter().filter(|(partition, epoch)| now[*partition] != **epoch).count();
        *epochs = now;
        Ok((took, moved))
    }

    /// Waits until every partition has one owner and the shares are even: the epochs.
    async fn settled(&mut self, began: Instant) -> Result<(f64, BTreeMap<u32, i64>)> {
        loop {
            // Those that died are not among what is told here.
            while let Some(ended) = self.members.try_join_next() {
                if let Ok(Err(error)) = ended {
                    return Err(error);
                }
            }
            if let Some(epochs) = whole(&unlocked(&self.owned), self.living.len()) {
                return Ok((began.elapsed().as_secs_f64(), epochs));
            }
            if began.elapsed() > PATIENCE {
                bail!("a partition has no owner");
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn whole(
    owned: &BTreeMap<usize, BTreeMap<u32, i64>>,
    members: usize,
) -> Option<BTreeMap<u32, i64>> {
    let epochs: BTreeMap<u32, i64> = owned.values().flatten().map(|(p, e)| (*p, *e)).collect();
    let mut shares = owned.values().map(BTreeMap::len);
    let total: usize = shares.clone().sum();
    let least = PARTITIONS / members;
    let is_even = shares.all(|share| share == least || share == least + 1);
    let is_whole = epochs.len() == PARTITIONS && total == PARTITIONS && owned.len() == members;
    (is_whole && is_even).then_some(epochs)
}

async fn live(mut member: Member, number: usize, owned: Owned) -> Result<()> {
    loop {
        member.poll(500, "20s").await?;
        let is_given = |partition: u32| member.revoke.iter().any(|r| r.partition == partition);
        let has = member.assignments.iter().map(|held| (held.partition, held.epoch));
        let has = has.filter(|(partition, _)| !is_given(*partition)).collect();
        unlocked(&owned).insert(number, has);
    }
}

fn unlocked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
