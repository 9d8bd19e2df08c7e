//! A message as a client writes it, read without copying and kept byte for byte.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::ProducerIn;
use crate::{
    api::{
        error::{ErrorCode, Problem},
        extract::Object,
    },
    model::limits,
};

/// A string of the request, borrowed where it has no escapes.
#[derive(Clone, Debug)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A field that may be absent, where `null` is not the same as absent.
#[derive(Clone, Copy, Debug, Default)]
pub enum Field<T> {
    /// The request does not name it.
    #[default]
    Absent,
    /// The request names it.
    Present(T),
}

impl<T> Field<T> {
    /// The value, if it is named.
    pub fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Absent => None,
            Self::Present(value) => Some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::Present)
    }
}

/// One message of a publish request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageIn<'a> {
    #[serde(borrow, default)]
    pub(super) key: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) key_base64: Field<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) value: Field<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) value_text: Field<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) value_base64: Field<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) headers: Option<HeadersIn<'a>>,
    #[serde(default)]
    pub(super) partition: Option<u32>,
}

/// Headers in the order they are written; a name may come more than once.
#[derive(Debug)]
pub(super) struct HeadersIn<'a>(pub(super) Vec<(Text<'a>, HeaderIn<'a>)>);

#[derive(Debug)]
pub(super) enum HeaderIn<'a> {
    Text(Text<'a>),
    Base64(Text<'a>),
    Many(Vec<HeaderIn<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for HeadersIn<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = HeadersIn<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut headers = Vec::new();
                while let Some(header) = map.next_entry()? {
                    headers.push(header);
                }
                Ok(HeadersIn(headers))
            }
        }
        deserializer.deserialize_map(HeadersVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for HeaderIn<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Binary<'a> {
            #[serde(borrow)]
            base64: Text<'a>,
        }
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = HeaderIn<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, {\"base64\": …} or an array of these")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(HeaderIn::Text(Text(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(HeaderIn::Text(Text(Cow::Owned(text.to_owned()))))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                Binary::deserialize(map).map(|binary| HeaderIn::Base64(binary.base64))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut many = Vec::new();
                while let Some(header) = seq.next_element()? {
                    many.push(header);
                }
                Ok(HeaderIn::Many(many))
            }
        }
        deserializer.deserialize_any(HeaderVisitor)
    }
}

/// The messages of a request, kept up to the limit of a batch and counted beyond it, so that a
/// body of empty messages cannot ask for memory many times its size.
#[derive(Debug)]
pub struct MessagesIn<'a> {
    kept: Vec<MessageIn<'a>>,
    count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for MessagesIn<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MessagesVisitor;
        impl<'de> Visitor<'de> for MessagesVisitor {
            type Value = MessagesIn<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of messages")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < limits::BATCH_MESSAGES_MAX {
                    let Some(Object(message)) = seq.next_element()? else {
                        return Ok(MessagesIn { count: kept.len(), kept });
                    };
                    kept.push(message);
                }
                let mut count = kept.len();
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(MessagesIn { kept, count })
            }
        }
        deserializer.deserialize_seq(MessagesVisitor)
    }
}

/// The body of a publish.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishIn<'a> {
    #[serde(borrow)]
    messages: MessagesIn<'a>,
    #[serde(default)]
    producer: Field<Object<ProducerIn>>,
    #[serde(default)]
    expect_offset: Field<i64>,
}

impl<'a> PublishIn<'a> {
    /// A publish of these parts.
    pub fn new(
        messages: MessagesIn<'a>,
        producer: Field<Object<ProducerIn>>,
        expect_offset: Field<i64>,
    ) -> Self {
        Self { messages, producer, expect_offset }
    }

    /// The messages, once what is wrong with the request as a whole is ruled out.
    pub fn messages(&self) -> Result<&[MessageIn<'a>], Problem> {
        if self.messages.count > limits::BATCH_MESSAGES_MAX {
            let detail = format!(
                "a batch holds at most {} messages, this one has {}",
                limits::BATCH_MESSAGES_MAX,
                self.messages.count
            );
            return Err(Problem::new(ErrorCode::BatchTooLarge, detail).at("/messages"));
        }
        if self.messages.kept.is_empty() {
            let detail = "a publish has at least one message";
            return Err(Problem::new(ErrorCode::Invalid, detail).at("/messages"));
        }
        Ok(&self.messages.kept)
    }

    /// Who publishes, if the request says so.
    pub fn producer(&self) -> Result<Option<ProducerIn>, Problem> {
        self.producer.as_ref().map(|Object(producer)| producer.checked()).transpose()
    }

    pub(super) fn expected(&self) -> Option<i64> {
        self.expect_offset.as_ref().copied()
    }

    /// The offset that the first message has to get, if the request says so.
    pub fn expect_offset(&self) -> Result<Option<i64>, Problem> {
        match self.expect_offset {
            Field::Absent => Ok(None),
            Field::Present(offset) if (0..limits::OFFSET_MAX).contains(&offset) => Ok(Some(offset)),
            Field::Present(_) => {
                let detail = "an offset is a number from 0 to 2^53 - 1";
                Err(Problem::new(ErrorCode::Invalid, detail).at("/expect_offset"))
            }
        }
    }
}
