//! Messages as loads make them, and the forms in which they are sent.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::wire::Request;
use crate::history::fingerprint;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Json,
    Text,
    Base64,
}

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Message {
    key: Option<String>,
    partition: Option<u32>,
    kind: Kind,
    text: String,
}

impl Message {
    /// One that was never sent before.
    pub fn new(kind: Kind, key: Option<String>, partition: Option<u32>, filler: usize) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let filler = "x".repeat(filler);
        let text = match kind {
            Kind::Json => format!("{{\"n\":{id},\"n\":1.0,\"f\":\"{filler}\"}}"),
            Kind::Text => format!("{id} {filler}"),
            Kind::Base64 => STANDARD.encode(format!("\u{0}{id} {filler}")),
        };
        Self { key, partition, kind, text }
    }

    /// Its number in the history.
    pub fn fingerprint(&self) -> u64 {
        known(self.key.as_deref(), self.kind, &self.text)
    }

    fn json(&self, out: &mut String) {
        out.push('{');
        if let Some(key) = &self.key {
            out.push_str(&format!("\"key\":\"{key}\","));
        }
        if let Some(partition) = self.partition {
            out.push_str(&format!("\"partition\":{partition},"));
        }
        let text = &self.text;
        match self.kind {
            Kind::Json => out.push_str(&format!("\"value\":{text}}}")),
            Kind::Text => out.push_str(&format!("\"value_text\":\"{text}\"}}")),
            Kind::Base64 => out.push_str(&format!("\"value_base64\":\"{text}\"}}")),
        }
    }
}

/// The number of what a reader gets back.
pub(super) fn known(key: Option<&str>, kind: Kind, text: &str) -> u64 {
    fingerprint(&[key.unwrap_or_default().as_bytes(), &[kind as u8], text.as_bytes()])
}

/// In which form messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON body, all or nothing.
    Batch,
    /// A message a line.
    Lines,
    /// One message as the body.
    Raw,
}

/// A body of messages in one form.
pub struct Parcel {
    target: String,
    kind: &'static str,
    headers: String,
    body: Vec<u8>,
}

impl Parcel {
    /// `messages` as they are sent to `topic`; one alone in raw form.
    pub fn new(topic: &str, messages: &[Message], form: Form) -> Self {
        let target = format!("/v1/topics/{topic}/messages");
        let mut text = String::new();
        match form {
            Form::Batch => {
                text.push_str("{\"messages\":[");
                for message in messages {
                    message.json(&mut text);
                    text.push(',');
                }
                text.pop();
                text.push_str("]}");
                Self::of(target, "application/json", text)
            }
            Form::Lines => {
                for message in messages {
                    message.json(&mut text);
                    text.push('\n');
                }
                Self::of(target, "application/x-ndjson", text)
            }
            Form::Raw => {
                let message = &messages[0];
                let kind =
                    if message.kind == Kind::Json { "application/json" } else { "text/plain" };
                let mut parcel = Self::of(format!("{target}/raw"), kind, message.text.clone());
                if let Some(key) = &message.key {
                    parcel.headers = format!("postrider-key: {key}\r\n");
                }
                parcel
            }
        }
    }

    /// The same as request `sequence` of a producer.
    pub fn numbered(topic: &str, messages: &[Message], producer: &str, sequence: u64) -> Self {
        let mut parcel = Self::new(topic, messages, Form::Batch);
        parcel.body.pop();
        let more = format!(",\"producer\":{{\"id\":\"{producer}\",\"sequence\":{sequence}}}}}");
        parcel.body.extend_from_slice(more.as_bytes());
        parcel
    }

    fn of(target: String, kind: &'static str, text: String) -> Self {
        Self { target, kind, headers: String::new(), body: text.into_bytes() }
    }

    /// As a request.
    pub fn request(&self) -> Request<'_> {
        let Self { target, kind, headers, body } = self;
        Request { method: "POST", target, kind, headers, body }
    }
}
