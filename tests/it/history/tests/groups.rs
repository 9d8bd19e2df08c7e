//! L9 to L11 against histories made by hand.

use std::collections::BTreeSet;

use super::{after, broken, only};
use crate::history::{
    From, History,
    Invariant::*,
    Nanos, Read, Seen, Topic,
    group::{Commit, GroupOp, Outcome, Part, Seek, Stood, Told},
};

fn part(epoch: i64, offset: i64, count: i64) -> Part {
    let messages = (offset..offset + count).collect();
    Part { topic: 0, partition: 0, epoch, offset, gap: 0, is_revoked: false, messages }
}

fn told(number: u64, process: u64, invoked: Nanos, follows: Option<u64>, part: Part) -> GroupOp {
    let (group, completed, parts) = (0, invoked + 5, vec![part]);
    GroupOp::Told(Told { group, process, invoked, completed, follows, number, parts })
}

fn commit(invoked: Nanos, epoch: i64, offset: i64, outcome: Outcome) -> GroupOp {
    let (group, topic, partition, completed) = (0, 0, 0, invoked + 5);
    GroupOp::Commit(Commit { group, topic, partition, epoch, offset, invoked, completed, outcome })
}

fn seek(invoked: Nanos, offset: i64, outcome: Outcome) -> GroupOp {
    let (group, topic, partition, completed) = (0, 0, 0, invoked + 5);
    GroupOp::Seek(Seek { group, topic, partition, offset, invoked, completed, outcome })
}

fn stood(invoked: Nanos, offset: i64) -> GroupOp {
    let (group, topic, partition, completed, high) = (0, 0, 0, invoked + 5, 20);
    GroupOp::Stood(Stood { group, topic, partition, invoked, completed, offset, high })
}

/// One process reads 0 to 6 and commits 4, another goes on there up to 9, and commits 8.
fn group() -> History {
    let seen = Seen::Page { messages: vec![], next: 20, low: 0, high: 20 };
    let (from, limit, started, ended) = (From::Offset(20), 1, 990, 999);
    let end = Read { topic: 0, partition: 0, from, limit, started, ended, seen, is_final: false };
    History {
        topics: vec![Topic { name: "t".to_owned(), retention: None }],
        reads: vec![end],
        groups: vec![
            told(0, 1, 10, None, part(100, 0, 0)),
            told(1, 1, 20, Some(0), part(100, 0, 3)),
            told(2, 1, 30, Some(1), part(100, 3, 3)),
            commit(40, 100, 4, Outcome::Ok),
            stood(50, 4),
            told(3, 2, 60, None, part(200, 4, 0)),
            told(4, 2, 70, Some(3), part(200, 4, 5)),
            commit(80, 100, 6, Outcome::Fail),
            commit(90, 200, 8, Outcome::Ok),
            stood(100, 8),
        ],
        ..History::default()
    }
}

fn with(change: impl FnOnce(&mut Vec<GroupOp>)) -> BTreeSet<crate::history::Invariant> {
    let mut history = group();
    change(&mut history.groups);
    broken(&history)
}

#[test]
fn a_good_history_of_a_group_is_good() {
    assert_eq!(with(|_| {}), BTreeSet::new());
    let extent = group().extent();
    assert_eq!((extent.delivered, extent.committed, extent.refused), (11, 2, 1));
    // The same poll again, with the same cursor: its answer was lost.
    assert_eq!(with(|g| g.push(told(9, 2, 110, Some(3), part(200, 4, 7)))), BTreeSet::new());
    // Nobody knows whether it was committed: both may be.
    for start in [8, 9] {
        let unknown = with(|g| {
            g.push(commit(110, 200, 9, Outcome::Info));
            g.push(told(9, 3, 120, None, part(300, start, 0)));
        });
        assert_eq!(unknown, BTreeSet::new(), "{start}");
    }
    // A commit again whose answer was lost, after the next owner has begun.
    assert_eq!(with(|g| g.push(commit(110, 100, 4, Outcome::Ok))), BTreeSet::new());
}

