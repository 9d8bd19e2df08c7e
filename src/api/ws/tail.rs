//! Subscriptions without a group: where they begin, and what they are sent.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::place::{From, Logs};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
        http::{LogToken, publish::gone, topics::lookup_problem},
    },
    catalog::{CatalogError, Topic},
    deliver::stream::{Ended, Filter, PageError, Reader, TopicStream},
    log::{Position, ReadError},
    model::{Name, PartitionId, TenantId, group::TopicPattern, limits},
};

/// How often a topic is looked up anew for one subscription.
const TRIES: usize = 4;
/// Partitions whose positions are looked up at the same time.
const LOOK_UPS: usize = 4;

/// What a subscription reads, and where it begins.
#[derive(Clone, Debug)]
pub(in crate::api) struct TailWish {
    /// Topics by their names.
    pub(in crate::api) names: Vec<Name>,
    /// Patterns of names.
    pub(in crate::api) patterns: Vec<TopicPattern>,
    /// One partition alone, of one topic.
    pub(in crate::api) partition: Option<u32>,
    pub(in crate::api) from: From,
    pub(in crate::api) logs: Option<Logs>,
    pub(in crate::api) filter: Option<Filter>,
}

/// A topic whose positions are known.
#[derive(Debug)]
pub(in crate::api) struct Opened {
    pub(in crate::api) stream: Arc<TopicStream>,
    pub(in crate::api) places: Vec<(u32, i64)>,
    /// Why it does not go on where the client stood.
    pub(in crate::api) reason: Option<ErrorCode>,
}

impl TailWish {
    /// Fixes where all that is meant now begins.
    pub(in crate::api) async fn open(
        &self,
        state: &AppState,
        tenant: TenantId,
    ) -> Result<Vec<Opened>, Problem> {
        let mut names = self.names.clone();
        if !self.patterns.is_empty() {
            let matching = self.matching(state, tenant).await?;
            let more = matching.into_iter().filter(|name| !self.names.contains(name));
            names.extend(more.collect::<Vec<_>>());
        }
        let mut all = Vec::with_capacity(names.len());
        let mut partitions = 0;
        for name in names {
            let opened = match self.open_topic(state, tenant, &name).await {
                // It went while the others were looked up.
                Err(problem)
                    if problem.code == ErrorCode::NotFound && !self.names.contains(&name) =>
                {
                    continue;
                }
                opened => opened?,
            };
            partitions += opened.places.len();
            if partitions > limits::SOCKET_PARTITIONS_MAX {
                let most = limits::SOCKET_PARTITIONS_MAX;
                let detail = format!("a socket reads at most {most} partitions");
                return Err(Problem::new(ErrorCode::Invalid, detail).at("/topics"));
            }
            all.push(opened);
        }
        Ok(all)
    }

    async fn matching(&self, state: &AppState, tenant: TenantId) -> Result<Vec<Name>, Problem> {
        let matching = state.streams.matching(tenant, &self.patterns).await;
        matching.map_err(|error| match error {
            CatalogError::Store(error) => Problem::of_read(&error),
            _ => Problem::new(ErrorCode::Internal, "the topics cannot be listed"),
        })
    }

    /// Opens what a pattern means and `known` does not have, from its beginning.
    pub(in crate::api) async fn open_more(
        &self,
        state: &AppState,
        tenant: TenantId,
        known: Vec<Name>,
    ) -> Result<Vec<Opened>, Problem> {
        let mut names = self.matching(state, tenant).await?;
        names.retain(|name| !known.contains(name));
        let from = From::All(Position::Earliest);
        let wish = Self { names, patterns: Vec::new(), from, logs: None, ..self.clone() };
        wish.open(state, tenant).await
    }

    async fn open_topic(
        &self,
        state: &AppState,
        tenant: TenantId,
        name: &Name,
    ) -> Result<Opened, Problem> {
        let before = self.logs.as_ref().and_then(|logs| logs.of(name));
        // Positions without their history, in what only a pattern means: they may be of another
        // topic of this name.
        let is_unknown = self.logs.is_some()
            && before.is_none()
            && !self.names.contains(name)
            && self.from.names(name.as_str());
        let mut is_fresh = false;
        for _ in 0..TRIES {
            let stream = state.streams.topic(tenant, name).await;
            let stream = stream.map_err(|error| lookup_problem(error, name))?;
            let topic = stream.topic();
            let refused = before.and_then(|before| before.check(LogToken::of(&topic)).err());
            let reason = refused.map(|problem| problem.code);
            let reason = reason.or(is_unknown.then_some(ErrorCode::TopicRecreated));
            if reason.is_some() && !is_fresh {
                // What this node has in memory may be what the client has seen go.
                state.catalog.forget(tenant, name);
                is_fresh = true;
                continue;
            }
            match self.places(state, &topic, reason, before.is_some()).await {
                Ok((places, reason)) => return Ok(Opened { stream, places, reason }),
                Err(ReadError::Gone) => {
                    state.catalog.forget(tenant, name);
                    state.streams.look();
                }
                Err(error) => return Err(Problem::of_log(error, name.as_str(), || gone(name))),
            }
        }
        Err(gone(name))
    }

