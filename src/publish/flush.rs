//! The flusher of a slot: as soon as one flush has returned, everything that waits becomes the
//! next. Nothing is held back to wait for more; the flush in flight is the wait.

use std::{pin::pin, sync::Arc, time::Duration};

use smallvec::SmallVec;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::{
    Acked, Lane, PublishError, refused,
    slot::{Offsets, Pending, Slot},
};
use crate::{
    lifecycle::Lifecycle,
    log::{
        Log, LogBatch,
        append::{Append, AppendError, Appended, Appender},
    },
    model::{Clock, PartitionId, limits, topic::Compression},
    record::BatchBuilder,
    store::{claims::Claims, error::Refusal},
    telemetry::metrics::LOG,
};

/// How often a flush that does not return looks for requests that waited too long.
const EXPIRE_INTERVAL: Duration = Duration::from_millis(250);

/// After so many refusals of one flush a claim is not tried once more.
const REFUSALS_MAX: u32 = 16;

pub(super) struct Flusher {
    slot: Arc<Slot>,
    log: Log,
    clock: Clock,
    appender: Appender,
}

/// A part's place in a flush. Sorted, the messages of a partition lie in the order in which their
/// requests came, behind those of the one that expects an offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    partition: i64,
    is_free: bool,
    request: u32,
    part: u32,
}

impl Flusher {
    pub(super) fn new(slot: Arc<Slot>, log: Log, clock: Clock, lane: Lane) -> Self {
        let appender = Appender::new(log.clone(), lane.class, lane.durability);
        Self { slot, log, clock, appender }
    }

    /// Flushes until the node stops, and then what still waits.
    pub(super) async fn run(mut self, lifecycle: Lifecycle) {
        let slot = Arc::clone(&self.slot);
        loop {
            let requests = slot.take();
            if !requests.is_empty() {
                self.flush(requests).await;
                continue;
            }
            if slot.is_closed() {
                return;
            }
            tokio::select! {
                () = slot.filled.notified() => {}
                // Looked at once more after this: a request may have joined just before.
                () = lifecycle.sealing() => slot.close(),
            }
        }
    }

    async fn flush(&mut self, requests: Vec<Pending>) {
        let mut requests = of_one_incarnation(requests);
        // One that is refused never fails its neighbours: it is answered and the rest goes again.
        let mut rounds = 0;
        loop {
            requests = in_turn(requests);
            if requests.is_empty() {
                return;
            }
            let places = places(&requests);
            let (append, claimants) = self.encode(&requests, &places);
            let begun = Instant::now();
            match self.append_in_time(&append, &mut requests).await {
                Ok(appended) => {
                    count(&append, begun);
                    self.tell_readers(append, &appended);
                    if !requests.is_empty() {
                        answer(requests, &places, &appended);
                    }
                    return;
                }
                Err(AppendError::InTheWay(in_the_way)) => {
                    rounds += 1;
                    let is_last = rounds >= REFUSALS_MAX;
                    let appender = (&mut self.appender, is_last);
                    requests = refused::answer(requests, &claimants, &in_the_way, appender).await;
                }
                Err(AppendError::Reincarnated) => {
                    // Nothing happened; the topics are looked up again.
                    requests.into_iter().for_each(Pending::moved);
                    return;
                }
                Err(error) => {
                    LOG.flushes_failed.increment(1);
                    warn!(requests = requests.len(), %error, "a flush failed");
                    let told = told(&error);
                    for pending in requests {
                        pending.answer(Err(told.clone()));
                    }
                    return;
                }
            }
        }
    }

    /// Appends. When that takes longer than anybody waits, the requests of this flush are told
    /// that its outcome is unknown, and so are in turn those behind it that nothing happened; the
    /// flush itself goes on: a commit is never cancelled.
    async fn append_in_time(
        &mut self,
        append: &Append,
        requests: &mut Vec<Pending>,
    ) -> Result<Appended, AppendError> {
        let begun = Instant::now();
        let mut appending = pin!(self.appender.append(append));
        loop {
            if let Ok(result) = timeout(EXPIRE_INTERVAL, &mut appending).await {
                return result;
            }
            self.slot.expire();
            let waited = requests.first().map_or(Duration::ZERO, Pending::waited);
            if begun.elapsed() >= limits::PUBLISH_WAIT_MAX || waited >= limits::PUBLISH_ANSWER_MAX {
                for pending in requests.drain(..) {
                    pending.answer(Err(PublishError::OutcomeUnknown));
                }
            }
        }
    }

    /// The flush, and its requests with claims in the order of their claims.
    fn encode(&self, requests: &[Pending], places: &[Place]) -> (Append, Vec<u32>) {
        let created_ms = self.clock.now_ms();
        let incarnation = requests.first().and_then(|pending| pending.incarnation);
        let mut append = Append { incarnation, ..Append::default() };
        for group in places.chunk_by(|a, b| a.partition == b.partition) {
            let parts = || group.iter().map(|place| part(requests, place));
            let bytes = parts().map(|part| part.records.bytes()).sum();
            let messages = parts().map(|part| part.records.len()).sum();
            let mut builder = BatchBuilder::new(created_ms, bytes, messages);
            for part in parts() {
                builder.extend(&part.records);
            }
            append.partitions.push(group[0].partition);
            append.counts.push(builder.len());
            append.records.push(builder.finish(compression(requests, group)));
        }
        append.expects = expects(requests, places);
        let (claims, claimants) = claims(requests, places);
        append.claims = claims;
        (append, claimants)
    }

