//! The checker against histories made by hand: each promise kept, and each broken in one place.

mod groups;

use std::{collections::BTreeSet, time::Duration};

use super::{
    Attempt, Fate, From, History,
    Invariant::{self, *},
    Nanos, Publish, Read, Seen, Topic, check,
};

const PAGE: u32 = 100;

fn payload(partition: u32, offset: i64) -> u64 {
    u64::from(partition) * 1_000 + offset as u64
}

fn at(partition: u32, offset: i64) -> (u64, Fate) {
    (payload(partition, offset), Fate::Ok { partition, offset })
}

fn publish(times: (Nanos, Nanos), messages: &[(u64, Fate)]) -> Publish {
    let (invoked, completed) = times;
    Publish { topic: 0, invoked, completed, atomic: true, messages: messages.to_vec() }
}

fn read(times: (Nanos, Nanos), partition: u32, from: From, seen: Seen) -> Read {
    let (started, ended) = times;
    Read { topic: 0, partition, from, limit: PAGE, started, ended, seen, is_final: false }
}

/// A page of `offsets` as they were published.
fn page(partition: u32, offsets: std::ops::Range<i64>, high: i64) -> Seen {
    let next = offsets.end;
    let messages = offsets.map(|offset| (offset, payload(partition, offset))).collect();
    Seen::Page { messages, next, low: 0, high }
}

/// Two partitions: singles 0 and 1 in the first, a batch over 2, 3 and the second's 0, 1, then an
/// unknown single at 4; read in between and at the end.
fn good() -> History {
    let topics = vec![Topic { name: "t".to_owned(), retention: None }];
    let unknown = (payload(0, 4), Fate::Info);
    let publishes = vec![
        publish((10, 20), &[at(0, 0)]),
        publish((21, 30), &[at(0, 1)]),
        publish((31, 40), &[at(0, 2), at(1, 0), at(0, 3), at(1, 1)]),
        publish((50, 60), &[unknown]),
        publish((50, 60), &[(payload(9, 9), Fate::Fail)]),
    ];
    let mut reads = vec![
        read((22, 29), 0, From::Earliest, page(0, 0..1, 1)),
        read((32, 39), 0, From::Offset(1), page(0, 1..4, 4)),
        read((41, 45), 1, From::Latest, page(1, 2..2, 2)),
        read((41, 46), 0, From::Offset(9), Seen::OutOfRange { low: 0, high: 4 }),
        read((47, 48), 0, From::Earliest, Seen::Nothing),
    ];
    for (partition, end) in [(0, 5), (1, 2)] {
        let last = read((70, 80), partition, From::Earliest, page(partition, 0..end, end));
        reads.push(Read { is_final: true, ..last });
    }
    // The batch was sent twice; the first time nobody heard the answer.
    let batch = &publishes[2].messages;
    let lost = batch.iter().map(|(payload, _)| (*payload, Fate::Info)).collect();
    let attempts = [lost, batch.clone(), batch.clone()];
    let attempts = attempts.map(|messages| Attempt { topic: 0, claim: 1, messages }).to_vec();
    History { topics, publishes, attempts, reads, ..History::default() }
}

fn broken(history: &History) -> BTreeSet<Invariant> {
    check(history).into_iter().map(|violation| violation.invariant).collect()
}

/// What the checker says of the good history after one change.
fn after(change: impl FnOnce(&mut History)) -> BTreeSet<Invariant> {
    let mut history = good();
    change(&mut history);
    broken(&history)
}

fn only(invariant: Invariant) -> BTreeSet<Invariant> {
    BTreeSet::from([invariant])
}

/// Changes the page of a read.
fn alter(read: &mut Read, change: impl FnOnce(&mut Vec<(i64, u64)>, &mut i64, &mut i64, &mut i64)) {
    let Seen::Page { messages, next, low, high } = &mut read.seen else { panic!("no page") };
    change(messages, next, low, high);
}

const EARLY: usize = 0;
const MIDDLE: usize = 1;
const LATEST: usize = 2;
const END: usize = 5;

#[test]
fn a_good_history_is_good() {
    assert_eq!(check(&good()), []);
    assert_eq!(check(&History::default()), []);
    let extent = good().extent();
    assert_eq!((extent.acked, extent.unknown, extent.failed), (6, 1, 1));
    assert_eq!((extent.pages, extent.finally), (2, 7));
}

#[test]
fn l1_an_acknowledged_message_is_there_at_the_end() {
    let lost = after(|h| {
        alter(&mut h.reads[END], |messages, next, _, high| {
            messages.truncate(3);
            (*next, *high) = (3, 3);
        });
    });
    assert!(lost.contains(&L1), "{lost:?}");
    let unread = after(|h| drop(h.reads.pop()));
    assert_eq!(unread, only(L1));
    let other = after(|h| h.publishes[0].messages[0].1 = Fate::Ok { partition: 0, offset: 40 });
    assert!(other.contains(&L1), "{other:?}");
}

