//! What clients send: one JSON object a frame, told apart by `op`.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::answers::Id;
use crate::api::{
    error::{ErrorCode, Problem},
    extract::Object,
    http::groups::{CommitIn, RevokedIn},
    message::{Field, MessagesIn, ProducerIn, PublishIn, Text},
};

/// What every frame may have. Nothing here can be of the wrong type.
#[derive(Debug, Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow)]
    pub(super) op: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) sub: Option<&'a RawValue>,
}

/// Characters of an `id`.
const ID_CHARS_MAX: usize = 255;

/// An `id` as it was written: a string or a number; empty where there is none.
pub(super) fn read_id(written: Option<&RawValue>) -> Result<Id, Problem> {
    let Some(written) = written.map(RawValue::get) else { return Ok(Id::from("")) };
    let is_one = matches!(written.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'));
    if is_one && written.len() <= ID_CHARS_MAX {
        return Ok(Id::from(written));
    }
    let detail = format!("an id is a string or a number of at most {ID_CHARS_MAX} characters");
    Err(Problem::new(ErrorCode::Invalid, detail).at("/id"))
}

/// How a publish begins that is read at once.
pub(super) const PUBLISH: &str = "{\"op\":\"publish\",";

/// `publish`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishFrame<'a> {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(borrow, default)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) topic: Option<Text<'a>>,
    #[serde(default)]
    queue: Option<IgnoredAny>,
    #[serde(default)]
    exchange: Option<IgnoredAny>,
    #[serde(borrow)]
    messages: MessagesIn<'a>,
    #[serde(default)]
    producer: Field<Object<ProducerIn>>,
    #[serde(default)]
    expect_offset: Field<i64>,
}

impl<'a> PublishFrame<'a> {
    /// Why it goes nowhere, if so.
    pub(super) fn refused(&self) -> Option<Problem> {
        if self.queue.is_some() {
            return Some(Problem::not_yet_supported("publishing to a queue").at("/queue"));
        }
        if self.exchange.is_some() {
            return Some(Problem::not_yet_supported("publishing to an exchange").at("/exchange"));
        }
        if self.topic.is_none() {
            let detail = "a publish names its topic";
            return Some(Problem::new(ErrorCode::Invalid, detail).at("/topic"));
        }
        None
    }

    /// What is to be published.
    pub(super) fn publish(self) -> PublishIn<'a> {
        PublishIn::new(self.messages, self.producer, self.expect_offset)
    }
}

/// `subscribe`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscribeFrame {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "id", default)]
    _id: Option<IgnoredAny>,
    pub(super) sub: String,
    #[serde(default)]
    pub(super) topic: Option<String>,
    #[serde(default)]
    pub(super) topics: Option<Vec<String>>,
    #[serde(default)]
    pub(super) from: Option<serde_json::Value>,
    #[serde(default)]
    pub(super) log: Option<String>,
    #[serde(default)]
    pub(super) credit: Option<i64>,
    #[serde(default)]
    pub(super) credit_bytes: Option<i64>,
    #[serde(default)]
    pub(super) filter: Option<Object<FilterIn>>,
    #[serde(default)]
    pub(super) group: Option<String>,
    #[serde(default)]
    pub(super) member_id: Option<String>,
    #[serde(default)]
    pub(super) generation: Option<i64>,
    #[serde(default)]
    pub(super) start: Option<String>,
    #[serde(default)]
    pub(super) session_timeout: Option<String>,
    #[serde(default)]
    pub(super) queue: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) lease: Option<IgnoredAny>,
}

/// What a message has to be like to be sent: all of it holds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct FilterIn {
    /// Headers that it has with exactly these values.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// How its key begins.
    #[serde(default)]
    pub(super) key_prefix: Option<String>,
}

/// `credit`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreditFrame {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "id", default)]
    _id: Option<IgnoredAny>,
    pub(super) sub: String,
    #[serde(default)]
    pub(super) messages: Option<i64>,
    #[serde(default)]
    pub(super) bytes: Option<i64>,
}

/// `commit`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitFrame {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "id", default)]
    _id: Option<IgnoredAny>,
    pub(super) sub: String,
    pub(super) offsets: Vec<CommitIn>,
}

/// `release`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseFrame {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "id", default)]
    _id: Option<IgnoredAny>,
    pub(super) sub: String,
    pub(super) assignments: Vec<RevokedIn>,
    #[serde(default)]
    pub(super) offsets: Vec<CommitIn>,
}

/// `unsubscribe`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnsubscribeFrame {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "id", default)]
    _id: Option<IgnoredAny>,
    pub(super) sub: String,
}

/// `ping`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PingFrame {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "id", default)]
    _id: Option<IgnoredAny>,
}