    fn tell_readers(&self, append: Append, appended: &Appended) {
        let incarnation = append.incarnation;
        let mut records: Vec<_> =
            append.partitions.iter().zip(append.counts).zip(append.records).collect();
        for (partition, base_offset, appended_ms) in appended {
            let Ok(at) = records.binary_search_by_key(&partition.0, |((id, _), _)| **id) else {
                continue;
            };
            let ((_, count), bytes) = &mut records[at];
            let batch = LogBatch {
                base_offset: *base_offset,
                last_offset: base_offset + i64::from(*count) - 1,
                appended_ms: *appended_ms,
                records: std::mem::take(bytes).into(),
            };
            self.log.appended(*partition, batch, incarnation);
        }
    }
}

fn count(append: &Append, begun: Instant) {
    LOG.append_seconds.record(begun.elapsed());
    LOG.flushes.increment(1);
    LOG.published
        .increment(append.counts.iter().map(|count| u64::from(count.unsigned_abs())).sum());
    LOG.appended_bytes.increment(append.records.iter().map(|bytes| bytes.len() as u64).sum());
}

/// Those before which nothing has failed that has to come first.
fn in_turn(mut requests: Vec<Pending>) -> Vec<Pending> {
    let others = requests.extract_if(.., |pending| !pending.is_in_turn());
    others.for_each(|pending| pending.answer(Err(PublishError::OutOfTurn)));
    requests
}

/// Those of the first's incarnation; the others look their topics up again.
fn of_one_incarnation(mut requests: Vec<Pending>) -> Vec<Pending> {
    let Some(incarnation) = requests.first().map(|first| first.incarnation) else {
        return requests;
    };
    let others = requests.extract_if(.., |pending| pending.incarnation != incarnation);
    others.for_each(Pending::moved);
    requests
}

fn places(requests: &[Pending]) -> Vec<Place> {
    let mut places = Vec::with_capacity(requests.len());
    for (r, pending) in (0u32..).zip(requests) {
        for (p, part) in (0u32..).zip(&pending.parts) {
            let is_free = pending.expects().is_none();
            places.push(Place { partition: part.partition.0, is_free, request: r, part: p });
        }
    }
    places.sort_unstable();
    places
}

fn part<'a>(requests: &'a [Pending], place: &Place) -> &'a super::Part {
    &requests[place.request as usize].parts[place.part as usize]
}

/// The offset that each partition's first request expects; -1 where it expects none.
fn expects(requests: &[Pending], places: &[Place]) -> Option<Vec<i64>> {
    if places.iter().all(|place| place.is_free) {
        return None;
    }
    let firsts = places.chunk_by(|a, b| a.partition == b.partition).map(|group| group[0]);
    Some(firsts.map(|first| requests[first.request as usize].expects().unwrap_or(-1)).collect())
}

/// What the requests claim, sorted, and whose each claim is.
fn claims(requests: &[Pending], places: &[Place]) -> (Option<Claims>, Vec<u32>) {
    let claim_of = |request: u32| requests[request as usize].claim();
    let with_claims = (0u32..).zip(requests).filter(|(_, pending)| pending.claim().is_some());
    let mut claimants: Vec<u32> = with_claims.map(|(request, _)| request).collect();
    if claimants.is_empty() {
        return (None, claimants);
    }
    claimants.sort_unstable_by_key(|request| claim_of(*request).map(|claim| &claim.key));
    let mut parts: Vec<SmallVec<[(i32, i64); 1]>> =
        requests.iter().map(|pending| SmallVec::from_elem((0, 0), pending.parts.len())).collect();
    for (id, group) in (1..).zip(places.chunk_by(|a, b| a.partition == b.partition)) {
        let mut shift = 0;
        for place in group {
            parts[place.request as usize][place.part as usize] = (id, shift);
            shift += part(requests, place).records.len() as i64;
        }
    }
    let mut claims = Claims::default();
    for request in &claimants {
        let Some(claim) = claim_of(*request) else { continue };
        let parts = parts[*request as usize].iter().copied();
        claims.push(&claim.key, claim.hash, &claim.layout, parts);
    }
    (Some(claims), claimants)
}

/// All requests for a partition come from one topic; after a change of its settings the last
/// word counts.
fn compression(requests: &[Pending], group: &[Place]) -> Compression {
    group.last().map_or(Compression::None, |place| requests[place.request as usize].compression)
}

fn answer(requests: Vec<Pending>, places: &[Place], appended: &Appended) {
    let mut bases: Vec<(PartitionId, i64)> =
        appended.iter().map(|(partition, base, _)| (*partition, *base)).collect();
    bases.sort_unstable();
    let mut offsets: Vec<Offsets> =
        requests.iter().map(|pending| Offsets::from_elem(-1, pending.parts.len())).collect();
    for group in places.chunk_by(|a, b| a.partition == b.partition) {
        let found = bases.binary_search_by_key(&group[0].partition, |(partition, _)| partition.0);
        // A partition without an answer leaves -1 behind, which is told as unknown below.
        let Ok(at) = found else { continue };
        let mut next = bases[at].1;
        for place in group {
            offsets[place.request as usize][place.part as usize] = next;
            next += part(&requests, place).records.len() as i64;
        }
    }
    for (pending, offsets) in requests.into_iter().zip(offsets) {
        let complete = offsets.iter().all(|offset| *offset >= 0);
        let result =
            if complete { Ok(Acked::Appended(offsets)) } else { Err(PublishError::OutcomeUnknown) };
        pending.answer(result);
    }
}

fn told(error: &AppendError) -> PublishError {
    match error {
        AppendError::OutcomeUnknown(_) => PublishError::OutcomeUnknown,
        AppendError::Refused(cause) if cause.refusal() == Some(Refusal::Full) => {
            PublishError::StorageFull
        }
        AppendError::NoStandby => PublishError::NoStandby,
        AppendError::Reincarnated
        | AppendError::Refused(_)
        | AppendError::NoBucket
        | AppendError::InTheWay(_) => PublishError::Unavailable,
    }
}
