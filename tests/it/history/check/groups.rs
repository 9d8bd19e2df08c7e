//! Consumer groups: committed offsets (L9), one owner (L10), no skip (L11).
//!
//! Per partition it goes through the epochs from the lowest to the highest and keeps what must
//! have been committed (the floor) and what can have been at the most (the ceiling).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Found, Index};
use crate::history::{
    Invariant, Nanos, Seen,
    group::{Commit, GroupId, GroupOp, Outcome, Part, ProcessId, Seek, Stood, Told},
};

/// A partition of a group.
type Place = (GroupId, u32, u32);

/// What was seen of one partition of a group.
#[derive(Default)]
struct Partition<'a> {
    /// All answers that name it.
    told: Vec<(&'a Told, &'a Part)>,
    /// Those of them that tell where it begins, not where a cursor had come to.
    fresh: BTreeMap<i64, Vec<(&'a Told, &'a Part)>>,
    commits: BTreeMap<i64, Vec<&'a Commit>>,
    seeks: Vec<&'a Seek>,
    stood: Vec<&'a Stood>,
}

pub(super) fn check(index: &Index<'_>, found: &mut Found) {
    let operations = &index.history.groups;
    let answers: HashMap<u64, &Told> = operations
        .iter()
        .filter_map(|operation| match operation {
            GroupOp::Told(told) => Some((told.number, told)),
            _ => None,
        })
        .collect();
    let mut partitions: BTreeMap<Place, Partition<'_>> = BTreeMap::new();
    for operation in operations {
        match operation {
            GroupOp::Told(told) => {
                let before = told.follows.and_then(|number| answers.get(&number).copied());
                for part in &told.parts {
                    let place = (told.group, part.topic, part.partition);
                    let partition = partitions.entry(place).or_default();
                    partition.told.push((told, part));
                    match before.and_then(|before| same(before, part)) {
                        Some(last) => goes_on(place, told, last, part, found),
                        None => partition.fresh.entry(part.epoch).or_default().push((told, part)),
                    }
                    in_order(place, told, part, found);
                }
            }
            GroupOp::Commit(commit) => {
                let place = (commit.group, commit.topic, commit.partition);
                let partition = partitions.entry(place).or_default();
                partition.commits.entry(commit.epoch).or_default().push(commit);
            }
            GroupOp::Seek(seek) if seek.outcome != Outcome::Fail => {
                let place = (seek.group, seek.topic, seek.partition);
                partitions.entry(place).or_default().seeks.push(seek);
            }
            GroupOp::Seek(_) => {}
            GroupOp::Stood(stood) => {
                let place = (stood.group, stood.topic, stood.partition);
                partitions.entry(place).or_default().stood.push(stood);
            }
        }
    }
    for (place, partition) in &partitions {
        one_owner(*place, partition, found);
        fenced(*place, partition, found);
        starts(*place, partition, found);
        monotone(*place, partition, found);
        below_the_end(*place, partition, index, found);
    }
}

fn same<'a>(told: &'a Told, part: &Part) -> Option<&'a Part> {
    told.parts.iter().find(|other| {
        (other.topic, other.partition, other.epoch) == (part.topic, part.partition, part.epoch)
    })
}

fn named((group, topic, partition): Place) -> String {
    format!("group {group} topic {topic} partition {partition}")
}

/// L11 along the chain of cursors, and L10's "never comes back under the same epoch".
fn goes_on(place: Place, told: &Told, last: &Part, part: &Part, found: &mut Found) {
    let wanted = last.offset + last.messages.len() as i64 + part.gap;
    if part.offset != wanted {
        let what = format!(
            "{} epoch {}: answer {} goes on at {}, the one before it at {wanted}",
            named(place),
            part.epoch,
            told.number,
            part.offset
        );
        found.add(Invariant::L11, what);
    }
    if last.is_revoked && !part.messages.is_empty() {
        let what = format!("{} epoch {}: delivered after its revoke", named(place), part.epoch);
        found.add(Invariant::L10, what);
    }
}

fn in_order(place: Place, told: &Told, part: &Part, found: &mut Found) {
    let wrong = part.messages.iter().zip(part.offset..).find(|(offset, wanted)| *offset != wanted);
    if let Some((offset, wanted)) = wrong {
        let (name, number) = (named(place), told.number);
        let what = format!("{name}: answer {number} has {offset} where {wanted} was to come");
        found.add(Invariant::L11, what);
    }
}

