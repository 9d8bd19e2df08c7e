//! A message on its way into the log: checked against the limits, and put to the others of its
//! partition.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use smallvec::SmallVec;

use super::write::{Field, HeaderIn, MessageIn, Text};
use crate::{
    api::{
        error::{ErrorCode, Problem},
        extract::too_deep_at,
    },
    catalog::Topic,
    model::limits,
    publish::{Terms, partition_of_key},
    record::{Attributes, RecordBuffer, ValueKind},
};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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
    /// What the request asks beyond that.
    pub terms: Terms,
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

/// Bytes of the request where they stand there as they are.
type BytesIn<'m> = Option<Cow<'m, [u8]>>;

fn key<'m>(message: &'m MessageIn<'_>) -> Result<(BytesIn<'m>, bool), Refused> {
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

fn value<'m>(message: &'m MessageIn<'_>) -> Result<(ValueKind, BytesIn<'m>), Refused> {
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
    if too_deep_at(json).is_none() {
        return Ok(());
    }
    let detail = format!("a value is nested at most {} deep", limits::JSON_DEPTH_MAX);
    Err(Refused { code: ErrorCode::Malformed, field: "/value", detail })
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
