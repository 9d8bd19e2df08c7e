//! Topics over REST: settings, publishing, reading, and what several nodes know of each other.

mod encodings;
mod log_file;
mod placement;
mod polls;
mod read;
mod settings;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{TwoNodes, one_node as one};

/// The field of each message.
fn each<'a>(messages: &'a [Value], field: &str) -> Vec<&'a Value> {
    messages.iter().map(|message| &message[field]).collect()
}

/// The one in the middle: what a busy machine does to a single one is not the point.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A message for partition 0.
fn message(value: impl Into<Value>) -> Value {
    json!([{"value": value.into(), "partition": 0}])
}
