//! The tail cache: the newest batches of partitions that are read on this node, one run without
//! a gap for each, bounded over all. The oldest batch of all goes first.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::{LogBatch, Partition};
use crate::model::limits;

/// The newest batches of one partition.
#[derive(Debug, Default)]
pub(super) struct Tail {
    batches: VecDeque<LogBatch>,
}

impl Tail {
    /// The offset behind the newest batch.
    pub(super) fn end(&self) -> Option<i64> {
        self.batches.back().map(|batch| batch.last_offset + 1)
    }

    /// Batches from the one that holds `from` on, about `messages` and `bytes` of them; nothing
    /// when `from` lies outside the run.
    pub(super) fn page(&self, from: i64, messages: i64, bytes: i64) -> Vec<LogBatch> {
        let start = self.batches.partition_point(|batch| batch.last_offset < from);
        let Some(first) = self.batches.get(start) else { return Vec::new() };
        if first.base_offset > from {
            return Vec::new();
        }
        let mut left = bytes;
        let until = from.saturating_add(messages);
        self.batches
            .range(start..)
            .take_while(|batch| {
                let wanted = batch.base_offset < until;
                let fits = left > 0;
                left -= batch.records.len() as i64;
                wanted && fits
            })
            .cloned()
            .collect()
    }

    /// Takes a batch if it continues the run; one behind a gap begins a new run, since another
    /// node appended in between. Returns the change of cached bytes.
    fn push(&mut self, batch: LogBatch) -> isize {
        let added = batch.records.len() as isize;
        let mut removed = 0;
        match self.end() {
            Some(end) if batch.base_offset < end => return 0,
            Some(end) if batch.base_offset > end => removed = self.clear(),
            _ => {}
        }
        self.batches.push_back(batch);
        added - removed
    }

    fn clear(&mut self) -> isize {
        self.batches.drain(..).map(|batch| batch.records.len() as isize).sum()
    }

    fn pop_upto(&mut self, base_offset: i64) -> isize {
        let mut removed = 0;
        while self.batches.front().is_some_and(|batch| batch.base_offset <= base_offset) {
            removed += self.batches.pop_front().map_or(0, |batch| batch.records.len() as isize);
        }
        removed
    }
}

/// What all tails of a node may hold together.
#[derive(Debug, Default)]
pub(super) struct TailBudget {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<(Weak<Partition>, i64)>,
    bytes: isize,
}

impl TailBudget {
    /// Adds a batch to a partition's tail and evicts the oldest ones beyond the bound.
    pub(super) fn push(&self, partition: &Arc<Partition>, batch: LogBatch) {
        let base_offset = batch.base_offset;
        let change = partition.tail().push(batch);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.bytes += change;
        queue.order.push_back((Arc::downgrade(partition), base_offset));
        // An entry costs memory too, however small its batch is.
        while queue.bytes > limits::TAIL_CACHE_BYTES_MAX as isize
            || queue.order.len() > limits::TAIL_CACHE_BATCHES_MAX
        {
            let Some((oldest, base_offset)) = queue.order.pop_front() else { break };
            if let Some(oldest) = oldest.upgrade() {
                queue.bytes -= oldest.tail().pop_upto(base_offset);
            }
        }
    }

    /// Gives back what a forgotten partition held.
    pub(super) fn release(&self, partition: &Partition) {
        let freed = partition.tail().clear();
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).bytes -= freed;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::PartitionId;

    fn batch(base_offset: i64, count: i64, bytes: usize) -> LogBatch {
        LogBatch {
            base_offset,
            last_offset: base_offset + count - 1,
            appended_ms: 0,
            records: Bytes::from(vec![0; bytes]),
        }
    }

    fn bases(batches: &[LogBatch]) -> Vec<i64> {
        batches.iter().map(|batch| batch.base_offset).collect()
    }

    #[test]
    fn a_run_has_no_gap() {
        let mut tail = Tail::default();
        tail.push(batch(10, 5, 1));
        tail.push(batch(15, 5, 1));
        assert_eq!(bases(&tail.page(12, 100, 100)), [10, 15]);
        assert!(tail.page(9, 100, 100).is_empty());
        assert!(tail.page(20, 100, 100).is_empty());
        tail.push(batch(25, 5, 1));
        assert!(tail.page(15, 100, 100).is_empty());
        assert_eq!(bases(&tail.page(25, 100, 100)), [25]);
        tail.push(batch(20, 5, 1));
        assert_eq!(tail.end(), Some(30));
    }

    #[test]
    fn a_page_keeps_to_its_bounds_but_holds_one_batch() {
        let mut tail = Tail::default();
        for i in 0..10 {
            tail.push(batch(i * 10, 10, 100));
        }
        assert_eq!(bases(&tail.page(5, 10, 10_000)), [0, 10]);
        assert_eq!(bases(&tail.page(5, 1_000, 150)), [0, 10]);
        assert_eq!(bases(&tail.page(5, 1_000, 1)), [0]);
    }

    #[test]
    fn the_oldest_batch_of_all_goes_first() {
        let budget = TailBudget::default();
        let [a, b] = [1, 2].map(|id| Arc::new(Partition::new(PartitionId(id))));
        let half = limits::TAIL_CACHE_BYTES_MAX / 2;
        budget.push(&a, batch(0, 1, half));
        budget.push(&b, batch(0, 1, half));
        budget.push(&b, batch(1, 1, half));
        assert_eq!(a.tail().end(), None);
        assert_eq!(bases(&b.tail().page(0, 10, i64::MAX)), [0, 1]);
    }
}
