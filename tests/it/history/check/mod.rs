//! The checker: an index of the history by partition, and one file a family of promises.

mod batches;
mod end;
mod groups;
mod once;
mod order;
mod pages;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use super::{Fate, History, Invariant, Publish, Read, Seen, TopicId};

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen, for a person.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// Everything that is broken in `history`; nothing when it is good. Panics when the history is
/// not one: a payload that was sent twice by the test itself.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::default();
    let index = Index::of(history, &mut found);
    for (place, partition) in &index.partitions {
        pages::check(*place, partition, &mut found);
    }
    end::check(&index, &mut found);
    let spans = batches::spans(&index);
    batches::check(&index, &spans, &mut found);
    order::check(&index, &spans, &mut found);
    once::check(&index, &mut found);
    groups::check(&index, &mut found);
    found.violations
}

/// Violations as they are found.
#[derive(Default)]
struct Found {
    violations: Vec<Violation>,
}

impl Found {
    fn add(&mut self, invariant: Invariant, what: String) {
        self.violations.push(Violation { invariant, what });
    }
}

/// A partition of one incarnation of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    topic: TopicId,
    partition: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {} partition {}", self.topic, self.partition)
    }
}

/// A history by what the checks ask it for.
struct Index<'a> {
    history: &'a History,
    /// Who sent a payload: publish and place in it.
    senders: HashMap<u64, (usize, usize)>,
    /// Where a payload stands: as acknowledged, else as first read.
    places: HashMap<u64, (Place, i64)>,
    partitions: BTreeMap<Place, Partition<'a>>,
}

/// What is known of one partition.
#[derive(Default)]
struct Partition<'a> {
    /// Each offset's payload, as first acknowledged or read.
    values: HashMap<i64, u64>,
    /// All reads, by their start.
    reads: Vec<&'a Read>,
    /// What the full read at the end brought.
    end: HashMap<i64, u64>,
}

impl<'a> Index<'a> {
    fn of(history: &'a History, found: &mut Found) -> Self {
        let mut index = Self {
            history,
            senders: HashMap::new(),
            places: HashMap::new(),
            partitions: BTreeMap::new(),
        };
        for (at, publish) in history.publishes.iter().enumerate() {
            for (nth, (payload, _)) in publish.messages.iter().enumerate() {
                let before = index.senders.insert(*payload, (at, nth));
                assert!(before.is_none(), "the test sent {payload:016x} twice");
            }
        }
        for publish in &history.publishes {
            for (payload, fate) in &publish.messages {
                if let Fate::Ok { partition, offset } = *fate {
                    let place = Place { topic: publish.topic, partition };
                    index.stands(place, offset, *payload, "acknowledged", found);
                }
            }
        }
        let mut reads: Vec<&Read> = history.reads.iter().collect();
        reads.sort_by_key(|read| (read.started, read.ended));
        for read in reads {
            let place = Place { topic: read.topic, partition: read.partition };
            index.partitions.entry(place).or_default().reads.push(read);
            if let Seen::Page { messages, .. } = &read.seen {
                if read.is_final {
                    index.partitions.entry(place).or_default().end.extend(messages.iter().copied());
                }
                for (offset, payload) in messages {
                    index.was_sent(place, *offset, *payload, read, found);
                    index.stands(place, *offset, *payload, "read", found);
                }
            }
        }
        index
    }

    fn publish(&self, at: usize) -> &'a Publish {
        &self.history.publishes[at]
    }

    /// L3, and L2's "once".
    fn stands(&mut self, place: Place, offset: i64, payload: u64, how: &str, found: &mut Found) {
        let partition = self.partitions.entry(place).or_default();
        let standing = *partition.values.entry(offset).or_insert(payload);
        if standing != payload {
            let what = format!(
                "{place} offset {offset} is {standing:016x}, and {payload:016x} was {how} there"
            );
            found.add(Invariant::L3, what);
        }
        let known = *self.places.entry(payload).or_insert((place, offset));
        if known != (place, offset) {
            let what = format!(
                "{payload:016x} stands at {} offset {} and was {how} at {place} offset {offset}",
                known.0, known.1
            );
            found.add(Invariant::L2, what);
        }
    }

    /// L2.
    fn was_sent(&self, place: Place, offset: i64, payload: u64, read: &Read, found: &mut Found) {
        let at = format!("{payload:016x}, read at {place} offset {offset},");
        let Some((sender, nth)) = self.senders.get(&payload) else {
            return found.add(Invariant::L2, format!("{at} was never sent"));
        };
        let publish = self.publish(*sender);
        let why = if publish.topic != place.topic {
            "was sent to another topic"
        } else if read.ended < publish.invoked {
            "had not been sent yet"
        } else if publish.messages[*nth].1 == Fate::Fail {
            "was refused with the word that nothing happened"
        } else {
            return;
        };
        found.add(Invariant::L2, format!("{at} {why}"));
    }
}