#[test]
fn l2_what_is_read_was_sent_once_and_not_refused() {
    let never = after(|h| alter(&mut h.reads[END], |m, _, _, _| m[4].1 = 77_777));
    assert_eq!(never, only(L2));
    let refused = after(|h| h.publishes[3].messages[0].1 = Fate::Fail);
    assert_eq!(refused, only(L2));
    let early = after(|h| (h.publishes[3].invoked, h.publishes[3].completed) = (90, 91));
    assert!(early.contains(&L2), "{early:?}");
    let twice = after(|h| {
        alter(&mut h.reads[END], |messages, next, _, high| {
            messages.push((5, payload(0, 4)));
            (*next, *high) = (6, 6);
        });
    });
    assert_eq!(twice, only(L2));
    let elsewhere = after(|h| {
        h.topics.push(Topic { name: "u".to_owned(), retention: None });
        h.publishes[3].topic = 1;
    });
    assert_eq!(elsewhere, only(L2));
}

#[test]
fn l3_an_offset_has_one_value() {
    let flickers = after(|h| {
        h.publishes.push(publish((1, 90), &[(5_555, Fate::Info)]));
        alter(&mut h.reads[EARLY], |messages, _, _, _| messages[0].1 = 5_555);
    });
    assert_eq!(flickers, only(L3));
    let acknowledged_twice = after(|h| {
        let taken = Fate::Ok { partition: 0, offset: 1 };
        h.publishes.push(publish((24, 28), &[(5_555, taken)]));
    });
    assert_eq!(acknowledged_twice, BTreeSet::from([L1, L3]));
}

#[test]
fn l4_the_end_is_dense() {
    let hole = after(|h| alter(&mut h.reads[END], |messages, _, _, _| _ = messages.remove(4)));
    assert_eq!(hole, only(L4));
    let short = after(|h| alter(&mut h.reads[END], |_, _, _, high| *high = 6));
    assert_eq!(short, only(L4));
    let jump = after(|h| alter(&mut h.reads[MIDDLE], |messages, _, _, _| _ = messages.remove(1)));
    assert_eq!(jump, only(L4));
    let beyond = after(|h| alter(&mut h.reads[END], |_, _, _, high| *high = 4));
    assert!(beyond.contains(&L4), "{beyond:?}");
    let goes_on_wrongly = after(|h| alter(&mut h.reads[MIDDLE], |_, next, _, _| *next = 3));
    assert_eq!(goes_on_wrongly, BTreeSet::from([L4, L8]));
}

#[test]
fn l5_what_one_reader_saw_every_later_reader_sees() {
    // Nobody acknowledged offset 4; a first reader saw it, a second does not.
    let hole = after(|h| {
        h.reads.insert(0, read((61, 62), 0, From::Offset(4), page(0, 4..5, 5)));
        h.reads.insert(0, read((63, 64), 0, From::Offset(4), page(0, 4..4, 4)));
    });
    assert_eq!(hole, only(L5));
    let concurrent = after(|h| {
        h.reads.insert(0, read((61, 64), 0, From::Offset(4), page(0, 4..5, 5)));
        h.reads.insert(0, read((61, 62), 0, From::Offset(4), page(0, 4..4, 4)));
    });
    assert_eq!(concurrent, BTreeSet::new());
    let refused = after(|h| {
        h.reads.insert(0, read((61, 62), 0, From::Offset(4), page(0, 4..5, 5)));
        let seen = Seen::OutOfRange { low: 0, high: 4 };
        h.reads.insert(0, read((63, 64), 0, From::Offset(5), seen));
    });
    assert_eq!(refused, only(L5));
    let nothing = after(|h| {
        h.reads.insert(0, read((61, 64), 0, From::Offset(3), page(0, 3..3, 5)));
    });
    assert_eq!(nothing, only(L5));
}

#[test]
fn l6_offsets_follow_real_time() {
    // The first was acknowledged before the second was sent, and stands behind it.
    let swapped = after(|h| {
        h.publishes[0].messages[0] = (payload(0, 0), Fate::Ok { partition: 0, offset: 1 });
        h.publishes[1].messages[0] = (payload(0, 1), Fate::Ok { partition: 0, offset: 0 });
        h.reads.remove(MIDDLE);
        h.reads.remove(EARLY);
        let at_the_end = &mut h.reads[END - 2];
        alter(at_the_end, |m, _, _, _| (m[0].1, m[1].1) = (payload(0, 1), payload(0, 0)));
    });
    assert_eq!(swapped, only(L6));
    // An unknown one counts too, since it was sent after offset 4 was seen.
    let late = after(|h| {
        h.publishes.push(publish((90, 99), &[(5_555, Fate::Info)]));
        alter(&mut h.reads[EARLY], |messages, _, _, _| messages[0].1 = 5_555);
    });
    assert!(late.contains(&L6), "{late:?}");
    let stale = after(|h| {
        h.reads.insert(0, read((41, 42), 0, From::Offset(1), page(0, 1..2, 2)));
    });
    assert!(stale.contains(&L6), "{stale:?}");
    let latest = after(|h| {
        h.reads[LATEST].seen = page(1, 0..2, 2);
    });
    assert_eq!(latest, only(L6));
    let reordered = after(|h| {
        h.publishes[2].messages.swap(0, 2);
    });
    assert_eq!(reordered, only(L6));
}

