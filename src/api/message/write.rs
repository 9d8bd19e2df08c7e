//! A message as a client writes it, read without copying and kept byte for byte.

use std::{borrow::Cow, fmt};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::{
    api::error::{ErrorCode, Problem},
    catalog::Topic,
    model::limits,
    publish::partition_of_key,
    record::{Attributes, RecordBuffer, ValueKind},
};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key_base64: Field<Text<'a>>,
    #[serde(borrow, default)]
    value: Field<&'a RawValue>,
    #[serde(borrow, default)]
    value_text: Field<Text<'a>>,
    #[serde(borrow, default)]
    value_base64: Field<Text<'a>>,
    #[serde(borrow, default)]
    headers: Option<HeadersIn<'a>>,
    #[serde(default)]
    partition: Option<u32>,
}

/// Headers in the order they are written; a name may come more than once.
#[derive(Debug)]
struct HeadersIn<'a>(Vec<(Text<'a>, HeaderIn<'a>)>);

#[derive(Debug)]
enum HeaderIn<'a> {
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
                    let Some(message) = seq.next_element()? else {
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
    producer: Field<IgnoredAny>,
    #[serde(default)]
    expect_offset: Field<IgnoredAny>,
}

impl<'a> PublishIn<'a> {
    /// The messages, once what is wrong with the request as a whole is ruled out.
    pub fn messages(&self) -> Result<&[MessageIn<'a>], Problem> {
        let later = [
            ("/producer", self.producer.as_ref().is_some()),
            ("/expect_offset", self.expect_offset.as_ref().is_some()),
        ];
        if let Some((pointer, _)) = later.iter().find(|(_, named)| *named) {
            return Err(Problem::not_yet_supported(&pointer[1..]).at(*pointer));
        }
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
}

/// A message that cannot be taken: which field and why.
#[derive(Debug)]
pub struct Refused {
    code: ErrorCode,
    field: &'static str,
    detail: String,
}

impl Refused {
    fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self { code: ErrorCode::Invalid, field, detail: detail.into() }
    }

    /// The problem of the message at `pointer`.
    pub fn problem(self, pointer: &str) -> Problem {
        Problem::new(self.code, self.detail).at(format!("{pointer}{}", self.field))
    }
}

/// Where a message of a request went: which of its parts, and which message of that part.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The part.
    pub part: u32,
    /// Its place in that part.
    pub place: u32,
}

/// A request's messages by partition.
#[derive(Debug, Default)]
pub struct RequestRecords {
    /// Partition numbers and their messages, in order of first use.
    pub parts: SmallVec<[(u32, RecordBuffer); 1]>,
    /// Where each message of the request went.
    pub placed: SmallVec<[Placed; 1]>,
    first_room: usize,
}

impl RequestRecords {
    /// For a request whose body has `bytes`: the first part has room for all of it.
    pub fn for_body(bytes: usize) -> Self {
        Self { first_room: bytes, ..Self::default() }
    }

    fn part_of(&mut self, partition: u32) -> usize {
        // Most requests have one part; those with more are batches over a few partitions.
        if let Some(at) = self.parts.iter().position(|(number, _)| *number == partition) {
            return at;
        }
        let room = std::mem::take(&mut self.first_room);
        self.parts.push((partition, RecordBuffer::with_capacity(room)));
        self.parts.len() - 1
    }

    /// Adds one message for `partition`.
    pub fn push<'h>(
        &mut self,
        partition: u32,
        attributes: Attributes,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'h str, &'h [u8])>,
    ) {
        let part = self.part_of(partition);
        let buffer = &mut self.parts[part].1;
        self.placed.push(Placed { part: part as u32, place: buffer.len() as u32 });
        buffer.push(attributes, key, value, headers);
    }
}

/// Checks a message against the limits of its topic and adds it to the part of its partition.
/// `keyless` is where it goes without a key.
pub fn place(
    message: &MessageIn<'_>,
    topic: &Topic,
    keyless: u32,
    records: &mut RequestRecords,
) -> Result<(), Refused> {
    let (key, binary_key) = key(message)?;
    if key.as_ref().is_some_and(|key| key.len() > limits::KEY_BYTES_MAX) {
        let detail = format!("a key has at most {} bytes", limits::KEY_BYTES_MAX);
        return Err(Refused::invalid("/key", detail));
    }
    let (kind, value) = value(message)?;
    let headers = headers(message)?;
    let header_bytes: usize = headers.iter().map(|(name, bytes)| name.len() + bytes.len()).sum();
    if header_bytes > limits::MESSAGE_HEADERS_BYTES_MAX {
        let detail = format!("headers have at most {} bytes", limits::MESSAGE_HEADERS_BYTES_MAX);
        return Err(Refused { code: ErrorCode::MessageTooLarge, field: "/headers", detail });
    }
    let bytes = key.as_ref().map_or(0, |key| key.len())
        + value.as_ref().map_or(0, |value| value.len())
        + header_bytes;
    check_size(bytes, topic)?;
    let partition = partition(message.partition, key.as_deref(), topic, keyless)?;
    let headers = headers.iter().map(|(name, bytes)| (*name, &**bytes));
    records.push(
        partition,
        Attributes::new(kind, binary_key),
        key.as_deref(),
        value.as_deref(),
        headers,
    );
    Ok(())
}

