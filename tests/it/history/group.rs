//! What members of consumer groups did and saw.

use serde::{Deserialize, Serialize};

use super::{Nanos, TopicId};

/// A group of a history.
pub type GroupId = u32;

/// One process of a member: a member id under one generation.
pub type ProcessId = u64;

/// A partition as a member was told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which incarnation of a topic.
    pub topic: TopicId,
    /// The number of the partition.
    pub partition: u32,
    /// The epoch.
    pub epoch: i64,
    /// Where it goes on, before the messages of this answer.
    pub offset: i64,
    /// How many messages retention took.
    pub gap: i64,
    /// Whether it is to be given up.
    pub is_revoked: bool,
    /// The offsets of the messages, as they came.
    pub messages: Vec<i64>,
}

/// The answer to a join or a poll. One that nobody got says nothing, and is not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The group.
    pub group: GroupId,
    /// Whom.
    pub process: ProcessId,
    /// When it was asked.
    pub invoked: Nanos,
    /// When it was answered.
    pub completed: Nanos,
    /// The answer whose cursor was sent, by its number of [`super::Recorder::told`]; none for a
    /// join, and for a poll without one.
    pub follows: Option<u64>,
    /// Its own number.
    pub number: u64,
    /// Everything that the member has.
    pub parts: Vec<Part>,
}

/// What became of a commit or a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It stands.
    Ok,
    /// Refused: nothing happened.
    Fail,
    /// Nobody knows.
    Info,
}

/// A commit of one offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The group.
    pub group: GroupId,
    /// Which incarnation of a topic.
    pub topic: TopicId,
    /// The number of the partition.
    pub partition: u32,
    /// Under which epoch.
    pub epoch: i64,
    /// The next offset to read.
    pub offset: i64,
    /// When it was sent.
    pub invoked: Nanos,
    /// When its outcome was known.
    pub completed: Nanos,
    /// What became of it.
    pub outcome: Outcome,
}

/// A partition of a group that was moved to an offset. Which epoch it got nobody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seek {
    /// The group.
    pub group: GroupId,
    /// Which incarnation of a topic.
    pub topic: TopicId,
    /// The number of the partition.
    pub partition: u32,
    /// To where.
    pub offset: i64,
    /// When it was sent.
    pub invoked: Nanos,
    /// When its outcome was known.
    pub completed: Nanos,
    /// What became of it.
    pub outcome: Outcome,
}

/// The committed offset of a partition as somebody was told who is no member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stood {
    /// The group.
    pub group: GroupId,
    /// Which incarnation of a topic.
    pub topic: TopicId,
    /// The number of the partition.
    pub partition: u32,
    /// When it was asked.
    pub invoked: Nanos,
    /// When it was answered.
    pub completed: Nanos,
    /// The committed offset.
    pub offset: i64,
    /// The high watermark beside it.
    pub high: i64,
}

/// Something of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupOp {
    /// A member was told what it has.
    Told(Told),
    /// An offset was committed.
    Commit(Commit),
    /// A partition was moved.
    Seek(Seek),
    /// An offset was looked at.
    Stood(Stood),
}
