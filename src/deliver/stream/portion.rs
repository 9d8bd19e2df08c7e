//! As much of a chunk as a consumer can be sent at once.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Chunk, TopicStream};

/// What a consumer can be sent.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Messages.
    pub messages: usize,
    /// Bytes of messages.
    pub bytes: usize,
    /// Bytes of one portion, unless a single message is larger.
    pub portion: usize,
}

impl Room {
    pub(super) fn is_none(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }
}

/// Messages of one partition, to be sent together.
#[derive(Debug)]
pub struct Portion {
    /// The topic.
    pub stream: Arc<TopicStream>,
    /// The number of the partition.
    pub partition: u32,
    pub(super) chunk: Arc<Chunk>,
    pub(super) part: Part,
}

/// Some messages of a chunk.
#[derive(Debug)]
pub(super) struct Part {
    /// Which of the chunk's messages, each range without a gap.
    ranges: SmallVec<[(u32, u32); 1]>,
    count: usize,
    bytes: usize,
    /// Behind the last message, and behind those that are not let through and follow it.
    pub(super) until: i64,
}

impl Portion {
    /// How many messages it has.
    pub fn count(&self) -> usize {
        self.part.count
    }

    /// How many bytes these have, a comma behind each.
    pub fn bytes(&self) -> usize {
        self.part.bytes
    }

    /// The messages, a comma behind each.
    pub fn items(&self) -> impl Iterator<Item = &[u8]> {
        let range = |(first, last): &(u32, u32)| (*first as usize, *last as usize);
        self.part.ranges.iter().map(range).map(|(first, last)| self.chunk.items(first, last))
    }

    /// Each message by itself with its offset.
    pub fn messages(&self) -> impl Iterator<Item = (i64, &[u8])> {
        let each = self.part.ranges.iter().flat_map(|(first, last)| *first..*last);
        each.map(|at| {
            let item = self.chunk.items(at as usize, at as usize + 1);
            (self.chunk.from + i64::from(at), item.strip_suffix(b",").unwrap_or(item))
        })
    }
}

impl Part {
    /// As much of `chunk` from its message `first` on as there is room for. `None`: the next
    /// message is too large for it.
    pub(super) fn of(chunk: &Chunk, first: usize, room: Room) -> Option<Self> {
        let most = room.bytes.min(room.portion);
        let mut count = chunk.fitting(first, room.messages, most);
        if count == 0 && chunk.fitting(first, 1, room.bytes) == 1 {
            count = 1;
        }
        let bytes = chunk.items(first, first + count).len();
        let ranges = SmallVec::from_elem((first as u32, (first + count) as u32), 1);
        (count > 0).then(|| Self {
            ranges,
            count,
            bytes,
            until: chunk.from + (first + count) as i64,
        })
    }

    /// The same of the messages that are let through. None of them may be, and still it goes on.
    pub(super) fn of_admitted(
        chunk: &Chunk,
        first: usize,
        room: Room,
        admitted: &[u32],
    ) -> Option<Self> {
        let mut part = Self { ranges: SmallVec::new(), count: 0, bytes: 0, until: chunk.until };
        let start = admitted.partition_point(|at| (*at as usize) < first);
        for at in &admitted[start..] {
            let size = chunk.items(*at as usize, *at as usize + 1).len();
            let fits = part.count < room.messages
                && part.bytes + size <= room.bytes
                && (part.bytes + size <= room.portion || part.count == 0);
            if !fits {
                part.until = chunk.from + i64::from(*at);
                break;
            }
            part.count += 1;
            part.bytes += size;
            match part.ranges.last_mut() {
                Some((_, last)) if last == at => *last += 1,
                _ => part.ranges.push((*at, *at + 1)),
            }
        }
        (part.until > chunk.from + first as i64).then_some(part)
    }

    /// Whether nothing is to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}