#[test]
fn l8_a_batch_is_seen_whole_or_not_at_all() {
    // Unknown to its sender, half there.
    let half = after(|h| h.publishes[3].messages.push((5_555, Fate::Info)));
    assert_eq!(half, only(L8));
    let mut separate = good();
    separate.publishes[3].messages.push((5_555, Fate::Info));
    separate.publishes[3].atomic = false;
    assert_eq!(broken(&separate), BTreeSet::new());
    // A reader saw the first half of the batch, and that as the end.
    let torn = after(|h| {
        alter(&mut h.reads[MIDDLE], |messages, next, _, high| {
            messages.truncate(2);
            (*next, *high) = (3, 3);
        })
    });
    assert_eq!(torn, only(L8));
    let cut = after(|h| {
        alter(&mut h.reads[MIDDLE], |messages, next, _, _| {
            messages.truncate(2);
            *next = 3;
        })
    });
    assert_eq!(cut, only(L8));
    let at_its_limit = after(|h| {
        h.reads[MIDDLE].limit = 2;
        alter(&mut h.reads[MIDDLE], |messages, next, _, _| {
            messages.truncate(2);
            *next = 3;
        });
    });
    assert_eq!(at_its_limit, BTreeSet::new());
    // One partition had its part at 35 ns; a reader of the other began later and saw none.
    let across = after(|h| {
        h.reads.insert(0, read((32, 35), 0, From::Offset(1), page(0, 1..4, 4)));
        h.reads.insert(0, read((36, 38), 1, From::Offset(0), page(1, 0..0, 0)));
    });
    assert_eq!(across, only(L8));
}

#[test]
fn l12_nothing_goes_before_its_time_or_silently() {
    let low = |h: &mut History, times, value| {
        let seen = Seen::OutOfRange { low: value, high: 5 };
        h.reads.insert(0, read(times, 0, From::Offset(0), seen));
    };
    assert_eq!(after(|h| low(h, (61, 62), 2)), only(L12));
    let kept = |keep: Nanos, ended: Nanos| {
        after(|h| {
            h.topics[0].retention = Some(Duration::from_nanos(keep));
            low(h, (61, ended), 2);
            let last = h.reads.iter_mut().find(|read| read.is_final).expect("an end");
            last.seen = page(0, 2..5, 5);
            alter(last, |_, _, low, _| *low = 2);
        })
    };
    // What lies below 2 was sent at 21 at the latest.
    assert_eq!(kept(40, 62), BTreeSet::new());
    assert_eq!(kept(42, 62), only(L12));
    let fell = after(|h| {
        h.topics[0].retention = Some(Duration::from_nanos(1));
        low(h, (61, 62), 2);
    });
    assert_eq!(fell, only(L12));
    let skipped = after(|h| h.reads[MIDDLE].from = From::Offset(0));
    assert_eq!(skipped, only(L12));
    let below = after(|h| {
        h.topics[0].retention = Some(Duration::ZERO);
        alter(&mut h.reads[END], |_, _, low, _| *low = 1);
        h.reads[END].from = From::Offset(0);
    });
    assert_eq!(below, only(L12));
    let wrongly_refused = after(|h| {
        let seen = Seen::OutOfRange { low: 0, high: 5 };
        h.reads.insert(0, read((61, 62), 0, From::Offset(3), seen));
    });
    assert_eq!(wrongly_refused, only(L12));
}

#[test]
#[should_panic(expected = "sent")]
fn a_test_that_sends_a_payload_twice_is_told() {
    after(|h| h.publishes[1].messages[0].0 = payload(0, 0));
}

#[test]
fn l7_a_repeat_is_no_second_message_and_gets_the_first_answer() {
    let other_place = after(|h| {
        h.attempts[2].messages[0].1 = Fate::Ok { partition: 0, offset: 77 };
    });
    assert_eq!(other_place, only(L7));
    let other_body = after(|h| h.attempts[2].messages[0].0 = 5_555);
    assert_eq!(other_body, only(L7));
    let twice = after(|h| {
        alter(&mut h.reads[END], |messages, next, _, high| {
            messages.push((5, payload(0, 2)));
            (*next, *high) = (6, 6);
        });
    });
    assert!(twice.contains(&L7), "{twice:?}");
    // Of another topic, or of another claim, it is another request.
    let apart = after(|h| {
        h.attempts[2].claim = 2;
        h.attempts[2].messages[0].0 = 5_555;
    });
    assert_eq!(apart, BTreeSet::new());
}
