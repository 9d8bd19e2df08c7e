//! A large group: fifty members over two hundred partitions, of which one joins and one dies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use postrider::lifecycle::Lifecycle;
use serde_json::json;
use tokio::task::JoinHandle;

use super::unlocked;
use crate::{
    groups::{stop, two},
    support::{
        Client, Member, eventually,
        group::{places, revoked},
        soon,
    },
};

const MEMBERS: usize = 50;
const PARTITIONS: usize = 200;
const SESSION: Duration = Duration::from_secs(3);
/// On a machine that others use too, in a build that is not optimized: `bench rebalance` asks for
/// 2 s and 1 s.
const JOIN_MAX: Duration = Duration::from_secs(6);
const DEATH_MAX: Duration = Duration::from_secs(5);

/// What all members were told last.
#[derive(Clone, Default)]
struct Seen {
    /// By member each of its partitions with its epoch, without those that it is to give up.
    owned: Arc<Mutex<BTreeMap<usize, BTreeMap<u64, i64>>>>,
    /// Partitions of which somebody got a message.
    heard: Arc<Mutex<BTreeSet<u64>>>,
}

/// A member that polls and confirms until it is told to stop or dies.
struct Living {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Living {
    fn start(mut member: Member, number: usize, seen: &Seen) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, seen) = (Arc::clone(&is_over), seen.clone());
        let task = Lifecycle::new().spawn(async move {
            let mut given = json!([]);
            while !over.load(Ordering::Relaxed) {
                let told = member.poll(json!({"wait": "10s", "revoked": given})).await;
                given = revoked(&told);
                let is_given = |partition: u64| {
                    let mut entries = given.as_array().into_iter().flatten();
                    entries.any(|entry| entry["partition"] == partition)
                };
                let has = member.has().into_iter();
                let has = has.map(|(_, partition, epoch)| (partition, epoch));
                let has = has.filter(|(partition, _)| !is_given(*partition));
                unlocked(&seen.owned).insert(number, has.collect());
                let got = places(&told).into_iter().map(|(_, partition, _)| partition);
                unlocked(&seen.heard).extend(got);
            }
        });
        Self { is_over, task }
    }
}

/// The epoch of each partition, when each has exactly one owner of `members` and nobody has more
/// than one more than another.
fn settled(seen: &Seen, members: usize) -> Option<BTreeMap<u64, i64>> {
    let owned = unlocked(&seen.owned);
    let all: BTreeMap<u64, i64> = owned.values().flatten().map(|(p, e)| (*p, *e)).collect();
    let shares = owned.values().map(BTreeMap::len);
    let least = PARTITIONS / members;
    let is_fair = shares.clone().all(|share| share == least || share == least + 1);
    let is_whole = all.len() == PARTITIONS && shares.sum::<usize>() == PARTITIONS;
    (owned.len() == members && is_whole && is_fair).then_some(all)
}

/// Until every partition has its owner among `members`: how long it took, and how many epochs
/// moved.
async fn settles(seen: &Seen, members: usize, before: &BTreeMap<u64, i64>) -> (Duration, usize) {
    let since = Instant::now();
    let now = eventually("every partition has its owner", async || settled(seen, members)).await;
    let took = since.elapsed();
    (took, before.iter().filter(|(partition, epoch)| now[*partition] != **epoch).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn torture_a_member_joins_and_one_dies_in_a_group_of_fifty_and_the_others_go_on() {
    let (_database, nodes, clients) = two().await;
    clients[0].put_topic("orders", json!({"partitions": PARTITIONS})).await;
    let seen = Seen::default();
    let join = async |number: usize| {
        let body = json!({"topics": ["orders"], "session_timeout": "3s"});
        let member = Member::join(&clients[number % 2], "billing", body).await;
        Living::start(member, number, &seen)
    };
    let mut living = Vec::new();
    for number in 0..MEMBERS {
        living.push(join(number).await);
    }
    let before = eventually("the group stands", async || settled(&seen, MEMBERS)).await;

    let since = Instant::now();
    living.push(join(MEMBERS).await);
    let joined = since.elapsed();
    let (took, moved) = settles(&seen, MEMBERS + 1, &before).await;
    println!("a join: {:?} of which the answer {joined:?}, {moved} moved", joined + took);
    assert!(joined + took < JOIN_MAX, "{joined:?} and {took:?}");
    assert!(moved <= PARTITIONS / MEMBERS, "who is not asked keeps what it has: {moved}");

    // The others go on: what stands is delivered, though one has just died.
    let before = settled(&seen, MEMBERS + 1).expect("it stands");
    let dead = living.remove(7);
    dead.task.abort();
    let lost: Vec<u64> = unlocked(&seen.owned).remove(&7).expect("a share").into_keys().collect();
    goes_on(&clients[0], &lost, &seen).await;
    let (took, moved) = settles(&seen, MEMBERS, &before).await;
    println!("a death: {took:?}, {moved} moved");
    assert!(took < SESSION + DEATH_MAX, "{took:?}");
    assert!(moved <= lost.len(), "{moved} moved of {lost:?}");
    for one in &living {
        one.is_over.store(true, Ordering::Relaxed);
    }
    for one in living {
        one.task.abort();
        let _ = soon("a member ends", one.task).await;
    }
    stop(nodes).await;
}

/// A message in every partition that somebody has comes to its owner, before anybody knows that
/// one is dead.
async fn goes_on(client: &Client, lost: &[u64], seen: &Seen) {
    let since = Instant::now();
    let partitions = (0..PARTITIONS as u64).filter(|partition| !lost.contains(partition));
    let wanted: BTreeSet<u64> = partitions.collect();
    let message = |partition| json!({"value": partition, "partition": partition});
    client.publish("orders", wanted.iter().map(message).collect()).await;
    eventually("the others get what comes", async || {
        unlocked(&seen.heard).is_superset(&wanted).then_some(())
    })
    .await;
    println!("the others got it within {:?}", since.elapsed());
    assert!(since.elapsed() < DEATH_MAX, "{:?}", since.elapsed());
}
