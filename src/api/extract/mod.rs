//! From a request to typed values. Every rejection is a problem in the one form that clients
//! know; nothing here answers in plain text.

mod body;
mod encoding;
mod idempotency;
mod json;
mod params;

pub use body::{Bodies, MediaKind, ReadBody};
pub use idempotency::{BareKey, Fingerprint, IdempotencyKey, KeyedJson, replayed};
pub use json::{JsonBody, Object, json_problem, require_json, too_deep, too_deep_at};
pub use params::{PathParams, QueryParams};