/// An epoch is one process's, and once a higher one was seen nothing is delivered under it.
fn one_owner(place: Place, partition: &Partition<'_>, found: &mut Found) {
    let mut owners: BTreeMap<i64, BTreeSet<ProcessId>> = BTreeMap::new();
    for (told, part) in &partition.told {
        owners.entry(part.epoch).or_default().insert(told.process);
    }
    for (epoch, owners) in owners.iter().filter(|(_, owners)| owners.len() > 1) {
        let what = format!("{} epoch {epoch} is that of {owners:?}", named(place));
        found.add(Invariant::L10, what);
    }
    let mut seen =
        Rising::of(partition.told.iter().map(|(told, part)| (told.completed, part.epoch)));
    let mut deliveries: Vec<_> =
        partition.told.iter().filter(|(_, part)| !part.messages.is_empty()).collect();
    deliveries.sort_unstable_by_key(|(told, _)| told.invoked);
    for (told, part) in deliveries {
        let newest = seen.before(told.invoked);
        if newest.is_some_and(|newest| part.epoch < newest) {
            let (number, epoch) = (told.number, part.epoch);
            let what = format!("answer {number} has messages of epoch {epoch} after {newest:?}");
            found.add(Invariant::L10, format!("{}: {what}", named(place)));
        }
    }
}

/// The highest value as time goes by.
struct Rising {
    by_time: Vec<(Nanos, i64)>,
    next: usize,
    highest: Option<i64>,
}

impl Rising {
    fn of(values: impl Iterator<Item = (Nanos, i64)>) -> Self {
        let mut by_time: Vec<_> = values.collect();
        by_time.sort_unstable();
        Self { by_time, next: 0, highest: None }
    }

    /// What was known before `now`, which never falls from call to call.
    fn before(&mut self, now: Nanos) -> Option<i64> {
        while let Some((_, value)) = self.by_time.get(self.next).filter(|(time, _)| *time < now) {
            self.highest = self.highest.max(Some(*value));
            self.next += 1;
        }
        self.highest
    }
}

/// L10: a commit under an epoch that has passed is refused, unless it stood before.
fn fenced(place: Place, partition: &Partition<'_>, found: &mut Found) {
    let mut seen =
        Rising::of(partition.told.iter().map(|(told, part)| (told.completed, part.epoch)));
    for (commit, stood) in sorted(partition) {
        let newest = seen.before(commit.invoked);
        let is_late = newest.is_some_and(|newest| commit.epoch < newest);
        if commit.outcome == Outcome::Ok && is_late && !stood {
            let (offset, epoch) = (commit.offset, commit.epoch);
            let what = format!("{offset} was committed under {epoch} after {newest:?} was seen");
            found.add(Invariant::L10, format!("{}: {what}", named(place)));
        }
    }
}

/// Commits as they were sent, and whether each stood under its epoch before: that is no error
/// then, also when the epoch has passed, and says nothing of where the partition stands.
fn sorted<'a>(partition: &Partition<'a>) -> Vec<(&'a Commit, bool)> {
    let mut commits: Vec<&Commit> = partition.commits.values().flatten().copied().collect();
    commits.sort_unstable_by_key(|commit| commit.invoked);
    let mut standing: HashMap<i64, i64> = HashMap::new();
    for (epoch, told) in &partition.fresh {
        let first = told.iter().map(|(_, part)| part.offset).min();
        standing.extend(first.map(|first| (*epoch, first)));
    }
    let told = commits.into_iter().map(|commit| {
        let before = standing.get(&commit.epoch).copied();
        if commit.outcome != Outcome::Fail {
            standing.insert(commit.epoch, before.map_or(commit.offset, |b| b.max(commit.offset)));
        }
        (commit, before.is_some_and(|before| before >= commit.offset))
    });
    told.collect()
}

/// A seek, and between which epochs it fell: above the highest one that was seen before it, and
/// not above the lowest one under which something was delivered after it.
struct Sought {
    offset: i64,
    above: i64,
    upto: i64,
}

impl Sought {
    fn of(seek: &Seek, partition: &Partition<'_>) -> Self {
        let before = partition.told.iter().filter(|(told, _)| told.completed < seek.invoked);
        let above = before.map(|(_, part)| part.epoch).max().unwrap_or(i64::MIN);
        let is_after = |(told, part): &&(&Told, &Part)| {
            seek.outcome == Outcome::Ok
                && told.invoked > seek.completed
                && !part.messages.is_empty()
        };
        let after = partition.told.iter().filter(is_after);
        let upto = after.map(|(_, part)| part.epoch).min().unwrap_or(i64::MAX);
        Self { offset: seek.offset, above, upto }
    }
}

