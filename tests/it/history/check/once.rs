//! What is to be done once is done once, and every repeat gets the first answer (L7).

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, Index, Place};
use crate::history::{Attempt, Fate, Invariant, Seen, TopicId};

pub(super) fn check(index: &Index<'_>, found: &mut Found) {
    let mut claims: BTreeMap<(TopicId, u64), Vec<&Attempt>> = BTreeMap::new();
    for attempt in &index.history.attempts {
        claims.entry((attempt.topic, attempt.claim)).or_default().push(attempt);
    }
    let places = places(index);
    for ((_, claim), attempts) in claims {
        one_answer(claim, &attempts, found);
        let asked: BTreeSet<u64> =
            attempts.iter().flat_map(|attempt| &attempt.messages).map(|(p, _)| *p).collect();
        for payload in asked {
            let Some(places) = places.get(&payload).filter(|places| places.len() > 1) else {
                continue;
            };
            let told: Vec<String> =
                places.iter().map(|(place, offset)| format!("{place} offset {offset}")).collect();
            let what = format!("{payload:016x} of claim {claim} stands at {}", told.join(" and "));
            found.add(Invariant::L7, what);
        }
    }
}

/// Everywhere that each payload was read.
fn places(index: &Index<'_>) -> BTreeMap<u64, BTreeSet<(Place, i64)>> {
    let mut places: BTreeMap<u64, BTreeSet<(Place, i64)>> = BTreeMap::new();
    for read in &index.history.reads {
        let Seen::Page { messages, .. } = &read.seen else { continue };
        let place = Place { topic: read.topic, partition: read.partition };
        for (offset, payload) in messages {
            places.entry(*payload).or_default().insert((place, *offset));
        }
    }
    places
}

/// All that were acknowledged asked for the same and were told the same.
fn one_answer(claim: u64, attempts: &[&Attempt], found: &mut Found) {
    let is_ok = |attempt: &&&Attempt| {
        attempt.messages.iter().all(|(_, fate)| matches!(fate, Fate::Ok { .. }))
    };
    let mut told = attempts.iter().filter(is_ok);
    let Some(first) = told.next() else { return };
    for other in told {
        if other.messages != first.messages {
            let what =
                format!("claim {claim} was told {:?} and {:?}", first.messages, other.messages);
            found.add(Invariant::L7, what);
        }
    }
}
