//! Members that come and go, each by its own seed.

use std::{ops::Range, sync::Arc, time::Duration};

use postrider::lifecycle::Lifecycle;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Scene,
    process::{Habits, Process},
};
use crate::support::soon;

/// What becomes of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It leaves, and another member joins.
    Leaves,
    /// It is cut off in the middle of a request and never heard again; another member joins.
    Dies,
    /// It is cut off, and the next process of the same member takes over.
    Returns,
    /// The next process of the same member takes over while it goes on.
    Haunts,
    /// It stands still past its session and then goes on where it was.
    Sleeps,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Leaves => "left",
            Self::Dies => "died",
            Self::Returns => "returned",
            Self::Haunts => "haunted",
            Self::Sleeps => "slept",
        }
    }
}

/// How a crowd lives.
#[derive(Clone, Debug)]
pub struct Life {
    /// How its processes poll.
    pub habits: Habits,
    /// Milliseconds between two polls.
    pub thinks: Range<u64>,
    /// Polls of a process until its fate.
    pub polls: Range<u32>,
    /// What becomes of processes.
    pub fates: Vec<Fate>,
}

/// Longer than the session of 3 s.
const STANDSTILL: Range<u64> = 3_500..4_500;

/// Members that live until their scene is over.
pub struct Crowd(Vec<JoinHandle<()>>);

impl Crowd {
    /// Lets `count` members live.
    pub fn start(scene: &Arc<Scene>, life: &Life, count: u64, seed: u64) -> Self {
        let member = |slot: u64| {
            let random = StdRng::seed_from_u64(seed ^ slot << 8 ^ u64::from(scene.number) << 16);
            Lifecycle::new().spawn(live(Arc::clone(scene), life.clone(), slot, random))
        };
        Self((0..count).map(member).collect())
    }

    /// Waits until all have left.
    pub async fn left(self) {
        for member in self.0 {
            soon("a member leaves", member).await.expect("no panic");
        }
    }
}

async fn live(scene: Arc<Scene>, life: Life, slot: u64, mut random: StdRng) {
    let mut born = 0;
    let mut next = || {
        born += 1;
        format!("m{slot}-{born}")
    };
    let mut turn = slot as usize;
    let mut joined = Process::join(&scene, life.habits, &next()).await;
    while let Some(mut process) = joined {
        let polls = random.random_range(life.polls.clone());
        let mut is_gone = false;
        for _ in 0..polls {
            if scene.is_over() {
                return process.leave().await;
            }
            is_gone = process.step(&mut random).await.is_err();
            if is_gone {
                break;
            }
            sleep(Duration::from_millis(random.random_range(life.thinks.clone()))).await;
        }
        if is_gone {
            scene.fate("gone");
            joined = Process::join(&scene, life.habits, &next()).await;
            continue;
        }
        // In turn, so that each comes to pass, and by chance, so that they meet.
        let by_chance = random.random_bool(0.3).then(|| life.fates.choose(&mut random));
        let fate = by_chance.flatten().unwrap_or(&life.fates[turn % life.fates.len()]);
        turn += 1;
        scene.fate(fate.name());
        let id = process.id.clone();
        joined = match fate {
            Fate::Leaves => {
                process.leave().await;
                Process::join(&scene, life.habits, &next()).await
            }
            Fate::Dies | Fate::Returns => {
                let cut = Duration::from_millis(random.random_range(0..20));
                let _ = timeout(cut, process.step(&mut random)).await;
                let id = if *fate == Fate::Dies { next() } else { id };
                Process::join(&scene, life.habits, &id).await
            }
            Fate::Haunts => {
                let (joined, ()) = tokio::join!(
                    Process::join(&scene, life.habits, &id),
                    haunt(&scene, process, &life, &mut random)
                );
                joined
            }
            Fate::Sleeps => {
                sleep(Duration::from_millis(random.random_range(STANDSTILL))).await;
                Some(process)
            }
        };
    }
}

/// A process goes on until it is told that it is no member any more.
async fn haunt(scene: &Scene, mut process: Process, life: &Life, random: &mut StdRng) {
    while !scene.is_over() {
        process.commit(random).await;
        if process.step(random).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(random.random_range(life.thinks.clone()))).await;
    }
}