/// L9: an epoch begins where the ones before it ended: not below what was committed under any of
/// them, and not above everything that anybody committed.
fn starts(place: Place, partition: &Partition<'_>, found: &mut Found) {
    let mut seeks: Vec<Sought> =
        partition.seeks.iter().map(|seek| Sought::of(seek, partition)).collect();
    let epochs: BTreeSet<i64> =
        partition.fresh.keys().chain(partition.commits.keys()).copied().collect();
    let (mut floor, mut ceiling) = (i64::MIN, None);
    let mut known: Vec<(i64, i64)> = Vec::new();
    for epoch in epochs {
        for seek in seeks.iter().filter(|seek| seek.above < epoch) {
            floor = floor.min(seek.offset);
            ceiling = ceiling.max(Some(seek.offset));
            if seek.upto <= epoch {
                let since = known.iter().filter(|(epoch, _)| *epoch > seek.above);
                ceiling = since.map(|(_, offset)| *offset).max().max(Some(seek.offset));
            }
        }
        seeks.retain(|seek| seek.upto > epoch);
        let is_unsure = seeks.iter().any(|seek| seek.above < epoch);
        let fresh = partition.fresh.get(&epoch).map_or(&[][..], Vec::as_slice);
        let commits = partition.commits.get(&epoch).map_or(&[][..], Vec::as_slice);
        let offsets = |ok: bool| {
            let counts = move |outcome| outcome == Outcome::Ok || !ok && outcome == Outcome::Info;
            let counted = commits.iter().filter(move |commit| counts(commit.outcome));
            counted.map(|commit| commit.offset).max()
        };
        let first = fresh.iter().map(|(_, part)| part.offset).min();
        ceiling = ceiling.or(first);
        begins(place, (floor, ceiling), fresh, commits, found);
        ceiling = ceiling.max(offsets(false));
        known.extend(offsets(false).map(|offset| (epoch, offset)));
        if !is_unsure {
            floor = floor.max(offsets(true).unwrap_or(i64::MIN));
        }
    }
}

fn begins(
    place: Place,
    (floor, ceiling): (i64, Option<i64>),
    fresh: &[(&Told, &Part)],
    commits: &[&Commit],
    found: &mut Found,
) {
    let stands = commits.iter().filter(|commit| commit.outcome == Outcome::Ok);
    let mut acknowledged = Rising::of(stands.map(|commit| (commit.completed, commit.offset)));
    let sent = commits.iter().filter(|commit| commit.outcome != Outcome::Fail);
    let mut sent = Rising::of(sent.map(|commit| (commit.invoked, commit.offset)));
    let begins =
        |part: &Part| format!("{} epoch {} begins at {}", named(place), part.epoch, part.offset);
    let mut fresh = fresh.to_vec();
    fresh.sort_unstable_by_key(|(told, _)| told.invoked);
    for (told, part) in &fresh {
        let floor = acknowledged.before(told.invoked).map_or(floor, |offset| floor.max(offset));
        if part.offset < floor {
            let what = format!("{}, and {floor} was committed before", begins(part));
            found.add(Invariant::L9, what);
        }
    }
    fresh.sort_unstable_by_key(|(told, _)| told.completed);
    for (told, part) in &fresh {
        let ceiling = ceiling.max(sent.before(told.completed));
        if ceiling.is_some_and(|ceiling| part.offset - part.gap > ceiling) {
            let what = format!("{}, and nobody committed above {ceiling:?}", begins(part));
            found.add(Invariant::L9, what);
        }
    }
}

/// L9 as those see it who look from outside: never back, but for a seek.
fn monotone(place: Place, partition: &Partition<'_>, found: &mut Found) {
    let commits = sorted(partition).into_iter();
    let commits = commits.filter(|(commit, stood)| commit.outcome == Outcome::Ok && !stood);
    let mut floors: Vec<(Nanos, Nanos, i64)> =
        commits.map(|(commit, _)| (commit.invoked, commit.completed, commit.offset)).collect();
    floors.extend(partition.stood.iter().map(|s| (s.invoked, s.completed, s.offset)));
    for stood in &partition.stood {
        let sought = partition.seeks.iter().filter(|seek| seek.invoked < stood.completed);
        let unsure = |seek: &&&Seek| seek.outcome == Outcome::Info;
        let since = sought.map(|seek| if unsure(&seek) { Nanos::MAX } else { seek.completed });
        let since = since.max().unwrap_or(0);
        let counted = floors.iter().filter(|(invoked, completed, _)| {
            *invoked >= since && *completed < stood.invoked && since <= stood.invoked
        });
        let floor = counted.map(|(.., offset)| *offset).max().unwrap_or(0);
        if stood.offset < floor {
            let what = format!("{} stands at {}, after {floor}", named(place), stood.offset);
            found.add(Invariant::L9, what);
        }
        if stood.offset > stood.high {
            let (offset, high) = (stood.offset, stood.high);
            let what = format!("{} stands at {offset}, above the end {high}", named(place));
            found.add(Invariant::L9, what);
        }
    }
}

/// L9: nothing above the end is committed.
fn below_the_end(place: Place, partition: &Partition<'_>, index: &Index<'_>, found: &mut Found) {
    let (_, topic, number) = place;
    let Some(log) = index.partitions.get(&super::Place { topic, partition: number }) else {
        return;
    };
    let high = log.reads.iter().filter(|read| read.is_final).filter_map(|read| match read.seen {
        Seen::Page { high, .. } => Some(high),
        _ => None,
    });
    let Some(high) = high.max() else { return };
    let commits = partition.commits.values().flatten();
    for commit in commits.filter(|c| c.outcome == Outcome::Ok && c.offset > high) {
        let offset = commit.offset;
        let what = format!("{}: {offset} was committed, above the end {high}", named(place));
        found.add(Invariant::L9, what);
    }
}
