//! ③ Reading. A page is looked for in the database, with the segments as this node last saw them:
//! a page that is empty or has a gap only means that they changed, so they are read again. It
//! moves on only where the next segment begins, and a bucket that went is an explicit error that
//! names the low watermark, never a silent jump.

use std::sync::Arc;

use super::{Log, LogBatch, Partition};
use crate::{
    model::{PartitionId, limits},
    store::{
        self, StoreError,
        error::Refusal,
        read::{BucketPage, Range, Segment, Watermarks},
    },
    telemetry::metrics::LOG,
};

/// How often a read begins anew when segments change under it, before it is an error.
const TRIES: usize = 8;

/// Where a read begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first message that is still there.
    Earliest,
    /// Behind the last message.
    Latest,
    /// An offset.
    Offset(i64),
    /// The first message appended at or after a time in ms since 1970.
    Time(i64),
}

/// What a read wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The offset of the first message wanted.
    pub from: i64,
    /// How many messages at the most.
    pub limit: u32,
}

/// What was found. Batches are whole: the first may begin before the offset asked for and the
/// last end behind the limit.
#[derive(Clone, Debug)]
pub struct Page {
    /// The batches, without a gap between them.
    pub batches: Vec<LogBatch>,
    /// Both ends of the partition, read after the batches.
    pub watermarks: Watermarks,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The topic was deleted.
    #[error("the partition is gone")]
    Gone,
    /// The offset is below the low watermark or above the high one.
    #[error("the offset is outside {} to {}", .0.low, .0.high)]
    OutOfRange(Watermarks),
    /// The database did not answer as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The segments kept changing.
    #[error("the segments of partition {0} kept changing while they were read")]
    Unsettled(PartitionId),
    /// The task that read ended without a word.
    #[error("a read was not finished")]
    Unfinished,
}

enum Step {
    Done(Page),
    Again,
}

impl Log {
    /// The offset that a position means now.
    pub async fn resolve(&self, id: PartitionId, position: Position) -> Result<i64, ReadError> {
        let mut last = ReadError::Unsettled(id);
        for _ in 0..TRIES {
            match self.try_resolve(id, position).await {
                // A pooled session may have died with a server that is back, or a bucket gone.
                Err(ReadError::Store(error))
                    if matches!(error, StoreError::Lost(_))
                        || error.refusal() == Some(Refusal::Missing) =>
                {
                    last = ReadError::Store(error);
                }
                resolved => return resolved,
            }
        }
        Err(last)
    }

    async fn try_resolve(&self, id: PartitionId, position: Position) -> Result<i64, ReadError> {
        let mut session = self.shared.database.acquire().await?;
        let watermarks = store::read::watermarks(&mut session, id).await?.ok_or(ReadError::Gone)?;
        match position {
            Position::Earliest => Ok(watermarks.low),
            Position::Latest => Ok(watermarks.high),
            Position::Offset(offset) if offset < watermarks.low || offset > watermarks.high => {
                Err(ReadError::OutOfRange(watermarks))
            }
            Position::Offset(offset) => Ok(offset),
            Position::Time(at_ms) => Ok(store::read::offset_at(&mut session, id, at_ms).await?),
        }
    }

