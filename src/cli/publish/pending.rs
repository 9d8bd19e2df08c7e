//! A batch on its way.

use serde::Deserialize;

use super::encode::Batch;
use crate::cli::problem::Problem;

/// Where a message went.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Placed {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
}

/// The answer to a publish.
#[derive(Debug, Deserialize)]
pub struct Published {
    /// Where each message went, in order.
    pub results: Vec<Placed>,
    /// What that means.
    #[serde(default)]
    pub durability: Option<String>,
}

/// A batch that is not confirmed, or that waits for one before it to be.
#[derive(Debug)]
pub struct Pending {
    /// Its place among the producer's.
    pub sequence: i64,
    /// As it is sent.
    pub frame: String,
    /// What it is.
    pub batch: Batch,
    /// How far it is.
    pub state: State,
    /// It was sent, and nobody has said what came of it.
    pub in_doubt: bool,
}

/// How far a batch is.
#[derive(Debug)]
pub enum State {
    /// To be sent, for the first time or again.
    Waiting,
    /// Sent on the socket that is open.
    Sent,
    /// To be sent again once nothing is under way: what comes behind it is out of turn until then.
    Again,
    /// It is published.
    Confirmed,
    /// It never will be.
    Refused(Box<Problem>),
}
