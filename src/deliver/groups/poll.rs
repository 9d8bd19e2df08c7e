//! A poll: what a member has is read first and checked afterwards, and rows of what has moved or
//! is to be given up are dropped. The other order delivered under an epoch that had passed.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    Cursor, GroupError, Groups, Place,
    answer::{Answer, Polled},
    cut,
    reading::{Reading, any_changed},
    view::{Held, Member, Turnstile, View, Watched},
};
use crate::{
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
    /// Messages at the most; with 0 it waits for news of its assignments alone.
    pub max: u32,
    /// How long to wait for something to tell; cut to a third of the session timeout.
    pub wait: Duration,
}

/// A member's poll that was let in.
#[derive(Debug)]
pub struct Arrival {
    pub(super) group: GroupId,
    pub(super) member: String,
    number: i64,
    pub(super) generation: i64,
    session_timeout: Duration,
    cursor: Option<Cursor>,
    watched: Arc<Watched>,
    pub(super) turnstile: Turnstile,
    begun: Instant,
}

impl Arrival {
    /// The member's number under this generation.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// The member's id.
    pub fn member(&self) -> &str {
        &self.member
    }

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
    pub(super) fn is_news<'h>(
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
        let cursor = match cursor {
            Some(text) => Some(Cursor::read(self.key().await?, group, member, text)?),
            None => None,
        };
        let arrival = self.arrive_at(group, member, cursor).await?;
        self.heard(group, arrival.number);
        Ok(arrival)
    }

    /// A member was heard now.
    pub fn heard(&self, group: GroupId, number: i64) {
        self.shared.beats.note(number, group);
    }

    /// The same for a member that is heard otherwise: whether it lives is for others to say.
    pub async fn arrive_at(
        &self,
        group: GroupId,
        member: &str,
        cursor: Option<Cursor>,
    ) -> Result<Arrival, GroupError> {
        let begun = Instant::now();
        let watched = self.watched(group);
        let generation = cursor.as_ref().map(|cursor| cursor.generation);
        let view = self.view_with(group, &watched, member, generation).await?;
        let standing = member_of(&view, member, generation)?;
        let (generation, session_timeout) = (standing.generation, standing.session_timeout);
        let number = standing.number;
        let turnstile = watched.enter(member);
        let member = member.to_owned();
        Ok(Arrival {
            group,
            member,
            number,
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
        group: GroupId,
        (member, generation): (&str, i64),
        given: Vec<(PartitionId, i64)>,
    ) -> Result<(), GroupError> {
        let (groups, member) = (self.clone(), member.to_owned());
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
        let wait = cut(request.wait, arrival.session_timeout);
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
                let answer = Answer { arrival: &arrival, reading: &reading };
                if let Some(polled) = answer.checked(&check, &places, round.found, round.turn)? {
                    return Ok(polled);
                }
                if outdated {
                    arrival.watched.forget();
                }
                continue;
            }
            let is_over = Instant::now() >= deadline || self.shared.lifecycle.is_draining();
            if is_over && reading.is_sure() {
                let answer = Answer { arrival: &arrival, reading: &reading };
                return Ok(answer.empty(member, &places, turn));
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
