//! The partitions of a member: how far each was printed, and how far that is committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::feed::{is_at_end, tell_gap};

/// A partition as the server tells of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Assignment {
    topic: String,
    partition: u32,
    epoch: i64,
    #[serde(default, skip_serializing)]
    offset: i64,
    #[serde(default, skip_serializing)]
    gap: i64,
}

/// An entry of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Commit {
    topic: String,
    partition: u32,
    offset: i64,
    epoch: i64,
}

#[derive(Debug)]
struct Held {
    epoch: i64,
    /// The next offset to be printed.
    next: i64,
    /// What was sent in a commit.
    sent: i64,
    /// What was answered of it.
    committed: i64,
}

/// What one member has of one topic.
#[derive(Debug, Default)]
pub struct Partitions {
    topic: String,
    held: BTreeMap<u32, Held>,
}

impl Partitions {
    /// Nothing of `topic` yet.
    pub fn of(topic: &str) -> Self {
        Self { topic: topic.to_owned(), held: BTreeMap::new() }
    }

    /// Takes over the whole list, and tells of what retention took. What is kept under its epoch
    /// goes on where it stood.
    pub fn assigned(&mut self, has: Vec<Assignment>) {
        let mut before = std::mem::take(&mut self.held);
        for Assignment { partition, epoch, offset, gap, .. } in has {
            let kept = before.remove(&partition).filter(|kept| kept.epoch == epoch);
            let kept = kept.unwrap_or_else(|| {
                if gap > 0 {
                    tell_gap(partition, offset - gap, offset);
                }
                Held { epoch, next: offset, sent: offset, committed: offset }
            });
            self.held.insert(partition, kept);
        }
    }

    /// Gives partitions up: what is still to be committed of them.
    pub fn give_up(&mut self, given: &[Assignment]) -> Vec<Commit> {
        let is_given = |commit: &Commit| {
            let is_it = |given: &Assignment| {
                given.partition == commit.partition && given.epoch == commit.epoch
            };
            given.iter().any(is_it)
        };
        let mut last = self.unsent();
        last.retain(is_given);
        for Assignment { partition, .. } in given {
            self.held.remove(partition);
        }
        last
    }

    /// Nothing is held any more.
    pub fn clear(&mut self) {
        self.held.clear();
    }

    /// Everything before `end` was printed, if it is still held under `epoch`.
    pub fn printed(&mut self, partition: u32, epoch: i64, end: i64) {
        if let Some(held) = self.held.get_mut(&partition).filter(|held| held.epoch == epoch) {
            held.next = end;
        }
    }

    /// Whether nothing is left before `ends`.
    pub fn is_at_end(&self, ends: &BTreeMap<u32, i64>) -> bool {
        let next = self.held.iter().map(|(partition, held)| (*partition, held.next)).collect();
        is_at_end(&next, ends)
    }

    /// What was printed and not sent in a commit.
    pub fn unsent(&self) -> Vec<Commit> {
        self.commits(|held| held.sent)
    }

    /// What was printed and is not known to be committed.
    pub fn uncommitted(&self) -> Vec<Commit> {
        self.commits(|held| held.committed)
    }

    fn commits(&self, standing: fn(&Held) -> i64) -> Vec<Commit> {
        let held = self.held.iter().filter(|(_, held)| held.next > standing(held));
        let commit = |(partition, held): (&u32, &Held)| {
            let Held { epoch, next: offset, .. } = *held;
            Commit { topic: self.topic.clone(), partition: *partition, offset, epoch }
        };
        held.map(commit).collect()
    }

    /// All that was printed is under way in a commit.
    pub fn sent(&mut self) {
        self.held.values_mut().for_each(|held| held.sent = held.next);
    }

    /// The commit that was under way is done, or has to be done again.
    pub fn answered(&mut self, is_done: bool) {
        for held in self.held.values_mut() {
            match is_done {
                true => held.committed = held.sent,
                false => held.sent = held.committed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(partition: u32, epoch: i64, offset: i64) -> Assignment {
        Assignment { topic: "t".to_owned(), partition, epoch, offset, gap: 0 }
    }

    fn places(commits: &[Commit]) -> Vec<(u32, i64, i64)> {
        commits.iter().map(|commit| (commit.partition, commit.epoch, commit.offset)).collect()
    }

    #[test]
    fn what_was_printed_is_committed_once_and_again_where_that_failed() {
        let mut partitions = Partitions::of("t");
        partitions.assigned(vec![assignment(0, 1, 5), assignment(1, 2, 0)]);
        assert!(partitions.unsent().is_empty());
        partitions.printed(0, 1, 7);
        partitions.printed(1, 1, 9);
        assert_eq!(places(&partitions.unsent()), [(0, 1, 7)], "another epoch's is nothing");
        partitions.sent();
        partitions.printed(0, 1, 8);
        assert_eq!(places(&partitions.unsent()), [(0, 1, 8)]);
        partitions.answered(true);
        assert_eq!(places(&partitions.uncommitted()), [(0, 1, 8)]);
        partitions.sent();
        assert!(partitions.unsent().is_empty());
        partitions.answered(false);
        assert_eq!(places(&partitions.unsent()), [(0, 1, 8)]);
    }

    #[test]
    fn a_partition_that_comes_again_begins_where_it_is_told() {
        let mut partitions = Partitions::of("t");
        partitions.assigned(vec![assignment(0, 1, 0), assignment(1, 1, 0)]);
        partitions.printed(0, 1, 3);
        partitions.printed(1, 1, 4);
        let last = partitions.give_up(&[assignment(1, 1, 0)]);
        assert_eq!(places(&last), [(1, 1, 4)]);
        partitions.assigned(vec![assignment(0, 1, 0), assignment(1, 5, 4)]);
        assert_eq!(places(&partitions.unsent()), [(0, 1, 3)]);
        let ends = |zero, one| BTreeMap::from([(0, zero), (1, one)]);
        assert!(partitions.is_at_end(&ends(3, 4)) && !partitions.is_at_end(&ends(3, 5)));
    }
}
