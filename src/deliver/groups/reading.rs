//! The partitions that one poll reads: what lies behind a member's places, and what wakes it.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::{Groups, Place};
use crate::{
    log::{Log, LogBatch, Low, Partition, ReadError, ReadRequest, Watch},
    model::limits,
};

/// One partition of a poll.
#[derive(Debug)]
pub(super) struct Reader {
    partition: Arc<Partition>,
    /// Under which epoch, and where it goes on.
    pub(super) place: Place,
    /// How many messages retention took before they were read.
    pub(super) gap: i64,
    low: Option<Low>,
}

/// What was read of one partition.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) batches: Vec<LogBatch>,
    /// Behind the last message to be delivered.
    pub(super) until: i64,
}

/// What a poll reads.
#[derive(Debug)]
pub(super) struct Reading {
    log: Log,
    pub(super) readers: Vec<Reader>,
    /// Whether the database was asked about each of them, or what was known may stand for it.
    rests: bool,
    begun: Instant,
}

/// What one round brought.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) found: Vec<Found>,
    /// Whose turn it is the next time.
    pub(super) turn: u64,
}

/// How many polls in a row may begin with one partition.
const POLLS_A_TURN: u64 = 4;

impl Reading {
    pub(super) fn new(groups: &Groups, rests: bool, begun: Instant) -> Self {
        Self { log: groups.shared.log.clone(), readers: Vec::new(), rests, begun }
    }

    /// Reads from these places from now on; what was learned of those that stay is kept.
    pub(super) fn set(&mut self, places: &[Place]) {
        let mut before = std::mem::take(&mut self.readers);
        self.readers.reserve(places.len());
        for place in places {
            let same = |reader: &Reader| {
                reader.place.partition == place.partition && reader.place.epoch == place.epoch
            };
            let reader = match before.iter().position(same) {
                Some(at) => before.swap_remove(at),
                None => Reader {
                    partition: self.log.partition(place.partition),
                    place: *place,
                    gap: 0,
                    low: None,
                },
            };
            self.readers.push(reader);
        }
    }

    /// Watches of all partitions, to be taken before they are read.
    pub(super) fn watches<'p>(&self, partitions: &'p [Arc<Partition>]) -> Vec<Watch<'p>> {
        partitions.iter().map(|partition| partition.watch()).collect()
    }

    /// The partitions themselves.
    pub(super) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.readers.iter().map(|reader| Arc::clone(&reader.partition)).collect()
    }

    /// Reads up to `max` messages, beginning with the partition whose turn it is.
    pub(super) async fn read(
        &mut self,
        watches: &[Watch<'_>],
        max: u32,
        turn: u64,
    ) -> Result<Round, ReadError> {
        let count = self.readers.len();
        let mut round = Round { found: Vec::new(), turn };
        let (mut left, mut bytes) = (max, limits::READ_BYTES_MAX);
        let first = (turn / POLLS_A_TURN) as usize % count.max(1);
        for at in (0..count).map(|step| (first + step) % count) {
            if left == 0 || bytes <= 0 {
                break;
            }
            let Some(found) = self.read_one(at, &watches[at], left).await? else { continue };
            left -= u32::try_from(found.until - found.place.position).unwrap_or(left).min(left);
            bytes -= found.batches.iter().map(|batch| batch.records.len() as i64).sum::<i64>();
            // Staying for a few polls lets the pages that were fetched ahead be used.
            let is_first = at == first && (left == 0 || bytes <= 0);
            round.turn = if is_first { turn + 1 } else { (at as u64 + 1) * POLLS_A_TURN };
            round.found.push(found);
        }
        Ok(round)
    }

    async fn read_one(
        &mut self,
        at: usize,
        watch: &Watch<'_>,
        max: u32,
    ) -> Result<Option<Found>, ReadError> {
        let reader = &mut self.readers[at];
        // Twice: retention may have taken what comes next.
        for _ in 0..2 {
            let request = ReadRequest { from: reader.place.position, limit: max };
            let peeked =
                self.log.peek(&reader.partition, request, watch, self.rests, &mut reader.low).await;
            let page = match peeked {
                Ok(page) => page,
                Err(ReadError::OutOfRange(marks)) if request.from < marks.low => {
                    reader.gap += marks.low - request.from;
                    reader.place.position = marks.low;
                    continue;
                }
                // The topic is being deleted, or the log lost its end: the assignment will tell.
                Err(ReadError::OutOfRange(_) | ReadError::Gone) => return Ok(None),
                Err(error) => return Err(error),
            };
            let Some(last) = page.batches.last() else { return Ok(None) };
            let until = (last.last_offset + 1).min(request.from + i64::from(max));
            return Ok(Some(Found { place: reader.place, batches: page.batches, until }));
        }
        Ok(None)
    }

    /// Whether an empty answer would be true of a moment after the poll began. If not, the next
    /// round asks the database itself.
    pub(super) fn is_sure(&mut self) -> bool {
        let is_sure = !self.rests || self.log.looked_since(self.begun);
        self.rests = self.rests && is_sure;
        is_sure
    }
}

/// Completes when one of the partitions changes.
pub(super) async fn any_changed(watches: Vec<Watch<'_>>) {
    let mut all: FuturesUnordered<_> = watches.into_iter().map(Watch::changed).collect();
    if all.next().await.is_none() {
        std::future::pending::<()>().await;
    }
}
