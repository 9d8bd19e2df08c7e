//! The door from SQL: what was left in the outbox by transactions that committed is appended, in
//! order, each message once. A step is one transaction that appends and moves the shard's cursor;
//! whoever dies in between leaves it undone, and the next drainer begins there.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    log::{Log, News},
    model::{
        BucketId, PartitionId, limits,
        topic::{Compression, Durability, Keyless, RetentionClass},
    },
    publish::partition_of_key,
    record::{Attributes, BatchBuilder, RecordBuffer, ValueKind},
    store::{
        self, Session, StoreError,
        error::Refusal,
        outbox::{self, Destination, Drain, Step, Waiting},
    },
};

/// Messages and bytes of one step.
const STEP_ROWS: i32 = 5_000;
const STEP_BYTES: i64 = 4 * 1024 * 1024;
/// How long one round goes on while there is more.
const ROUND_TIME: Duration = Duration::from_secs(5);
/// After so many ticks without a message a drainer looks at every fifth one only.
const QUIET_TICKS: u32 = 40;
const QUIET_EVERY: u32 = 5;
/// Between two looks for tables that can be emptied.
const EMPTY_EVERY: Duration = Duration::from_secs(10);

/// The drainer of one shard.
#[derive(Debug, Default)]
pub(super) struct Drainer {
    /// The wake slot of this session, and the number of its next wake.
    wake: Option<(i64, i64)>,
    turn: u64,
    /// How many ticks went by without a message.
    quiet: u32,
    emptied_at: Option<Instant>,
}

impl Drainer {
    /// Appends what waits.
    pub(super) async fn round(
        &mut self,
        session: &mut Session,
        log: &Log,
        shard: i16,
    ) -> Result<(), StoreError> {
        self.quiet = if self.quiet < u32::MAX { self.quiet + 1 } else { QUIET_TICKS };
        if self.quiet > QUIET_TICKS && !self.quiet.is_multiple_of(QUIET_EVERY) {
            return Ok(());
        }
        let begun = Instant::now();
        while begun.elapsed() < ROUND_TIME && !log.is_draining() {
            let step = outbox::next(session, shard, STEP_ROWS, STEP_BYTES).await?;
            let Some(step) = step else { break };
            self.quiet = 0;
            match self.step(session, log, shard, &step).await {
                Ok(()) => {}
                Err(error) if matches!(error.refusal(), Some(Refusal::Busy | Refusal::Missing)) => {
                    debug!(shard, %error, "a step of the outbox is tried again");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if self.emptied_at.is_none_or(|at| at.elapsed() > EMPTY_EVERY) {
            self.emptied_at = Some(Instant::now());
            let emptied = outbox::empty(session, shard).await?;
            debug!(shard, emptied, "tables of the outbox were emptied");
        }
        Ok(())
    }

    async fn step(
        &mut self,
        session: &mut Session,
        log: &Log,
        shard: i16,
        step: &Step,
    ) -> Result<(), StoreError> {
        let (slot, wake) = match self.wake {
            Some(wake) => wake,
            None => {
                let slot = store::wakes::open_slot(session, log.node()).await?;
                *self.wake.insert((slot, 1))
            }
        };
        let Some(last) = step.messages.last() else { return Ok(()) };
        let mut topics: Vec<i64> = step.messages.iter().map(|waiting| waiting.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        let found = outbox::destinations(session, &topics).await?;
        let destinations: HashMap<i64, Destination> =
            found.into_iter().map(|destination| (destination.topic, destination)).collect();
        let mut buckets = HashMap::new();
        for class in destinations.values().map(|destination| destination.class) {
            if let Some(bucket) = store::buckets::newest_open(session, class.number()).await? {
                buckets.insert(class, bucket);
            }
        }
        let parts = self.sort(step, &destinations);
        let Some(mut drain) = packed(parts, &buckets, last.published_ms) else {
            debug!(shard, "no bucket is open for the outbox");
            return Ok(());
        };
        drain.is_replicated =
            destinations.values().any(|topic| topic.durability == Durability::Replicated);
        outbox::append(session, shard, step.cursor, last.id, &drain, (slot, wake)).await?;
        self.wake = Some((slot, wake + buckets.len() as i64));
        log.wake(drain.partitions.into_iter().map(PartitionId));
        log.tell(News::Wakes);
        Ok(())
    }

    /// The messages of each partition, in order. Those of a topic that was deleted meanwhile go
    /// with it.
    fn sort(
        &mut self,
        step: &Step,
        destinations: &HashMap<i64, Destination>,
    ) -> HashMap<PartitionId, Part> {
        let mut parts: HashMap<PartitionId, Part> = HashMap::new();
        let mut sticky_bytes = 0;
        let mut orphans = 0;
        for waiting in &step.messages {
            let Some(destination) = destinations.get(&waiting.topic) else {
                orphans += 1;
                continue;
            };
            let partition = self.partition(waiting, destination);
            let part = parts.entry(partition).or_insert_with(|| Part::of(destination));
            let before = part.records.bytes();
            part.push(waiting);
            sticky_bytes += (part.records.bytes() - before) as u64;
            if sticky_bytes > limits::STICKY_BYTES || destination.keyless == Keyless::RoundRobin {
                sticky_bytes = 0;
                self.turn = self.turn.wrapping_add(1);
            }
        }
        self.turn = self.turn.wrapping_add(1);
        if orphans > 0 {
            warn!(orphans, "messages of deleted topics were taken from the outbox");
        }
        parts
    }

    fn partition(&self, waiting: &Waiting, destination: &Destination) -> PartitionId {
        let count = destination.partitions.len();
        let number = match &waiting.key {
            Some(key) => {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                partition_of_key(key, count) as usize
            }
            None => (self.turn % count as u64) as usize,
        };
        destination.partitions[number]
    }
}

/// Messages of one partition.
struct Part {
    class: RetentionClass,
    compression: Compression,
    records: RecordBuffer,
}

impl Part {
    fn of(destination: &Destination) -> Self {
        let Destination { class, compression, .. } = *destination;
        Self { class, compression, records: RecordBuffer::default() }
    }

    fn push(&mut self, waiting: &Waiting) {
        let kind = match waiting.kind {
            1 => ValueKind::Json,
            2 => ValueKind::Text,
            _ => ValueKind::Bytes,
        };
        let headers = waiting.headers.iter().map(|(name, bytes)| (name.as_str(), &**bytes));
        let (key, value) = (waiting.key.as_deref(), waiting.value.as_deref());
        self.records.push(Attributes::new(kind, false), key, value, headers);
    }
}

/// The parts as batches; none while a class has no open bucket.
fn packed(
    parts: HashMap<PartitionId, Part>,
    buckets: &HashMap<RetentionClass, BucketId>,
    published_ms: i64,
) -> Option<Drain> {
    let mut drain = Drain::default();
    for (partition, part) in parts {
        let bucket = *buckets.get(&part.class)?;
        let (bytes, count) = (part.records.bytes(), part.records.len());
        let mut batch = BatchBuilder::new(published_ms, bytes, count);
        batch.extend(&part.records);
        drain.push(bucket, partition, batch.len(), batch.finish(part.compression));
    }
    Some(drain)
}
