//! A poll: what a member has is read first and checked afterwards, and rows of what has moved or
//! is to be given up are dropped. The other order delivered under an epoch that had passed.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    Cursor, GroupError, Groups, Place, cut,
    reading::{Found, Reading, any_changed},
    view::{Held, Member, Turnstile, View, Watched},
};
use crate::{
    log::LogBatch,
    model::{GroupId, PartitionId, limits},
    store::{
        self,
        groups::{Check, Holding},
    },
    telemetry::metrics::GROUPS,
};

/// Polls that wait for less are not left to the wakes of other nodes.
const LOOKS_IN_A_WAIT: u32 = 4;

/// What a member polls with.
#[derive(Clone, Debug)]
pub struct PollRequest {
    /// Messages at the most; 0 is a heartbeat, which does not wait.
    pub max: u32,
    /// How long to wait for something to tell; cut to a third of the session timeout.
    pub wait: Duration,
}

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
    /// The number of the partition.
    pub index: u32,
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
    pub cursor: String,
    /// Everything the member has.
    pub assignments: Vec<Standing>,
    /// What of that it is to give up.
    pub revokes: Vec<Revoked>,
}

/// A member's poll that was let in.
#[derive(Debug)]
pub struct Arrival {
    group: GroupId,
    member: String,
    generation: i64,
    session_timeout: Duration,
    cursor: Option<Cursor>,
    watched: Arc<Watched>,
    turnstile: Turnstile,
    begun: Instant,
}

impl Arrival {
    /// The member's generation.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// Whether messages up to `offset` were delivered under this epoch.
    pub fn vouches(&self, partition: PartitionId, epoch: i64, offset: i64) -> bool {
        let place = self.cursor.as_ref().and_then(|cursor| cursor.place(partition, epoch));
        place.is_some_and(|place| offset <= place.position)
    }

    /// Whether what the member has is not what its cursor says it was told.
    fn is_news<'h>(
        &self,
        held: impl ExactSizeIterator<Item = (PartitionId, i64, bool)> + 'h,
    ) -> bool {
        let Some(cursor) = &self.cursor else { return true };
        held.len() != cursor.places.len() || {
            let mut held = held;
            held.any(|(partition, epoch, is_revoked)| {
                cursor.place(partition, epoch).is_none_or(|place| is_revoked && !place.is_told)
            })
        }
    }
}

impl Groups {
    /// Lets a member's poll in: it counts as alive from now on, and a poll of it that waits here
    /// ends. Without a cursor it goes on at the committed offsets.
    pub async fn arrive(
        &self,
        group: GroupId,
        member: &str,
        cursor: Option<&str>,
    ) -> Result<Arrival, GroupError> {
        let begun = Instant::now();
        let cursor = match cursor {
            Some(text) => Some(Cursor::read(self.key().await?, group, member, text)?),
            None => None,
        };
        let watched = self.watched(group);
        let generation = cursor.as_ref().map(|cursor| cursor.generation);
        let view = self.view_with(group, &watched, member, generation).await?;
        let standing = member_of(&view, member, generation)?;
        self.shared.beats.note(standing.number, group);
        let (generation, session_timeout) = (standing.generation, standing.session_timeout);
        let turnstile = watched.enter(member);
        let member = member.to_owned();
        Ok(Arrival {
            group,
            member,
            generation,
            session_timeout,
            cursor,
            watched,
            turnstile,
            begun,
        })
    }

    /// A view that has the member under this generation, if the database has it.
    async fn view_with(
        &self,
        group: GroupId,
        watched: &Arc<Watched>,
        member: &str,
        generation: Option<i64>,
    ) -> Result<Arc<View>, GroupError> {
        let view = self.view(group, watched).await?;
        if member_of(&view, member, generation).is_ok() {
            return Ok(view);
        }
        // It may have joined through another node a moment ago.
        watched.forget();
        self.view(group, watched).await
    }

