//! What a publish asks for, as a hash: the same for a repeat of it, however its JSON is spaced.

use serde_json::value::RawValue;

use super::write::{HeaderIn, MessageIn, PublishIn, Text};
use crate::{api::extract::Fingerprint, publish::BodyHash};

/// The messages of a publish on their way into a hash.
#[derive(Default)]
struct Asked(Fingerprint);

impl Asked {
    fn text(&mut self, tag: u8, text: Option<&Text<'_>>) {
        if let Some(text) = text {
            self.0.add(tag, text.0.as_bytes());
        }
    }

    fn message(&mut self, message: &MessageIn<'_>) {
        self.0.add(b'm', &[]);
        self.text(b'k', message.key.as_ref());
        self.text(b'K', message.key_base64.as_ref());
        if let Some(value) = message.value.as_ref() {
            self.0.add(b'v', RawValue::get(value).as_bytes());
        }
        self.text(b't', message.value_text.as_ref());
        self.text(b'V', message.value_base64.as_ref());
        for (name, header) in message.headers.iter().flat_map(|headers| &headers.0) {
            self.text(b'h', Some(name));
            self.header(header);
        }
        if let Some(partition) = message.partition {
            self.0.add(b'p', &partition.to_le_bytes());
        }
    }

    fn header(&mut self, header: &HeaderIn<'_>) {
        match header {
            HeaderIn::Text(text) => self.text(b's', Some(text)),
            HeaderIn::Base64(text) => self.text(b'S', Some(text)),
            HeaderIn::Many(many) => {
                self.0.add(b'a', &(many.len() as u64).to_le_bytes());
                many.iter().for_each(|header| self.header(header));
            }
        }
    }
}

/// The hash of a publish: its messages and the offset that it expects. The producer is not part
/// of it, since it is what the hash is kept under.
pub fn digest(publish: &PublishIn<'_>, messages: &[MessageIn<'_>]) -> BodyHash {
    let mut asked = Asked::default();
    if let Some(offset) = publish.expected() {
        asked.0.add(b'o', &offset.to_le_bytes());
    }
    messages.iter().for_each(|message| asked.message(message));
    asked.0.hash()
}
