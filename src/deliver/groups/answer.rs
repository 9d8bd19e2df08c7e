//! What a poll is answered: rows that are still the member's to read, and all that it has.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Cursor, GroupError, Place,
    poll::Arrival,
    reading::{Found, Reading},
    view::Member,
};
use crate::{
    log::LogBatch,
    model::PartitionId,
    store::groups::{Check, Holding},
    telemetry::metrics::GROUPS,
};

/// A partition of the member and where it goes on.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The topic.
    pub topic: Arc<str>,
    /// The number of the partition.
    pub index: u32,
    /// The epoch.
    pub epoch: i64,
    /// The offset of the next message to be delivered, before those of this answer.
    pub offset: i64,
    /// How many messages retention took before they were delivered.
    pub gap: i64,
}

/// A partition that the member is to give up.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// The topic.
    pub topic: Arc<str>,
    /// The number of the partition.
    pub index: u32,
    /// The epoch.
    pub epoch: i64,
    /// After which time it is taken.
    pub deadline: Duration,
}

/// Messages of one partition.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The topic.
    pub topic: Arc<str>,
    /// Which partition that is.
    pub partition: PartitionId,
    /// The number of the partition.
    pub index: u32,
    /// The epoch.
    pub epoch: i64,
    /// The first offset.
    pub from: i64,
    /// Behind the last one.
    pub until: i64,
    /// What holds them; there may be others before and behind.
    pub batches: Vec<LogBatch>,
}

/// The answer to a poll.
#[derive(Clone, Debug)]
pub struct Polled {
    /// Messages.
    pub deliveries: Vec<Delivery>,
    /// What goes into the next poll.
    pub cursor: Cursor,
    /// Everything the member has.
    pub assignments: Vec<Standing>,
    /// What of that it is to give up.
    pub revokes: Vec<Revoked>,
}

/// What an answer is made from.
pub(super) struct Answer<'a> {
    pub(super) arrival: &'a Arrival,
    pub(super) reading: &'a Reading,
}

impl Answer<'_> {
    /// The answer, if there is something to tell: rows that are still the member's to read, or
    /// news of what it has.
    pub(super) fn checked(
        &self,
        check: &Check,
        places: &[Place],
        found: Vec<Found>,
        turn: u64,
    ) -> Result<Option<Polled>, GroupError> {
        let may_read = |found: &Found| {
            let same = |held: &&Holding| {
                held.partition == found.place.partition && held.epoch == found.place.epoch
            };
            let held = check.holdings.iter().find(same).filter(|held| held.revoke.is_none());
            held.is_some() && !check.is_paused
        };
        let found: Vec<Found> = found.into_iter().filter(may_read).collect();
        let held = check.holdings.iter();
        let held = held.map(|held| (held.partition, held.epoch, held.revoke.is_some()));
        if found.is_empty() && !self.arrival.is_news(held) {
            return Ok(None);
        }
        if self.arrival.turnstile.is_superseded() {
            return Err(GroupError::Superseded);
        }
        let lines = check.holdings.iter().map(|held| Line {
            partition: held.partition,
            topic: Arc::from(held.topic.as_str()),
            index: held.index,
            epoch: held.epoch,
            revoke: held.revoke,
        });
        Ok(Some(self.write(lines.collect(), places, found, turn)))
    }

    /// The answer when there was nothing to tell.
    pub(super) fn empty(&self, member: &Member, places: &[Place], turn: u64) -> Polled {
        let lines = member.held.iter().map(|held| Line {
            partition: held.partition,
            topic: Arc::clone(&held.topic),
            index: held.index,
            epoch: held.epoch,
            revoke: held.revoke.map(|at| at.saturating_duration_since(Instant::now())),
        });
        self.write(lines.collect(), places, Vec::new(), turn)
    }

    fn write(
        &self,
        lines: Vec<Line>,
        places: &[Place],
        mut found: Vec<Found>,
        turn: u64,
    ) -> Polled {
        let mut polled = Polled {
            deliveries: Vec::with_capacity(found.len()),
            cursor: Cursor {
                group: self.arrival.group,
                generation: self.arrival.generation,
                turn,
                places: Vec::with_capacity(lines.len()),
            },
            assignments: Vec::with_capacity(lines.len()),
            revokes: Vec::new(),
        };
        for Line { partition, topic, index, epoch, revoke } in lines {
            let same = |place: &Place| place.partition == partition && place.epoch == epoch;
            let read = self.reading.readers.iter().find(|reader| same(&reader.place));
            let known = places.iter().find(|place| same(place));
            let offset =
                read.map(|reader| reader.place.position).or(known.map(|place| place.position));
            let (offset, gap) = (offset.unwrap_or_default(), read.map_or(0, |reader| reader.gap));
            let mut position = offset;
            if let Some(at) = found.iter().position(|found| same(&found.place)) {
                let Found { until, batches, .. } = found.swap_remove(at);
                position = until;
                let topic = Arc::clone(&topic);
                GROUPS.delivered.increment(u64::try_from(until - offset).unwrap_or_default());
                polled.deliveries.push(Delivery {
                    topic,
                    partition,
                    index,
                    epoch,
                    from: offset,
                    until,
                    batches,
                });
            }
            let is_told = revoke.is_some();
            polled.cursor.places.push(Place { partition, epoch, position, is_told });
            if let Some(deadline) = revoke {
                let topic = Arc::clone(&topic);
                polled.revokes.push(Revoked { topic, index, epoch, deadline });
            }
            polled.assignments.push(Standing { topic, index, epoch, offset, gap });
        }
        polled
    }
}

/// A partition of the member on its way into an answer.
struct Line {
    partition: PartitionId,
    topic: Arc<str>,
    index: u32,
    epoch: i64,
    revoke: Option<Duration>,
}
