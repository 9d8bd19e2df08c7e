//! Batches are seen as a whole or not at all (L8), and keep their order (L6).

use std::collections::{BTreeMap, HashMap};

use super::{Found, Index, Place};
use crate::history::{Fate, Invariant, Nanos, Read, Seen};

/// The part of a batch in one partition: from its first offset to behind its last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) publish: usize,
    pub(super) begin: i64,
    pub(super) end: i64,
}

/// The parts of all batches by partition, each list by its beginning.
pub(super) type Spans = BTreeMap<Place, Vec<Span>>;

pub(super) fn spans(index: &Index<'_>) -> Spans {
    let mut spans = Spans::new();
    for (publish, sent) in index.history.publishes.iter().enumerate() {
        if !sent.atomic {
            continue;
        }
        let mut parts: HashMap<Place, Span> = HashMap::new();
        for (payload, _) in &sent.messages {
            let Some((place, offset)) = index.places.get(payload).copied() else { continue };
            let span = parts.entry(place).or_insert(Span { publish, begin: offset, end: offset });
            span.begin = span.begin.min(offset);
            span.end = span.end.max(offset + 1);
        }
        for (place, span) in parts {
            spans.entry(place).or_default().push(span);
        }
    }
    for list in spans.values_mut() {
        list.sort_by_key(|span| span.begin);
    }
    spans
}

pub(super) fn check(index: &Index<'_>, spans: &Spans, found: &mut Found) {
    for (at, publish) in index.history.publishes.iter().enumerate() {
        if publish.atomic {
            whole_at_the_end(index, at, found);
        }
        in_order(index, at, found);
    }
    for (place, partition) in &index.partitions {
        let Some(spans) = spans.get(place) else { continue };
        for read in &partition.reads {
            torn(*place, read, spans, found);
        }
    }
}

/// Of a batch whose outcome nobody knows, all or nothing stands. (An acknowledged one is L1's, a
/// refused one L2's.)
fn whole_at_the_end(index: &Index<'_>, at: usize, found: &mut Found) {
    let publish = index.publish(at);
    let unknown = publish.messages.iter().all(|(_, fate)| *fate == Fate::Info);
    let may_go = index.history.topics[publish.topic as usize].retention.is_some();
    if !unknown || may_go {
        return;
    }
    let stands = |payload: &u64| {
        let place = index.places.get(payload);
        place
            .is_some_and(|(place, offset)| index.partitions[place].end.get(offset) == Some(payload))
    };
    let there = publish.messages.iter().filter(|(payload, _)| stands(payload)).count();
    if there != 0 && there != publish.messages.len() {
        let all = publish.messages.len();
        let what = format!("of a batch of {all} (publish {at}), {there} stand at the end");
        found.add(Invariant::L8, what);
    }
}

fn in_order(index: &Index<'_>, at: usize, found: &mut Found) {
    let mut last: HashMap<Place, i64> = HashMap::new();
    for (payload, _) in &index.publish(at).messages {
        let Some((place, offset)) = index.places.get(payload).copied() else { continue };
        if last.insert(place, offset).is_some_and(|before| before >= offset) {
            let what = format!("{place}: publish {at} is not in its own order at offset {offset}");
            found.add(Invariant::L6, what);
        }
    }
}

/// No high watermark lies inside a batch, and a page ends inside one only at its limit.
fn torn(place: Place, read: &Read, spans: &[Span], found: &mut Found) {
    let Seen::Page { messages, next, high, .. } = &read.seen else { return };
    let mut cuts = vec![(*high, "a high watermark")];
    if !messages.is_empty() && messages.len() < read.limit as usize {
        cuts.push((*next, "the end of a page that was not full"));
    }
    for (cut, what) in cuts {
        let behind = spans.partition_point(|span| span.begin < cut);
        let Some(span) = spans[..behind].last() else { continue };
        if cut < span.end {
            let (begin, end) = (span.begin, span.end);
            let told = format!("{what}, {cut}, cuts the batch at {begin} to {end}");
            found.add(Invariant::L8, format!("{place}: {told} (publish {})", span.publish));
        }
    }
}

/// From when on, where, up to which offset a batch over several partitions has to be there:
/// since somebody saw some part of it.
pub(super) fn seen_since(index: &Index<'_>, spans: &Spans) -> Vec<(Place, Nanos, i64)> {
    let mut parts: BTreeMap<usize, Vec<(Place, Span)>> = BTreeMap::new();
    for (place, list) in spans {
        for span in list {
            parts.entry(span.publish).or_default().push((*place, *span));
        }
    }
    let sights: HashMap<Place, Sights> =
        index.partitions.iter().map(|(place, p)| (*place, Sights::of(&p.reads))).collect();
    let mut since = Vec::new();
    for parts in parts.values().filter(|parts| parts.len() > 1) {
        let seen = parts.iter().filter_map(|(place, span)| sights[place].first(span.begin)).min();
        let Some(seen) = seen else { continue };
        since.extend(parts.iter().map(|(place, span)| (*place, seen, span.end)));
    }
    since
}

/// When a high watermark above an offset was seen first.
struct Sights {
    /// High watermarks, rising, each with the earliest time at which it or a higher one was seen.
    highs: Vec<(i64, Nanos)>,
}

impl Sights {
    fn of(reads: &[&Read]) -> Self {
        let mut highs: Vec<(i64, Nanos)> = reads
            .iter()
            .filter_map(|read| match &read.seen {
                Seen::Page { high, .. } | Seen::OutOfRange { high, .. } => {
                    Some((*high, read.ended))
                }
                Seen::Nothing => None,
            })
            .collect();
        highs.sort_unstable();
        let mut earliest = Nanos::MAX;
        for (_, ended) in highs.iter_mut().rev() {
            earliest = earliest.min(*ended);
            *ended = earliest;
        }
        Self { highs }
    }

    fn first(&self, offset: i64) -> Option<Nanos> {
        let at = self.highs.partition_point(|(high, _)| *high <= offset);
        self.highs.get(at).map(|(_, ended)| *ended)
    }
}