    async fn places(
        &self,
        state: &AppState,
        topic: &Topic,
        reason: Option<ErrorCode>,
        comes_back: bool,
    ) -> Result<(Vec<(u32, i64)>, Option<ErrorCode>), ReadError> {
        let meant = (0_u32..).zip(topic.partitions.iter().copied());
        let meant = meant.filter(|(number, _)| self.partition.is_none_or(|one| one == *number));
        // Collected: a stream over what is borrowed could not be polled in a task.
        let look_ups: Vec<_> = meant
            .map(|(number, id)| {
                let position = match reason {
                    Some(_) => Position::Earliest,
                    None => self.from.of(topic.name.as_str(), number),
                };
                look_up(state, number, id, position, comes_back)
            })
            .collect();
        let places = stream::iter(look_ups);
        let places: Vec<_> = places.buffered(LOOK_UPS).try_collect().await?;
        let is_outrun = places.iter().any(|(_, _, is_outrun)| *is_outrun);
        let outrun = is_outrun.then_some(ErrorCode::OffsetOutOfRange);
        let places = places.into_iter().map(|(number, offset, _)| (number, offset));
        Ok((places.collect(), reason.or(outrun)))
    }
}

/// Where one partition begins, and whether retention outran a client that was away.
async fn look_up(
    state: &AppState,
    number: u32,
    id: PartitionId,
    position: Position,
    comes_back: bool,
) -> Result<(u32, i64, bool), ReadError> {
    match state.streams.resolve(id, position).await {
        Ok(offset) => Ok((number, offset, false)),
        Err(ReadError::OutOfRange(marks)) if comes_back => Ok((number, marks.low, true)),
        Err(error) => Err(error),
    }
}

/// What is told when a topic cannot be read on.
pub(in crate::api) fn ended(name: &Name, why: Ended) -> Problem {
    let (code, detail) = match why {
        Ended::Deleted => (ErrorCode::NotFound, format!("the topic `{name}` was deleted")),
        Ended::Recreated => (
            ErrorCode::TopicRecreated,
            format!("the topic `{name}` was deleted and made again: its offsets begin at 0"),
        ),
        Ended::Truncated => (
            ErrorCode::LogTruncated,
            format!("the database failed over: messages at the end of `{name}` may be gone"),
        ),
    };
    Problem::new(code, detail)
}

/// What is told when a partition cannot be read on.
pub(in crate::api) fn failed(name: &Name, partition: u32, error: PageError) -> Problem {
    match error {
        PageError::Read(error) => {
            let problem = Problem::of_log(error, name.as_str(), || gone(name));
            problem.fact("topic", name.as_str()).fact("partition", partition)
        }
        PageError::Corrupt(corrupt) => {
            tracing::error!(topic = %name, partition, %corrupt, "stored messages cannot be read");
            Problem::new(ErrorCode::Internal, "stored messages cannot be read")
        }
    }
}

/// The histories of all that a reader reads, as a subscription is told them.
pub(super) fn log(reader: &Reader, wish: &TailWish) -> String {
    let named = !wish.patterns.is_empty() || wish.names.len() != 1;
    Logs::write(reader.topics().map(|stream| stream.topic()), named)
}

/// The topics that a reader reads with where it goes on in each, as `{"topic":{"0":42}}`.
pub(in crate::api) fn positions(
    reader: &Reader,
) -> std::collections::BTreeMap<String, std::collections::BTreeMap<u32, i64>> {
    let mut all = std::collections::BTreeMap::new();
    for (stream, partition, offset) in reader.positions() {
        let of_topic: &mut std::collections::BTreeMap<u32, i64> =
            all.entry(stream.name().to_string()).or_default();
        of_topic.insert(partition, offset);
    }
    all
}
