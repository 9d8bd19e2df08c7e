//! One publish on its way to the log, whatever carried it here.

use axum::body::Bytes;

use super::answer::{CameBefore, Numbers, Published, Results};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
        extract::{IdempotencyKey, Object, json_problem},
        http::topics::lookup_problem,
        message::{self, PublishIn, RequestRecords},
    },
    catalog::Topic,
    model::{Name, TenantId, limits, topic::Keyless},
    publish::{
        Acked, Acking, Claim, ClaimKey, Lane, Link, MarkKey, Part, Parts, PublishError, Terms,
        layout, partition_of_key,
    },
};

/// How often a request is sorted anew after its topic moved, grew or was made again.
const TRIES: usize = 4;

/// Why a publish of one request failed, while its topic may still be looked up again.
pub enum Failed {
    /// The request itself.
    Request(Problem),
    /// The topic or the log.
    Publish(PublishError, Repeatable),
}

/// Whether a repeat of the request is known as one.
pub type Repeatable = bool;

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Request(problem)
    }
}

/// Who publishes where.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The tenant.
    pub tenant: TenantId,
    /// The topic.
    pub name: &'a Name,
    /// Bytes of the messages, about.
    pub bytes: usize,
    /// The key of the request, and the part of the route below the topic that it counts for.
    pub key: Option<(&'a IdempotencyKey, &'a str)>,
}

/// Publishes what `records` makes of the topic as it stands. A topic that moved, grew or was made
/// again since this node read it is read again and the request sorted anew: nothing of it was
/// appended.
pub(in crate::api::http) async fn publish(
    state: &AppState,
    asked: Asked<'_>,
    records: impl Fn(&Topic, u32) -> Result<RequestRecords, Problem>,
) -> Result<Published, Problem> {
    let name = asked.name;
    let mut last = PublishError::Unavailable;
    let mut is_fresh = false;
    for _ in 0..TRIES {
        let topic = state.catalog.topic(asked.tenant, name).await;
        let topic = topic.map_err(|error| lookup_problem(error, name))?;
        match publish_once(state, &topic, asked, &records).await {
            Ok(published) => return Ok(published),
            Err(Failed::Request(problem)) if depends_on_topic(&problem) && !is_fresh => {
                state.catalog.forget(asked.tenant, name);
                is_fresh = true;
            }
            Err(Failed::Request(problem)) => return Err(problem),
            Err(Failed::Publish(error @ (PublishError::Moved(_) | PublishError::Gone(_)), _)) => {
                state.catalog.forget(asked.tenant, name);
                last = error;
            }
            Err(Failed::Publish(error, is_repeatable)) => {
                return Err(publish_problem(&error, name).repeatable(is_repeatable));
            }
        }
    }
    Err(publish_problem(&last, name))
}

/// Whether the topic's settings are what makes the request wrong: another node may have answered
/// a change of them that this one has not heard of.
pub fn depends_on_topic(problem: &Problem) -> bool {
    matches!(problem.code, ErrorCode::PartitionOutOfRange | ErrorCode::MessageTooLarge)
}

async fn publish_once(
    state: &AppState,
    topic: &Topic,
    asked: Asked<'_>,
    records: &impl Fn(&Topic, u32) -> Result<RequestRecords, Problem>,
) -> Result<Published, Failed> {
    let (waiting, acking) = Sorted::new(state, topic, asked, records)?.submit(state, None)?;
    waiting.answered(acking.await)
}

/// A request whose messages are sorted by partition.
pub struct Sorted {
    lane: Lane,
    parts: Parts,
    terms: Terms,
    waiting: Waiting,
}

/// What its answer is made of, but for the offsets.
pub struct Waiting {
    numbers: Numbers,
    durability: &'static str,
    is_repeatable: Repeatable,
    is_by_key: bool,
}

impl Sorted {
    /// Sorts what `records` makes of the topic.
    pub fn new(
        state: &AppState,
        topic: &Topic,
        asked: Asked<'_>,
        records: &impl Fn(&Topic, u32) -> Result<RequestRecords, Problem>,
    ) -> Result<Self, Problem> {
        let settings = &topic.settings;
        let lane = Lane {
            class: settings.retention.class(),
            durability: settings.durability,
            compression: settings.compression,
            incarnation: topic.incarnation,
        };
        let keyless = match settings.keyless {
            Keyless::Sticky => {
                state.publisher.sticky_turn(lane, asked.bytes).wrapping_add(topic.id.0 as u64)
            }
            Keyless::RoundRobin => state.publisher.next_turn(),
        };
        let keyless = (keyless % u64::from(settings.partitions)) as u32;
        let mut records = records(topic, keyless)?;
        if records.terms.expect_offset.is_some() && records.parts.len() > 1 {
            let detail = "messages with an expected offset go to one partition";
            return Err(Problem::new(ErrorCode::Invalid, detail).at("/expect_offset"));
        }
        let numbers = Numbers {
            partitions: records.parts.iter().map(|(number, _)| *number).collect(),
            placed: records.placed,
        };
        claim_key(&mut records.terms, topic, asked)?;
        if let Some(claim) = &mut records.terms.claim {
            let parts = numbers.placed.iter().map(|placed| placed.part);
            claim.layout = layout::encode(&numbers.partitions, parts);
        }
        let part =
            |(number, records)| Part { partition: topic.partitions[number as usize], records };
        let parts = records.parts.into_iter().map(part).collect();
        let waiting = Waiting {
            numbers,
            durability: settings.durability.as_str(),
            is_repeatable: records.terms.claim.is_some(),
            is_by_key: asked.key.is_some(),
        };
        Ok(Self { lane, parts, terms: records.terms, waiting })
    }