#[test]
fn l9_the_next_owner_begins_at_the_committed_offset() {
    assert_eq!(with(|g| g[5] = told(3, 2, 60, None, part(200, 3, 1))), only(L9));
    let skipped = with(|g| {
        g[5] = told(3, 2, 60, None, part(200, 5, 0));
        g[6] = told(4, 2, 70, Some(3), part(200, 5, 4));
    });
    assert_eq!(skipped, only(L9));
    // Accepted under the old epoch while the next owner began without it.
    assert_eq!(with(|g| g.push(commit(58, 100, 6, Outcome::Ok))), only(L9));
    let forgotten = with(|g| g.push(told(9, 2, 110, None, part(200, 7, 0))));
    assert_eq!(forgotten, only(L9));
    let above = after(|h| {
        let refused = commit(1, 100, 21, Outcome::Ok);
        h.groups.push(refused);
    });
    assert_eq!(above, only(L9));
}

#[test]
fn l9_a_committed_offset_never_falls_but_for_a_seek() {
    assert_eq!(with(|g| g.push(stood(110, 7))), only(L9));
    assert_eq!(with(|g| g.push(stood(110, 21))), only(L9));
    let moved = |outcome, offset| {
        with(|g| {
            g.push(seek(110, 2, outcome));
            g.push(told(9, 2, 120, None, part(300, offset, 2)));
            g.push(told(10, 2, 130, Some(9), part(300, offset + 2, 2)));
            g.push(stood(140, offset));
        })
    };
    assert_eq!(moved(Outcome::Ok, 2), BTreeSet::new());
    assert_eq!(moved(Outcome::Info, 2), BTreeSet::new());
    assert_eq!(moved(Outcome::Info, 8), BTreeSet::new());
    assert_eq!(moved(Outcome::Fail, 2), only(L9));
    assert_eq!(moved(Outcome::Ok, 8), only(L9), "it was not moved");
    assert_eq!(moved(Outcome::Ok, 1), only(L9), "it was moved too far");
    // A commit of where its epoch began, or again of what it had reached, says nothing of where
    // the group is after a seek.
    for offset in [4, 8] {
        let late = with(|g| {
            g.push(seek(110, 2, Outcome::Ok));
            g.push(commit(120, 200, offset, Outcome::Ok));
            g.push(stood(130, 2));
        });
        assert_eq!(late, BTreeSet::new(), "{offset}");
    }
    let fell = with(|g| {
        g.push(commit(110, 200, 9, Outcome::Ok));
        g.push(stood(120, 8));
    });
    assert_eq!(fell, only(L9));
}

#[test]
fn l10_an_epoch_is_one_process_s_and_passes() {
    assert_eq!(with(|g| g[6] = told(4, 7, 70, Some(3), part(200, 4, 5))), only(L10));
    let late = with(|g| g.push(told(9, 1, 110, Some(2), part(100, 6, 1))));
    assert_eq!(late, only(L10));
    let in_flight = with(|g| g.push(told(9, 1, 62, Some(2), part(100, 6, 1))));
    assert_eq!(in_flight, BTreeSet::new());
    let zombie = with(|g| g[7] = commit(80, 100, 6, Outcome::Ok));
    assert_eq!(zombie, BTreeSet::from([L9, L10]));
    let revoked = with(|g| {
        let before = Part { is_revoked: true, ..part(200, 9, 0) };
        g.push(told(9, 2, 110, Some(4), before));
        g.push(told(10, 2, 120, Some(9), part(200, 9, 1)));
    });
    assert_eq!(revoked, only(L10));
}

#[test]
fn l11_within_an_epoch_each_answer_goes_on_where_the_last_one_ended() {
    for wrong in [0, 2, 4] {
        let odd = with(|g| g[2] = told(2, 1, 30, Some(1), part(100, wrong, 3)));
        assert_eq!(odd, only(L11), "{wrong}");
    }
    let hole = with(|g| {
        let mut holed = part(200, 4, 5);
        holed.messages[2] += 1;
        g[6] = told(4, 2, 70, Some(3), holed);
    });
    assert_eq!(hole, only(L11));
    let gap = with(|g| g.push(told(9, 2, 110, Some(4), Part { gap: 3, ..part(200, 12, 1) })));
    assert_eq!(gap, BTreeSet::new());
}