    /// Confirms what a member gives up, each under its epoch.
    pub async fn confirm(
        &self,
        arrival: &Arrival,
        given: Vec<(PartitionId, i64)>,
    ) -> Result<(), GroupError> {
        let (groups, group) = (self.clone(), arrival.group);
        let (member, generation) = (arrival.member.clone(), arrival.generation);
        self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            let moved =
                store::groups::confirm(&mut session, group, &member, generation, &given).await?;
            if moved > 0 {
                GROUPS.revokes.increment(u64::try_from(moved).unwrap_or_default());
                groups.changed(group);
            }
            Ok(())
        })
        .await
    }

    /// Reads what the member has, waiting for a first message or for news of its assignments.
    pub async fn poll(&self, arrival: Arrival, request: PollRequest) -> Result<Polled, GroupError> {
        let wait = match request.max {
            0 => Duration::ZERO,
            _ => cut(request.wait, arrival.session_timeout),
        };
        let deadline = arrival.begun + wait;
        let rests = wait >= limits::WAKE_INTERVAL * LOOKS_IN_A_WAIT;
        let mut reading = Reading::new(self, rests, arrival.begun);
        let turn = arrival.cursor.as_ref().map_or(0, |cursor| cursor.turn);
        let mut places = arrival.cursor.as_ref().map_or(Vec::new(), |cursor| cursor.places.clone());
        loop {
            let mut changes = arrival.watched.subscribe();
            let generation = Some(arrival.generation);
            let view = self
                .view_with(arrival.group, &arrival.watched, &arrival.member, generation)
                .await?;
            let member = member_of(&view, &arrival.member, generation)?;
            if member.held.iter().any(|held| place_of(&places, held).is_none()) {
                places = self.check(&arrival).await?.places(&places);
            }
            let is_read =
                |held: &&Held| request.max > 0 && !view.is_paused && held.revoke.is_none();
            let read: Vec<Place> = member
                .held
                .iter()
                .filter(is_read)
                .filter_map(|held| place_of(&places, held).copied())
                .collect();
            reading.set(&read);
            let partitions = reading.partitions();
            let watches = reading.watches(&partitions);
            let round = reading.read(&watches, request.max, turn).await?;
            let held = member.held.iter();
            let is_news = arrival
                .is_news(held.map(|held| (held.partition, held.epoch, held.revoke.is_some())));
            if is_news || !round.found.is_empty() {
                let check = self.check(&arrival).await?;
                places = check.places(&places);
                let outdated = check.version != view.version;
                let answer = Answer { groups: self, arrival: &arrival, reading: &reading };
                if let Some(polled) =
                    answer.checked(&check, &places, round.found, round.turn).await?
                {
                    return Ok(polled);
                }
                if outdated {
                    arrival.watched.forget();
                }
                continue;
            }
            let is_over = Instant::now() >= deadline || self.shared.lifecycle.is_draining();
            if is_over && reading.is_sure() {
                let answer = Answer { groups: self, arrival: &arrival, reading: &reading };
                return answer.empty(member, &places, turn).await;
            }
            if is_over {
                continue;
            }
            let _parked = self.shared.log.parked();
            tokio::select! {
                () = any_changed(watches) => {}
                _ = changes.changed() => {}
                () = sleep_until(deadline) => {}
                () = self.shared.lifecycle.draining() => {}
                () = arrival.turnstile.superseded() => return Err(GroupError::Superseded),
            }
        }
    }

    /// What the member has now, as the database says. Epochs of another incarnation of the log
    /// are renewed first.
    async fn check(&self, arrival: &Arrival) -> Result<Check, GroupError> {
        let (groups, group, member) = (self.clone(), arrival.group, arrival.member.clone());
        let check = self.detached(async move {
            let mut session = groups.shared.database.acquire().await?;
            let check = store::groups::check(&mut session, group, &member).await?;
            let is_current = |check: &Check| check.holdings.iter().all(|held| held.is_current);
            if check.as_ref().is_none_or(is_current) {
                return Ok(check);
            }
            store::groups::renew(&mut session, group).await?;
            groups.changed(group);
            Ok(store::groups::check(&mut session, group, &member).await?)
        });
        let check = check.await?.ok_or(GroupError::NoGroup)?;
        match check.generation {
            None => Err(GroupError::UnknownMember),
            Some(generation) if generation != arrival.generation => {
                Err(GroupError::Stale { generation })
            }
            Some(_) => Ok(check),
        }
    }
}

impl Check {
    /// Where the member goes on in all it has: where it stood under the same epoch, else at the
    /// committed offset.
    fn places(&self, before: &[Place]) -> Vec<Place> {
        let place = |held: &Holding| {
            let same =
                |place: &&Place| place.partition == held.partition && place.epoch == held.epoch;
            before.iter().find(same).copied().unwrap_or(Place {
                partition: held.partition,
                epoch: held.epoch,
                position: held.committed,
                is_told: false,
            })
        };
        self.holdings.iter().map(place).collect()
    }
}

fn member_of<'v>(
    view: &'v View,
    member: &str,
    generation: Option<i64>,
) -> Result<&'v Member, GroupError> {
    let standing = view.members.get(member).ok_or(GroupError::UnknownMember)?;
    match generation {
        Some(generation) if generation < standing.generation => {
            Err(GroupError::Stale { generation: standing.generation })
        }
        Some(generation) if generation > standing.generation => Err(GroupError::UnknownMember),
        _ => Ok(standing),
    }
}

fn place_of<'p>(places: &'p [Place], held: &Held) -> Option<&'p Place> {
    places.iter().find(|place| place.partition == held.partition && place.epoch == held.epoch)
}

/// What an answer is made from.
struct Answer<'a> {
    groups: &'a Groups,
    arrival: &'a Arrival,
    reading: &'a Reading,
}

impl Answer<'_> {
    /// The answer, if there is something to tell: rows that are still the member's to read, or
    /// news of what it has.
    async fn checked(
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
        self.write(lines.collect(), places, found, turn).await.map(Some)
    }

    /// The answer when there was nothing to tell.
    async fn empty(
        &self,
        member: &Member,
        places: &[Place],
        turn: u64,
    ) -> Result<Polled, GroupError> {
        let lines = member.held.iter().map(|held| Line {
            partition: held.partition,
            topic: Arc::clone(&held.topic),
            index: held.index,
            epoch: held.epoch,
            revoke: held.revoke.map(|at| at.saturating_duration_since(Instant::now())),
        });
        self.write(lines.collect(), places, Vec::new(), turn).await
    }

    async fn write(
        &self,
        lines: Vec<Line>,
        places: &[Place],
        mut found: Vec<Found>,
        turn: u64,
    ) -> Result<Polled, GroupError> {
        let mut polled = Polled {
            deliveries: Vec::with_capacity(found.len()),
            cursor: String::new(),
            assignments: Vec::with_capacity(lines.len()),
            revokes: Vec::new(),
        };
        let mut cursor = Cursor {
            group: self.arrival.group,
            generation: self.arrival.generation,
            turn,
            places: Vec::with_capacity(lines.len()),
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
                polled.deliveries.push(Delivery { topic, index, from: offset, until, batches });
            }
            cursor.places.push(Place { partition, epoch, position, is_told: revoke.is_some() });
            if let Some(deadline) = revoke {
                let topic = Arc::clone(&topic);
                polled.revokes.push(Revoked { topic, index, epoch, deadline });
            }
            polled.assignments.push(Standing { topic, index, epoch, offset, gap });
        }
        polled.cursor = cursor.write(self.groups.key().await?, &self.arrival.member);
        Ok(polled)
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
