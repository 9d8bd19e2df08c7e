//! What a request can ask of the log beyond being appended.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Link, PublishError};
pub use crate::store::claims::{BodyHash, ClaimKey, MarkKey, RequestKey};

/// What has to hold for a request to be appended. Most requests ask for nothing.
#[derive(Debug, Default)]
pub struct Terms {
    /// The offset that its first message has to get; all its messages go to one partition.
    pub expect_offset: Option<i64>,
    /// What makes a repeat of it known.
    pub claim: Option<Box<Claim>>,
    /// What has to come before it.
    pub link: Option<Link>,
}

/// That a request is appended once, however often it comes.
#[derive(Debug)]
pub struct Claim {
    /// By what a repeat is known.
    pub key: ClaimKey,
    /// What it asks for: a repeat asks for the same.
    pub hash: BodyHash,
    /// Which message lies in which of the request's parts, for the answer to a repeat
    /// ([`super::layout`]).
    pub layout: Vec<u8>,
}

impl Terms {
    /// Whether nothing is asked.
    pub(super) fn is_empty(&self) -> bool {
        self.expect_offset.is_none() && self.claim.is_none() && self.link.is_none()
    }
}

/// The `Idempotency-Key`s of requests that this node has not answered yet. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Mutex<HashSet<RequestKey>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct RunningKey {
    running: Running,
    key: RequestKey,
}

impl Running {
    /// Enters a key.
    ///
    /// # Errors
    /// [`PublishError::InProgress`] while another request with that key runs.
    pub fn enter(&self, key: &RequestKey) -> Result<RunningKey, PublishError> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !running.insert(key.clone()) {
            return Err(PublishError::InProgress);
        }
        Ok(RunningKey { running: self.clone(), key: key.clone() })
    }

    /// Enters the key of `claim`, if it is one of a request.
    pub(super) fn enter_claim(&self, claim: &Claim) -> Result<Option<RunningKey>, PublishError> {
        match &claim.key {
            ClaimKey::Request(key) => self.enter(key).map(Some),
            ClaimKey::Mark(_) => Ok(None),
        }
    }
}

impl Drop for RunningKey {
    fn drop(&mut self) {
        let mut running = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.key);
    }
}