    /// Reads from the database. It sees everything that was acknowledged before it began.
    pub async fn read(
        &self,
        partition: &Partition,
        request: ReadRequest,
    ) -> Result<Page, ReadError> {
        let mut lost = None;
        for _ in 0..TRIES {
            match self.try_read(partition, request).await {
                Ok(Step::Done(page)) => {
                    LOG.pages.increment(1);
                    return Ok(page);
                }
                // A pooled session may have died with a server that is back.
                Ok(Step::Again) => lost = None,
                Err(ReadError::Store(error @ StoreError::Lost(_))) => lost = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(lost.map_or(ReadError::Unsettled(partition.id()), ReadError::Store))
    }

    /// What the tail cache has from `request.from` on. It may be behind what other nodes
    /// appended, so it answers only readers that began to wait before.
    pub fn read_tail(&self, partition: &Partition, request: ReadRequest, low: i64) -> Option<Page> {
        let tail = partition.tail();
        let batches = tail.page(request.from, i64::from(request.limit), limits::READ_BYTES_MAX);
        let high = tail.end().filter(|_| !batches.is_empty())?;
        Some(Page { batches, watermarks: Watermarks { low, high } })
    }

    async fn try_read(
        &self,
        partition: &Partition,
        request: ReadRequest,
    ) -> Result<Step, ReadError> {
        let id = partition.id();
        let mut session = self.shared.database.acquire().await?;
        let segments = match partition.segments() {
            Some(segments) => segments,
            None => load_segments(&mut session, partition).await?,
        };
        let Some(segment) = segment_of(&segments, request.from) else {
            // Nothing was appended when the segments were read, or everything before is gone.
            load_segments(&mut session, partition).await?;
            let watermarks =
                store::read::watermarks(&mut session, id).await?.ok_or(ReadError::Gone)?;
            return empty_page(request, watermarks);
        };
        let until = request.from.saturating_add(i64::from(request.limit));
        let range = Range {
            from_offset: request.from,
            until_offset: segment.end_offset.map_or(until, |end| until.min(end)),
            max_bytes: limits::READ_BYTES_MAX,
        };
        let found = store::read::bucket_page(&mut session, segment.bucket, id, range).await;
        let page = match found {
            Ok(page) => page,
            Err(error) if error.refusal() == Some(Refusal::Missing) => {
                load_segments(&mut session, partition).await?;
                let watermarks =
                    store::read::watermarks(&mut session, id).await?.ok_or(ReadError::Gone)?;
                return empty_page(request, watermarks);
            }
            Err(error) => return Err(error.into()),
        };
        let low = page.low.ok_or(ReadError::Gone)?;
        let high = match page.high {
            Some(high) => high,
            None => store::read::watermarks(&mut session, id).await?.ok_or(ReadError::Gone)?.high,
        };
        let watermarks = Watermarks { low, high };
        if request.from < low || request.from > high {
            return Err(ReadError::OutOfRange(watermarks));
        }
        let batches = contiguous(page, request.from);
        if batches.is_empty() && request.from < high {
            // The segment ended, or the partition came back to this bucket further on.
            load_segments(&mut session, partition).await?;
            return Ok(Step::Again);
        }
        Ok(Step::Done(Page { batches, watermarks }))
    }
}

async fn load_segments(
    session: &mut store::Session,
    partition: &Partition,
) -> Result<Arc<[Segment]>, StoreError> {
    let segments: Arc<[Segment]> = store::read::segments(session, partition.id()).await?.into();
    partition.set_segments(Arc::clone(&segments));
    Ok(segments)
}

fn segment_of(segments: &[Segment], offset: i64) -> Option<Segment> {
    let behind = segments.partition_point(|segment| segment.first_offset <= offset);
    let segment = segments[..behind].last()?;
    segment.end_offset.is_none_or(|end| offset < end).then_some(*segment)
}

/// The answer when no segment holds the offset: at the end, outside, or look once more.
fn empty_page(request: ReadRequest, watermarks: Watermarks) -> Result<Step, ReadError> {
    if request.from < watermarks.low || request.from > watermarks.high {
        return Err(ReadError::OutOfRange(watermarks));
    }
    if request.from < watermarks.high {
        return Ok(Step::Again);
    }
    Ok(Step::Done(Page { batches: Vec::new(), watermarks }))
}

/// The batches up to the first gap. A gap is no loss: a partition can leave a bucket and come
/// back to it, and what lies between is in another one.
fn contiguous(page: BucketPage, from: i64) -> Vec<LogBatch> {
    let mut next = from;
    page.batches
        .into_iter()
        .take_while(|batch| {
            let joins = batch.base_offset <= next && batch.last_offset >= next;
            next = batch.last_offset + 1;
            joins
        })
        .map(|batch| LogBatch {
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
            appended_ms: batch.appended_ms,
            records: batch.records.into(),
        })
        .collect()
}
