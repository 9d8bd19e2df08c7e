//! What the node sends, as JSON.

use std::sync::Arc;

use serde::Serialize;

use crate::api::error::Problem;

/// The `id` of a client's frame as it was written; empty where there was none.
pub(super) type Id = Arc<str>;

/// Puts a value into a frame that is being written.
pub(super) fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("plain JSON, and a Vec takes every byte");
}

fn put_id(out: &mut Vec<u8>, id: &str) {
    if !id.is_empty() {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id.as_bytes());
    }
}

/// The beginning of an `ok`, to be closed by whoever adds to it.
pub(super) fn begin_ok(id: &str) -> Vec<u8> {
    let mut out = b"{\"op\":\"ok\"".to_vec();
    put_id(&mut out, id);
    out
}

/// An `ok` that says what it is about.
pub(super) fn ok(id: &str, sub: &str) -> Vec<u8> {
    let mut out = begin_ok(id);
    out.extend_from_slice(b",\"sub\":");
    put(&mut out, &sub);
    out.push(b'}');
    out
}

/// An error, by the `id` of what went wrong, else by its `sub`.
pub(super) fn error(id: &str, sub: Option<&str>, problem: &Problem, request_id: &str) -> Vec<u8> {
    let mut out = b"{\"op\":\"error\"".to_vec();
    put_id(&mut out, id);
    if let Some(sub) = sub {
        out.extend_from_slice(b",\"sub\":");
        put(&mut out, &sub);
    }
    out.extend_from_slice(b",\"error\":");
    put(&mut out, &problem.body(request_id));
    out.push(b'}');
    out
}

/// A subscription has ended.
pub(super) fn closed(sub: &str, problem: &Problem, request_id: &str) -> Vec<u8> {
    let mut out = b"{\"op\":\"closed\",\"sub\":".to_vec();
    put(&mut out, &sub);
    out.extend_from_slice(b",\"error\":");
    put(&mut out, &problem.body(request_id));
    out.push(b'}');
    out
}

/// The beginning of a frame of `op` for a subscription, to be closed by whoever adds to it.
pub(super) fn begin(op: &str, sub: &str) -> Vec<u8> {
    let mut out = format!("{{\"op\":\"{op}\",\"sub\":").into_bytes();
    put(&mut out, &sub);
    out
}

/// How far a subscription has come in each partition, and the histories where these are others
/// than its `ok` said.
pub(super) fn position(sub: &str, positions: &impl Serialize, log: Option<&str>) -> Vec<u8> {
    let mut out = begin("position", sub);
    out.extend_from_slice(b",\"positions\":");
    put(&mut out, positions);
    if let Some(log) = log {
        out.extend_from_slice(b",\"log\":");
        put(&mut out, &log);
    }
    out.push(b'}');
    out
}

/// What comes before the items of a `messages` frame.
pub(super) fn lead(sub: &str, topic: &str, partition: u32, epoch: Option<i64>) -> Vec<u8> {
    let mut out = begin("messages", sub);
    out.extend_from_slice(b",\"topic\":");
    put(&mut out, &topic);
    out.extend_from_slice(b",\"partition\":");
    put(&mut out, &partition);
    if let Some(epoch) = epoch {
        out.extend_from_slice(b",\"epoch\":");
        put(&mut out, &epoch);
    }
    out.extend_from_slice(b",\"messages\":[");
    out
}

/// Ends a frame whose items each have a comma behind them.
pub(super) fn end_items(out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(b"]}");
}

/// The node stops: come back somewhere else after so many ms.
pub(super) fn draining(after_ms: u64) -> Vec<u8> {
    format!("{{\"op\":\"draining\",\"reconnect_after\":\"{after_ms}ms\"}}").into_bytes()
}

/// The answer to a ping.
pub(super) fn pong(id: &str) -> Vec<u8> {
    let mut out = b"{\"op\":\"pong\"".to_vec();
    put_id(&mut out, id);
    out.push(b'}');
    out
}