/// Refuses a message of `bytes` that is over its topic's limit.
pub fn check_size(bytes: usize, topic: &Topic) -> Result<(), Refused> {
    let most = topic.settings.max_message_bytes;
    if bytes <= most as usize {
        return Ok(());
    }
    let detail = format!("a message of this topic has at most {most} bytes, this one has {bytes}");
    Err(Refused { code: ErrorCode::MessageTooLarge, field: "", detail })
}

/// The partition that a message names, or its key, or else the one for messages without a key.
pub fn partition(
    named: Option<u32>,
    key: Option<&[u8]>,
    topic: &Topic,
    keyless: u32,
) -> Result<u32, Refused> {
    let count = topic.settings.partitions;
    match (named, key) {
        (Some(named), _) if named >= count => {
            let detail = format!("the topic has partitions 0 to {}, not {named}", count - 1);
            Err(Refused { code: ErrorCode::PartitionOutOfRange, field: "/partition", detail })
        }
        (Some(named), _) => Ok(named),
        (None, Some(key)) => Ok(partition_of_key(key, count)),
        (None, None) => Ok(keyless),
    }
}

fn key<'m>(message: &'m MessageIn<'_>) -> Result<(Option<Cow<'m, [u8]>>, bool), Refused> {
    match (&message.key, message.key_base64.as_ref()) {
        (Some(_), Some(_)) => Err(Refused::invalid("/key_base64", "a message has one key")),
        (Some(key), None) => Ok((Some(Cow::Borrowed(key.0.as_bytes())), false)),
        (None, Some(key)) => Ok((Some(Cow::Owned(decoded("/key_base64", key)?)), true)),
        (None, None) => Ok((None, false)),
    }
}

fn decoded(field: &'static str, text: &Text<'_>) -> Result<Vec<u8>, Refused> {
    BASE64.decode(text.0.as_bytes()).map_err(|_| Refused::invalid(field, "this is not base64"))
}

fn value<'m>(message: &'m MessageIn<'_>) -> Result<(ValueKind, Option<Cow<'m, [u8]>>), Refused> {
    let fields = (&message.value, &message.value_text, &message.value_base64);
    match fields {
        (Field::Present(json), Field::Absent, Field::Absent) => {
            let json = json.get();
            check_depth(json.as_bytes())?;
            Ok((ValueKind::Json, Some(Cow::Borrowed(json.as_bytes()))))
        }
        (Field::Absent, Field::Present(text), Field::Absent) => {
            Ok((ValueKind::Text, Some(Cow::Borrowed(text.0.as_bytes()))))
        }
        (Field::Absent, Field::Absent, Field::Present(text)) => {
            Ok((ValueKind::Bytes, Some(Cow::Owned(decoded("/value_base64", text)?))))
        }
        (Field::Absent, Field::Absent, Field::Absent) => Ok((ValueKind::Unknown, None)),
        _ => {
            let detail = "a message has at most one of value, value_text and value_base64";
            Err(Refused::invalid("", detail))
        }
    }
}

/// Refuses JSON that common parsers would not read back. `json` is valid JSON.
pub fn check_depth(json: &[u8]) -> Result<(), Refused> {
    // Each level has an opening and a closing byte.
    if json.len() <= 2 * limits::JSON_DEPTH_MAX {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > limits::JSON_DEPTH_MAX {
                    let detail =
                        format!("a value is nested at most {} deep", limits::JSON_DEPTH_MAX);
                    let code = ErrorCode::Malformed;
                    return Err(Refused { code, field: "/value", detail });
                }
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    Ok(())
}

type HeaderList<'m> = SmallVec<[(&'m str, Cow<'m, [u8]>); 2]>;

fn headers<'m>(message: &'m MessageIn<'_>) -> Result<HeaderList<'m>, Refused> {
    let mut list = HeaderList::new();
    for (name, header) in message.headers.iter().flat_map(|headers| &headers.0) {
        push_header(&mut list, &name.0, header, true)?;
    }
    Ok(list)
}

fn push_header<'m>(
    list: &mut HeaderList<'m>,
    name: &'m str,
    header: &'m HeaderIn<'_>,
    may_be_many: bool,
) -> Result<(), Refused> {
    match header {
        HeaderIn::Text(text) => list.push((name, Cow::Borrowed(text.0.as_bytes()))),
        HeaderIn::Base64(text) => list.push((name, Cow::Owned(decoded("/headers", text)?))),
        HeaderIn::Many(many) if may_be_many => {
            for header in many {
                push_header(list, name, header, false)?;
            }
        }
        HeaderIn::Many(_) => {
            return Err(Refused::invalid("/headers", "a header is no array of arrays"));
        }
    }
    Ok(())
}
