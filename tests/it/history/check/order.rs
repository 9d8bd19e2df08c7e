//! What must be there at a time: everything acknowledged before (L6), everything that anybody
//! saw before (L5), the rest of every batch that anybody saw a part of (L8); and what must not
//! be gone (L12).

use std::{collections::BTreeMap, time::Duration};

use super::{
    Found, Index, Partition, Place,
    batches::{Spans, seen_since},
};
use crate::history::{Fate, From, Invariant, Nanos, Read, Seen};

/// Kinds of what must be there, each with the promise that is broken when it is not.
const KINDS: [Invariant; 3] = [Invariant::L6, Invariant::L5, Invariant::L8];

/// Since `time`, offsets below `end` must be there.
#[derive(Clone, Copy)]
struct Floor {
    time: Nanos,
    end: i64,
    kind: usize,
}

pub(super) fn check(index: &Index<'_>, spans: &Spans, found: &mut Found) {
    let mut floors: BTreeMap<Place, Vec<Floor>> = BTreeMap::new();
    let mut sent: BTreeMap<Place, Vec<(Nanos, i64)>> = BTreeMap::new();
    for publish in &index.history.publishes {
        for (payload, fate) in &publish.messages {
            if let Fate::Ok { partition, offset } = *fate {
                let place = Place { topic: publish.topic, partition };
                let floor = Floor { time: publish.completed, end: offset + 1, kind: 0 };
                floors.entry(place).or_default().push(floor);
            }
            // Where it stands, though nobody acknowledged it.
            if let Some((place, offset)) = index.places.get(payload) {
                sent.entry(*place).or_default().push((publish.invoked, *offset));
            }
        }
    }
    for (place, time, end) in seen_since(index, spans) {
        floors.entry(place).or_default().push(Floor { time, end, kind: 2 });
    }
    for (place, partition) in &index.partitions {
        let mut floors = floors.remove(place).unwrap_or_default();
        floors.extend(partition.reads.iter().filter_map(|read| {
            let (_, high) = watermarks(read)?;
            Some(Floor { time: read.ended, end: high, kind: 1 })
        }));
        floors.sort_unstable_by_key(|floor| floor.time);
        let mut sent = sent.remove(place).unwrap_or_default();
        sent.sort_unstable();
        reads_see(*place, partition, &floors, found);
        appends_follow(*place, &sent, &floors, found);
        let retention = index.history.topics[place.topic as usize].retention;
        nothing_went(*place, partition, &sent, retention, found);
    }
}

fn watermarks(read: &Read) -> Option<(i64, i64)> {
    match &read.seen {
        Seen::Page { low, high, .. } | Seen::OutOfRange { low, high } => Some((*low, *high)),
        Seen::Nothing => None,
    }
}

/// The highest floor of each kind as time goes by.
struct Rising<'a> {
    floors: std::slice::Iter<'a, Floor>,
    ends: [i64; KINDS.len()],
}

impl<'a> Rising<'a> {
    fn new(floors: &'a [Floor]) -> Self {
        Self { floors: floors.iter(), ends: [0; KINDS.len()] }
    }

    /// The floors of the time before `now`.
    fn before(&mut self, now: Nanos) -> [i64; KINDS.len()] {
        while let Some(floor) = self.floors.as_slice().first().filter(|floor| floor.time < now) {
            self.ends[floor.kind] = self.ends[floor.kind].max(floor.end);
            self.floors.next();
        }
        self.ends
    }
}

/// L5, L6 and L8 as readers see them.
fn reads_see(place: Place, partition: &Partition<'_>, floors: &[Floor], found: &mut Found) {
    let mut rising = Rising::new(floors);
    for read in &partition.reads {
        let ends = rising.before(read.started);
        let Some((_, high)) = watermarks(read) else { continue };
        for (end, invariant) in ends.into_iter().zip(KINDS) {
            if high < end {
                let what = format!(
                    "{place}: a read that began at {} ns saw {high} as the end, after {end}",
                    read.started
                );
                found.add(invariant, what);
            }
        }
        if let (From::Latest, Seen::Page { messages, next, .. }) = (read.from, &read.seen) {
            let first = next - messages.len() as i64;
            let end = ends[0].max(ends[1]);
            if first < end {
                let what = format!("{place}: `latest` meant {first}, when {end} was known");
                found.add(Invariant::L6, what);
            }
        }
    }
}

/// L6 as publishers see it: what is sent later stands behind everything known by then.
fn appends_follow(place: Place, sent: &[(Nanos, i64)], floors: &[Floor], found: &mut Found) {
    let mut rising = Rising::new(floors);
    for (invoked, offset) in sent {
        let ends = rising.before(*invoked);
        let end = ends[0].max(ends[1]);
        if *offset < end {
            let what = format!(
                "{place}: a message sent at {invoked} ns stands at {offset}, after the log was \
                 known up to {end}"
            );
            found.add(Invariant::L6, what);
        }
    }
}

/// L12: low watermarks never fall, and pass no message before its time.
fn nothing_went(
    place: Place,
    partition: &Partition<'_>,
    sent: &[(Nanos, i64)],
    retention: Option<Duration>,
    found: &mut Found,
) {
    let mut by_offset: Vec<(i64, Nanos)> = sent.iter().map(|(t, offset)| (*offset, *t)).collect();
    by_offset.sort_unstable();
    let mut youngest = 0;
    for (_, invoked) in &mut by_offset {
        youngest = youngest.max(*invoked);
        *invoked = youngest;
    }
    let mut by_end: Vec<&Read> = partition.reads.clone();
    by_end.sort_unstable_by_key(|read| read.ended);
    let (mut ended, mut highest) = (by_end.iter().peekable(), 0);
    for read in &partition.reads {
        while let Some(before) = ended.next_if(|before| before.ended < read.started) {
            highest = watermarks(before).map_or(highest, |(low, _)| highest.max(low));
        }
        let Some((low, _)) = watermarks(read) else { continue };
        if low < highest {
            found.add(Invariant::L12, format!("{place}: low fell from {highest} to {low}"));
        }
        let below = by_offset.partition_point(|(offset, _)| *offset < low);
        let youngest = below.checked_sub(1).map(|at| by_offset[at].1);
        let too_early = match (retention, youngest) {
            (None, _) => low > 0,
            (Some(keep), Some(invoked)) => {
                Duration::from_nanos(read.ended - invoked.min(read.ended)) < keep
            }
            (Some(_), None) => false,
        };
        if too_early {
            let what = format!("{place}: low is {low} before the time of what lay below");
            found.add(Invariant::L12, what);
        }
    }
}
