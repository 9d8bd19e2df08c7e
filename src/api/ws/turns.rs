//! Sequences of producers on one socket are taken only in turn (docs/websocket.md): one that is
//! above the next expected would be appended before those that are missing.

use std::{collections::HashMap, sync::Arc};

use serde_json::from_str;
use uuid::Uuid;

use super::frames::PublishFrame;
use crate::{
    api::{
        error::{ErrorCode, Problem},
        extract::Object,
        message::ProducerIn,
    },
    model::limits,
    publish::{Chain, Link, PublishError},
};

/// The producers of one socket and topic.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<Uuid, Producer>);

#[derive(Debug)]
struct Producer {
    /// The next sequence that is taken.
    next: i64,
    chain: Arc<Chain>,
    /// How many breaks of the chain were told: behind one that was not, nothing is appended.
    breaks: u64,
    /// One failed and is to come again before all others.
    is_owed: bool,
}

impl Producer {
    fn new(next: i64) -> Self {
        Self { next, chain: Chain::new(), breaks: 0, is_owed: false }
    }
}

/// One request's turn.
#[derive(Debug)]
pub(super) struct Turn {
    producer: Uuid,
    sequence: i64,
    chain: Arc<Chain>,
    breaks: u64,
}

impl Turn {
    /// What has to come before it.
    pub(super) fn link(&self) -> Link {
        self.chain.link(self.breaks)
    }
}

impl Turns {
    /// Takes a producer's request, if it is its turn. The first sets the count; one that came
    /// before may come again.
    pub(super) fn enter(&mut self, producer: &ProducerIn) -> Result<Turn, Problem> {
        let ProducerIn { id, sequence } = *producer;
        if self.0.len() >= limits::SOCKET_PRODUCERS_MAX && !self.0.contains_key(&id) {
            let detail = format!(
                "a socket has at most {} producers for one topic",
                limits::SOCKET_PRODUCERS_MAX
            );
            return Err(Problem::new(ErrorCode::Invalid, detail).at("/producer/id"));
        }
        let known = self.0.entry(id);
        let known = known.or_insert_with(|| Producer::new(sequence));
        if sequence > known.next {
            let detail = format!("sequence {} of this producer comes first", known.next);
            return Err(Problem::new(ErrorCode::OutOfTurn, detail).fact("next", known.next));
        }
        known.is_owed &= sequence < known.next;
        known.next = known.next.max(sequence + 1);
        let (chain, breaks) = (Arc::clone(&known.chain), known.breaks);
        Ok(Turn { producer: id, sequence, chain, breaks })
    }

    /// A request failed. One that comes again has to come before those behind it.
    pub(super) fn ended(&mut self, turn: &Turn, error: &PublishError) {
        if error.comes_again() {
            self.expect(turn.producer, turn.sequence);
        }
    }

    /// A request failed before it was submitted.
    pub(super) fn lost(&mut self, frame: &str, problem: &Problem) {
        if !problem.code.is_retryable() {
            return;
        }
        let Ok(Object(frame)) = from_str::<Object<PublishFrame<'_>>>(frame) else { return };
        if let Ok(Some(producer)) = frame.publish().producer() {
            self.expect(producer.id, producer.sequence);
        }
    }

    fn expect(&mut self, producer: Uuid, sequence: i64) {
        let known = self.0.entry(producer);
        let known = known.or_insert_with(|| Producer::new(sequence));
        known.next = known.next.min(sequence);
        known.breaks = known.chain.breaks();
        known.is_owed = true;
    }

    /// Whether a producer has to send one again: its turn may not be forgotten.
    pub(super) fn is_owed(&self) -> bool {
        self.0.values().any(|producer| producer.is_owed)
    }
}
