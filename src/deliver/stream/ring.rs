//! The newest messages of a partition as they go over the wire, for all who read it here.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use crate::{log::LogBatch, record::Corrupt};

/// Messages as they go over the wire: written once, sent to everybody.
#[derive(Debug, Default)]
pub struct Items {
    /// One behind the other, each followed by a comma.
    pub bytes: Vec<u8>,
    /// Behind each message's comma.
    pub ends: Vec<u32>,
}

/// Writes the messages of a batch from an offset on.
pub type Encode = fn(&LogBatch, i64, &mut Items) -> Result<(), Corrupt>;

/// Messages without a gap, in both forms.
#[derive(Debug)]
pub struct Chunk {
    /// The offset of the first message.
    pub from: i64,
    /// Behind the last message.
    pub until: i64,
    items: Bytes,
    ends: Box<[u32]>,
    /// What they were written from; the first may begin before `from`.
    pub batches: Vec<LogBatch>,
}

impl Chunk {
    /// Writes what `batches` hold from `from` on.
    pub fn new(from: i64, batches: Vec<LogBatch>, encode: Encode) -> Result<Self, Corrupt> {
        let bytes: usize = batches.iter().map(|batch| batch.records.len()).sum();
        let mut items = Items { bytes: Vec::with_capacity(bytes * 2), ends: Vec::new() };
        let mut next = from;
        for batch in &batches {
            encode(batch, next, &mut items)?;
            next = batch.last_offset + 1;
        }
        if items.ends.len() as i64 != next - from {
            return Err(Corrupt::Count);
        }
        // The room for what never came would be kept with it.
        items.bytes.shrink_to_fit();
        let (items, ends) = (items.bytes.into(), items.ends.into());
        Ok(Self { from, until: next, items, ends, batches })
    }

    /// The messages from the `first` to before the `last` (both counted from the chunk's first),
    /// each followed by a comma.
    pub fn items(&self, first: usize, last: usize) -> &[u8] {
        &self.items[self.start(first)..self.start(last)]
    }

    /// How many of the messages from the `first` on fit into `messages` and `bytes`.
    pub fn fitting(&self, first: usize, messages: usize, bytes: usize) -> usize {
        let start = self.start(first);
        let most = self.ends.len().min(first.saturating_add(messages));
        let left = &self.ends[first..most];
        left.partition_point(|end| *end as usize - start <= bytes)
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    fn weight(&self) -> usize {
        self.items.len() + self.batches.iter().map(|batch| batch.records.len()).sum::<usize>()
    }
}

/// What there is for a consumer at a place.
#[derive(Debug)]
pub enum Take {
    /// Nothing yet.
    Nothing,
    /// It is not here any more, or never was.
    Behind,
    /// Here.
    Found(Arc<Chunk>),
}

/// The newest chunks of a partition, without a gap between them.
#[derive(Debug, Default)]
pub(super) struct Ring {
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    /// How many of them were there at the last sweep.
    old: usize,
    /// Behind the last message; unknown before the first look.
    end: Option<i64>,
}

impl Ring {
    pub(super) fn end(&self) -> Option<i64> {
        self.end
    }

    /// Begins anew behind `end`.
    pub(super) fn restart(&mut self, end: i64) {
        *self = Self { end: Some(end), ..Self::default() };
    }

    pub(super) fn push(&mut self, chunk: Chunk, bytes_max: usize) {
        self.bytes += chunk.weight();
        self.end = Some(chunk.until);
        self.chunks.push_back(Arc::new(chunk));
        while self.bytes > bytes_max && self.chunks.len() > 1 {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.bytes -= chunk.weight();
            self.old = self.old.saturating_sub(1);
        }
    }

    /// Lets go of what was there at the last sweep already.
    pub(super) fn sweep(&mut self) {
        for _ in 0..self.old {
            self.pop();
        }
        self.old = self.chunks.len();
    }

    pub(super) fn take(&self, from: i64) -> Take {
        let Some(end) = self.end else { return Take::Nothing };
        if from >= end {
            return Take::Nothing;
        }
        let at = self.chunks.partition_point(|chunk| chunk.until <= from);
        match self.chunks.get(at) {
            Some(chunk) if chunk.from <= from => Take::Found(Arc::clone(chunk)),
            _ => Take::Behind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(from: i64, count: i64) -> Chunk {
        let encode: Encode = |batch, from, items| {
            for offset in from..=batch.last_offset {
                items.bytes.extend_from_slice(format!("{offset},").as_bytes());
                items.ends.push(items.bytes.len() as u32);
            }
            Ok(())
        };
        let (base_offset, last_offset) = (from - 1, from + count - 1);
        let batch = LogBatch { base_offset, last_offset, appended_ms: 0, records: Bytes::new() };
        Chunk::new(from, vec![batch], encode).expect("a chunk")
    }

    #[test]
    fn a_part_of_a_chunk_is_what_fits() {
        let chunk = chunk(8, 5);
        assert_eq!((chunk.until, chunk.len()), (13, 5));
        assert_eq!(chunk.items(0, 5), b"8,9,10,11,12,");
        assert_eq!(chunk.items(1, 3), b"9,10,");
        assert_eq!(chunk.fitting(0, 100, 100), 5);
        assert_eq!(chunk.fitting(1, 100, 5), 2);
        assert_eq!(chunk.fitting(1, 1, 5), 1);
        assert_eq!(chunk.fitting(2, 9, 2), 0);
        assert_eq!(chunk.fitting(5, 9, 9), 0);
    }

    #[test]
    fn who_is_too_far_behind_is_told_so() {
        let mut ring = Ring::default();
        assert!(matches!(ring.take(0), Take::Nothing));
        ring.restart(10);
        assert!(matches!(ring.take(9), Take::Behind));
        assert!(matches!(ring.take(10), Take::Nothing));
        for from in [10, 20, 30] {
            ring.push(chunk(from, 10), 65);
        }
        assert!(matches!(ring.take(19), Take::Behind));
        let found = |ring: &Ring, at| match ring.take(at) {
            Take::Found(chunk) => chunk.from,
            other => panic!("{other:?}"),
        };
        assert_eq!([20, 29, 30, 39].map(|at| found(&ring, at)), [20, 20, 30, 30]);
        assert!(matches!(ring.take(40), Take::Nothing));
        ring.sweep();
        assert_eq!(found(&ring, 39), 30);
        ring.sweep();
        assert!(matches!(ring.take(39), Take::Behind));
        assert_eq!((ring.end(), ring.bytes), (Some(40), 0));
    }
}
