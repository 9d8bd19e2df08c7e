//! The order of one producer's requests that are under way together. When one of them fails and
//! will come again, none behind it may be appended before: they fail too, and come after it. Only
//! the flusher of their slot answers and appends, so nothing is between the failure and that.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::PublishError;

/// What the requests of one producer to one topic on one socket have in common.
#[derive(Debug, Default)]
pub struct Chain {
    breaks: AtomicU64,
}

impl Chain {
    /// A chain without a break.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How often it broke.
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    /// The link of a request by somebody who knows of so many breaks. It fails after one that is
    /// not known yet.
    pub fn link(self: &Arc<Self>, breaks: u64) -> Link {
        Link { chain: Arc::clone(self), breaks }
    }
}

/// A request's place in its chain.
#[derive(Debug)]
pub struct Link {
    chain: Arc<Chain>,
    breaks: u64,
}

impl Link {
    /// Whether none before it failed since it was made.
    pub(super) fn is_whole(&self) -> bool {
        self.chain.breaks() == self.breaks
    }

    /// Notes how the request ended.
    pub(super) fn ended(&self, error: &PublishError) {
        if error.comes_again() && self.is_whole() {
            self.chain.breaks.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl PublishError {
    /// Whether a producer sends the request again: nothing happened that it would be told anew,
    /// or nobody knows. What was moved is sent on by the node itself.
    pub fn comes_again(&self) -> bool {
        match self {
            Self::InProgress
            | Self::Overloaded
            | Self::Unavailable
            | Self::StorageFull
            | Self::NoStandby
            | Self::OutcomeUnknown
            | Self::OutOfTurn
            | Self::Draining => true,
            Self::Moved(_)
            | Self::Gone(_)
            | Self::WrongOffset { .. }
            | Self::BodyDiffers
            | Self::SequenceTooOld => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_failure_is_out_of_turn() {
        let chain = Chain::new();
        let links = [0, 0, 0].map(|known| chain.link(known));
        links[0].ended(&PublishError::BodyDiffers);
        assert!(links.iter().all(Link::is_whole), "a final failure counts as taken");
        links[1].ended(&PublishError::OutcomeUnknown);
        assert!(!links[2].is_whole());
        let again = chain.link(chain.breaks());
        links[2].ended(&PublishError::OutOfTurn);
        assert!(again.is_whole(), "what was broken before breaks nothing");
    }
}
