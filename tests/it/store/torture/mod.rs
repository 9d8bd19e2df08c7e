//! Buckets are made, opened, closed, sealed and dropped in tenths of seconds, while appenders with
//! stale views append through the real functions, partitions change class, statements are
//! cancelled, sessions killed, and readers read on. Then the log is checked row by row.

mod actors;
mod audit;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use postrider::{
    lifecycle::Lifecycle,
    model::{
        Name,
        ids::DEFAULT_TENANT,
        topic::{Retention, TopicSettings},
    },
    store::{self, topics},
};

use crate::support::{TestDatabase, is_long, seed};

const PARTITIONS: u32 = 12;
const APPENDERS: u64 = 6;
const READERS: u64 = 2;

/// What an appender was told: partition, offset, messages, and the tag in the records.
type Ack = (i64, i64, i32, Vec<u8>);

/// What all actors see.
struct Stage {
    database: TestDatabase,
    is_over: AtomicBool,
    /// Backends of the appenders, which are cancelled and killed.
    backends: Mutex<Vec<i32>>,
    acks: Mutex<Vec<Ack>>,
    /// Tags of flushes whose outcome nobody knows.
    unknown: Mutex<Vec<Vec<u8>>>,
    counts: Mutex<std::collections::BTreeMap<String, u64>>,
}

impl Stage {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn count(&self, what: impl Into<String>) {
        *lock(&self.counts).entry(what.into()).or_default() += 1;
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torture_of_buckets_loses_and_doubles_nothing() {
    let seed = seed();
    let stage = Arc::new(Stage {
        database: TestDatabase::with_windows("150 milliseconds").await,
        is_over: AtomicBool::new(false),
        backends: Mutex::default(),
        acks: Mutex::default(),
        unknown: Mutex::default(),
        counts: Mutex::default(),
    });
    let mut session = stage.database.connect().await;
    let settings = TopicSettings {
        partitions: PARTITIONS,
        retention: Retention::For(Duration::from_millis(700)),
        ..TopicSettings::default()
    };
    let name = Name::parse("tortured").expect("a name");
    let made = topics::create_committed(&mut session, DEFAULT_TENANT, &name, &settings).await;
    assert!(made.expect("created"));
    stage.database.run(audit::TABLE).await;
    store::nodes::register(&mut session, "torture", "0").await.expect("registered");

    let life = Lifecycle::new();
    let mut tasks = vec![
        life.spawn(actors::maintain(Arc::clone(&stage), seed)),
        life.spawn(actors::change_classes(Arc::clone(&stage), seed)),
        life.spawn(actors::harm(Arc::clone(&stage), seed)),
    ];
    for n in 0..APPENDERS {
        tasks.push(life.spawn(actors::append(Arc::clone(&stage), seed, n)));
    }
    for n in 0..READERS {
        tasks.push(life.spawn(actors::read(Arc::clone(&stage), seed, n)));
    }
    tokio::time::sleep(Duration::from_secs(if is_long() { 120 } else { 12 })).await;
    stage.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no panic");
    }
    println!("{:?}", lock(&stage.counts));
    audit::check(&stage).await;
}
