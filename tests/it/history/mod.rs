//! What clients did and saw, and one checker of it. Every operation is invoked and then ends as
//! ok, as failed (it definitely had no effect) or without anyone knowing; a timeout, a reset
//! connection and an answer that says `effect: unknown` are the latter. All clients of a history
//! run on one machine with one monotonic clock, so the order of its times is real.
//!
//! [`check`] names what is broken by the numbers of the reliability catalogue: L1 to
//! L12. It sorts, and looks at each operation and message once: O(n log n). Seeks, and looks at
//! committed offsets, are few: each goes through its partition's operations.
//!
//! A payload is known by a number that is its alone ([`fingerprint`] of everything a reader gets
//! back): publishers never send the same one twice, so that an offset, a value and a request
//! belong to each other.

mod check;
pub mod group;
mod recorder;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

pub use check::{Violation, check};
use group::GroupOp;
pub use recorder::Recorder;
use serde::{Deserialize, Serialize};

/// Nanoseconds since the history began.
pub type Nanos = u64;

/// One incarnation of a topic: its place in [`History::topics`]. A topic that is made again under
/// its name is another one.
pub type TopicId = u32;

/// A topic and what was promised about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How long its messages are kept at least; `None`: nothing may go while the history lasts.
    pub retention: Option<Duration>,
}

/// What became of one message of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Acknowledged at this place.
    Ok {
        /// The number of the partition.
        partition: u32,
        /// The offset there.
        offset: i64,
    },
    /// Refused: nothing happened.
    Fail,
    /// Nobody knows.
    Info,
}

/// One request that published messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Which incarnation of a topic.
    pub topic: TopicId,
    /// When it was sent.
    pub invoked: Nanos,
    /// When its outcome was known, or given up.
    pub completed: Nanos,
    /// Whether its messages were promised to be appended all or none.
    pub atomic: bool,
    /// Each message in the order of the request: its fingerprint and what became of it.
    pub messages: Vec<(u64, Fate)>,
}

/// One try of a request that is to be carried out once, however often it is sent. The request as
/// a whole is a [`Publish`] too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which incarnation of a topic.
    pub topic: TopicId,
    /// The number of the producer's sequence or of the key: the same for all tries.
    pub claim: u64,
    /// What this try asked for and what it was told.
    pub messages: Vec<(u64, Fate)>,
}

/// Where a read began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum From {
    /// The low watermark of the moment.
    Earliest,
    /// The high watermark of the moment.
    Latest,
    /// An offset.
    Offset(i64),
}

/// What a read was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// A page.
    Page {
        /// Offset and fingerprint of each message, as they came.
        messages: Vec<(i64, u64)>,
        /// Where the page says that the next one begins.
        next: i64,
        /// The low watermark.
        low: i64,
        /// The high watermark.
        high: i64,
    },
    /// `offset_out_of_range`, which names both watermarks.
    OutOfRange {
        /// The low watermark.
        low: i64,
        /// The high watermark.
        high: i64,
    },
    /// Anything else: it says nothing about the log.
    Nothing,
}

/// One read of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Which incarnation of a topic.
    pub topic: TopicId,
    /// The number of the partition.
    pub partition: u32,
    /// Where it began.
    pub from: From,
    /// How many messages it asked for.
    pub limit: u32,
    /// When it was sent.
    pub started: Nanos,
    /// When it was answered.
    pub ended: Nanos,
    /// What it was answered.
    pub seen: Seen,
    /// Whether it is part of the full read at the end, after everything was mended.
    pub is_final: bool,
}

/// Everything that clients did and saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The topics, by [`TopicId`].
    pub topics: Vec<Topic>,
    /// All publishes, in any order.
    pub publishes: Vec<Publish>,
    /// All tries of those that are to be carried out once, in any order.
    pub attempts: Vec<Attempt>,
    /// All reads, in any order.
    pub reads: Vec<Read>,
    /// Everything of consumer groups, in any order.
    pub groups: Vec<GroupOp>,
}

/// The promises by their number in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// What was acknowledged is there at the end, where it was said to be.
    L1,
    /// What was read was sent, once, and not refused.
    L2,
    /// An offset has one value, for all readers and at all times.
    L3,
    /// Offsets are exactly those from the low to the high watermark.
    L4,
    /// What one reader saw, and all below it, every later reader sees.
    L5,
    /// Offsets follow real time, and a read sees what was acknowledged before it began.
    L6,
    /// What is to be done once is done once, and every repeat gets the first answer.
    L7,
    /// A batch is seen as a whole or not at all.
    L8,
    /// A committed offset never falls but for a seek, was committed by somebody, and is where the
    /// next owner begins.
    L9,
    /// An epoch of a partition is one process's; nothing is delivered or committed under one that
    /// has passed.
    L10,
    /// Within an epoch each answer goes on where the one ended whose cursor was sent.
    L11,
    /// Nothing goes before its time; the low watermark never falls; nothing is skipped silently.
    L12,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How much a history holds, for gates against empty success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Acknowledged messages.
    pub acked: usize,
    /// Messages that were refused.
    pub failed: usize,
    /// Messages of which nobody knows.
    pub unknown: usize,
    /// Pages with at least one message, the final ones left out.
    pub pages: usize,
    /// Messages in the final pages.
    pub finally: usize,
    /// Messages delivered to members of groups.
    pub delivered: usize,
    /// Offsets that members committed.
    pub committed: usize,
    /// Commits that were refused.
    pub refused: usize,
}

impl History {
    /// How much there is of everything.
    pub fn extent(&self) -> Extent {
        let mut extent = Extent::default();
        for (_, fate) in self.publishes.iter().flat_map(|publish| &publish.messages) {
            match fate {
                Fate::Ok { .. } => extent.acked += 1,
                Fate::Fail => extent.failed += 1,
                Fate::Info => extent.unknown += 1,
            }
        }
        for read in &self.reads {
            let Seen::Page { messages, .. } = &read.seen else { continue };
            match read.is_final {
                true => extent.finally += messages.len(),
                false => extent.pages += usize::from(!messages.is_empty()),
            }
        }
        for operation in &self.groups {
            match operation {
                GroupOp::Told(told) => {
                    extent.delivered += told.parts.iter().map(|p| p.messages.len()).sum::<usize>();
                }
                GroupOp::Commit(commit) => match commit.outcome {
                    group::Outcome::Ok => extent.committed += 1,
                    group::Outcome::Fail => extent.refused += 1,
                    group::Outcome::Info => {}
                },
                GroupOp::Seek(_) | GroupOp::Stood(_) => {}
            }
        }
        extent
    }
}

/// The number of a payload: a 64-bit FNV-1a over all parts that come back to a reader.
pub fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // 0xff is in no UTF-8 text: parts cannot run into each other.
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
