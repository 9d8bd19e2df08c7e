//! The full read at the end: everything acknowledged is in it (L1) and it is dense (L4).

use super::{Found, Index, Partition, Place};
use crate::history::{Fate, From, Invariant, Seen};

pub(super) fn check(index: &Index<'_>, found: &mut Found) {
    let ends: Vec<_> = index.partitions.iter().map(|(place, p)| (place, End::of(p))).collect();
    for (place, end) in &ends {
        dense(**place, end, found);
    }
    let ends = ends.into_iter().map(|(place, end)| (*place, end)).collect();
    durable(index, &ends, found);
}

/// The final pages of a partition, one behind the other.
struct End<'a> {
    /// From where to where each page goes.
    pages: Vec<(i64, i64)>,
    bounds: Option<(i64, i64)>,
    partition: &'a Partition<'a>,
}

impl<'a> End<'a> {
    fn of(partition: &'a Partition<'a>) -> Self {
        let mut pages = Vec::new();
        let mut bounds: Option<(i64, i64)> = None;
        for read in partition.reads.iter().filter(|read| read.is_final) {
            let Seen::Page { messages, next, low, high } = &read.seen else { continue };
            let first = match read.from {
                From::Offset(offset) => offset,
                From::Earliest | From::Latest => next - messages.len() as i64,
            };
            pages.push((first, *next));
            // Retention may go on while the end is read.
            let low = bounds.map_or(*low, |(before, _)| before.max(*low));
            bounds = Some((low, *high));
        }
        Self { pages, bounds, partition }
    }
}

fn dense(place: Place, end: &End<'_>, found: &mut Found) {
    let Some((low, high)) = end.bounds else { return };
    let mut reached = end.pages.first().map_or(low, |(first, _)| *first);
    if reached > low {
        found.add(Invariant::L4, format!("{place}: the end is read from {reached}, not {low}"));
    }
    for (first, next) in &end.pages {
        if *first != reached {
            let what = format!("{place}: the full read goes from {reached} to {first}");
            found.add(Invariant::L4, what);
        }
        reached = *next;
    }
    if reached != high {
        found.add(Invariant::L4, format!("{place}: the full read ends at {reached}, not {high}"));
    }
    let there = (low..high).filter(|offset| end.partition.end.contains_key(offset)).count();
    let missing = (high - low) - there as i64;
    if missing != 0 {
        let what = format!("{place}: of the offsets {low} to {high}, {missing} are not there");
        found.add(Invariant::L4, what);
    }
}

fn durable(
    index: &Index<'_>,
    ends: &std::collections::BTreeMap<Place, End<'_>>,
    found: &mut Found,
) {
    for publish in &index.history.publishes {
        let may_go = index.history.topics[publish.topic as usize].retention.is_some();
        for (payload, fate) in &publish.messages {
            let Fate::Ok { partition, offset } = *fate else { continue };
            let place = Place { topic: publish.topic, partition };
            let end = ends.get(&place);
            let bounds = end.and_then(|end| end.bounds);
            let standing = end.and_then(|end| end.partition.end.get(&offset));
            // Whether it went too early is L12's question.
            let is_gone = may_go && bounds.is_some_and(|(low, _)| offset < low);
            if standing == Some(payload) || is_gone {
                continue;
            }
            let instead = match (bounds, standing) {
                (None, _) => "the partition was not read at the end".to_owned(),
                (_, Some(other)) => format!("{other:016x} stands there"),
                (Some((low, high)), None) => format!("it is not there ({low} to {high})"),
            };
            let what = format!("{payload:016x} was acknowledged at {place} offset {offset}:");
            found.add(Invariant::L1, format!("{what} {instead}"));
        }
    }
}