    /// Puts it behind everything that was submitted before. With a `link`, what has to come first.
    pub fn submit(
        mut self,
        state: &AppState,
        link: Option<Link>,
    ) -> Result<(Waiting, Acking), Failed> {
        self.terms.link = link;
        let is_repeatable = self.waiting.is_repeatable;
        match state.publisher.submit(self.lane, self.parts, self.terms) {
            Ok(acking) => Ok((self.waiting, acking)),
            Err(error) => Err(Failed::Publish(error, is_repeatable)),
        }
    }
}

impl Waiting {
    /// What the request is answered.
    pub fn answered(self, acked: Result<Acked, PublishError>) -> Result<Published, Failed> {
        let Self { numbers, durability, is_repeatable, is_by_key } = self;
        Ok(match acked.map_err(|error| Failed::Publish(error, is_repeatable))? {
            Acked::Appended(offsets) => {
                let results = Results::Appended(numbers, offsets);
                Published { results, durability, came_before: CameBefore::No }
            }
            Acked::Repeated(results) => {
                let results = Results::Repeated(results);
                let came_before = if is_by_key { CameBefore::Key } else { CameBefore::Sequence };
                Published { results, durability, came_before }
            }
        })
    }
}

/// Claims the request's key, which counts for this topic and route.
fn claim_key(terms: &mut Terms, topic: &Topic, asked: Asked<'_>) -> Result<(), Problem> {
    let Some((key, route)) = asked.key else { return Ok(()) };
    if terms.claim.is_some() {
        let detail = "a request has a producer or an Idempotency-Key, not both";
        return Err(Problem::new(ErrorCode::Invalid, detail).at("/producer"));
    }
    let scope = format!("POST /topics/{}/{route}", topic.id);
    let (hash, key) = (key.hash, ClaimKey::Request(key.claim(asked.tenant, scope)));
    terms.claim = Some(Box::new(Claim { key, hash, layout: Vec::new() }));
    Ok(())
}

/// The messages of a JSON body.
pub(super) fn parse(body: &Bytes, topic: &Topic, keyless: u32) -> Result<RequestRecords, Problem> {
    let Object(parsed): Object<PublishIn<'_>> =
        serde_json::from_slice(body).map_err(|_| json_problem::<Object<PublishIn<'_>>>(body))?;
    records_of(&parsed, body.len(), topic, keyless)
}

/// The messages of a publish that was read from `bytes` of JSON.
pub fn records_of(
    parsed: &PublishIn<'_>,
    bytes: usize,
    topic: &Topic,
    keyless: u32,
) -> Result<RequestRecords, Problem> {
    let messages = parsed.messages()?;
    let mut records = RequestRecords::for_body(bytes);
    records.terms.expect_offset = parsed.expect_offset()?;
    let mut round_robin = keyless;
    let mut is_spread = topic.settings.keyless == Keyless::RoundRobin;
    if let Some(producer) = parsed.producer()? {
        // One partition for all that have no key, so that their order is one.
        round_robin = partition_of_key(producer.id.as_bytes(), topic.settings.partitions);
        is_spread = false;
        let (owner, sequence) = (topic.id, producer.sequence);
        let key = ClaimKey::Mark(MarkKey { owner, producer: producer.id, sequence });
        let hash = message::digest(parsed, messages);
        records.terms.claim = Some(Box::new(Claim { key, hash, layout: Vec::new() }));
    }
    for (at, message) in messages.iter().enumerate() {
        message::place(message, topic, round_robin, &mut records)
            .map_err(|refused| refused.problem(&format!("/messages/{at}")))?;
        if is_spread {
            round_robin = (round_robin + 1) % topic.settings.partitions;
        }
    }
    Ok(records)
}

/// What a publish error is on the wire.
pub fn publish_problem(error: &PublishError, topic: &Name) -> Problem {
    let (code, detail) = match error {
        PublishError::Gone(_) => (ErrorCode::NotFound, format!("there is no topic `{topic}`")),
        PublishError::Moved(_) | PublishError::Overloaded => {
            (ErrorCode::Overloaded, "more is waiting than this node takes on".to_owned())
        }
        PublishError::Unavailable => {
            (ErrorCode::DatabaseUnavailable, "the database cannot be reached".to_owned())
        }
        PublishError::StorageFull => {
            (ErrorCode::StorageFull, "the database has no space left".to_owned())
        }
        PublishError::NoStandby => (ErrorCode::ReplicationUnavailable, error.to_string()),
        PublishError::OutcomeUnknown => (
            ErrorCode::OutcomeUnknown,
            "the database did not say whether the messages were committed".to_owned(),
        ),
        PublishError::BodyDiffers => {
            (ErrorCode::BodyDiffers, "this came before, with another body".to_owned())
        }
        PublishError::SequenceTooOld => (
            ErrorCode::SequenceTooOld,
            format!("the sequence is not among the producer's last {}", limits::PRODUCER_WINDOW),
        ),
        PublishError::OutOfTurn => (ErrorCode::OutOfTurn, error.to_string()),
        PublishError::InProgress => {
            (ErrorCode::InProgress, "a request with this key is running".to_owned())
        }
        PublishError::WrongOffset { next_offset } => {
            let detail = format!("the next offset of the partition is {next_offset}");
            let problem = Problem::new(ErrorCode::WrongOffset, detail);
            return problem.fact("next_offset", *next_offset);
        }
        PublishError::Draining => (ErrorCode::Draining, "this node is about to stop".to_owned()),
    };
    Problem::new(code, detail)
}
