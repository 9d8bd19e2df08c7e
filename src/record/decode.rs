//! Reading batches. Everything that does not add up is an error and never a shorter answer: a
//! damaged log fails closed.

use std::borrow::Cow;

use super::{Attributes, HEADER_BYTES, compress, varint};

/// Why stored bytes are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// They end too early or lengths do not fit.
    #[error("a record batch is cut short")]
    Truncated,
    /// Only magic 2 is known.
    #[error("a record batch has magic {0}, only 2 is known")]
    Magic(u8),
    /// The checksum does not match.
    #[error("the checksum of a record batch does not match")]
    Checksum,
    /// A compression that is not built in.
    #[error("a record batch has compression {0}, which is not known")]
    Compression(i16),
    /// It unpacks to more than a batch may hold.
    #[error("a record batch unpacks to more than it may")]
    TooLarge,
    /// A count or an offset that does not fit the rest.
    #[error("the records of a batch do not add up")]
    Count,
}

/// The fixed part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The first offset as written; the log's own base offset counts.
    pub base_offset: i64,
    /// Compression, timestamp type, transaction bits.
    pub attributes: i16,
    /// The place of the last record, counted from the base.
    pub last_offset_delta: i32,
    /// When the batch was made, by its maker's clock, in ms.
    pub created_ms: i64,
    /// How many records there are.
    pub count: i32,
}

/// One batch, checked and unpacked.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The fixed part.
    pub header: Header,
    records: Cow<'a, [u8]>,
}

/// The batches of one stored row, one behind the other.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// Reads the batches in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match Batch::split(self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(corrupt) => {
                self.rest = &[];
                Some(Err(corrupt))
            }
        }
    }
}

fn be<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the caller checked the header's length")
}

impl<'a> Batch<'a> {
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Corrupt> {
        if bytes.len() < HEADER_BYTES {
            return Err(Corrupt::Truncated);
        }
        if bytes[16] != 2 {
            return Err(Corrupt::Magic(bytes[16]));
        }
        let length = i32::from_be_bytes(be(bytes, 8));
        let end = usize::try_from(length).map_err(|_| Corrupt::Truncated)? + 12;
        if end < HEADER_BYTES || end > bytes.len() {
            return Err(Corrupt::Truncated);
        }
        let (whole, rest) = bytes.split_at(end);
        if crc32c::crc32c(&whole[21..]) != u32::from_be_bytes(be(whole, 17)) {
            return Err(Corrupt::Checksum);
        }
        let header = Header {
            base_offset: i64::from_be_bytes(be(whole, 0)),
            attributes: i16::from_be_bytes(be(whole, 21)),
            last_offset_delta: i32::from_be_bytes(be(whole, 23)),
            created_ms: i64::from_be_bytes(be(whole, 27)),
            count: i32::from_be_bytes(be(whole, 57)),
        };
        if header.count < 0 || header.last_offset_delta < header.count - 1 {
            return Err(Corrupt::Count);
        }
        let records = compress::unpack(header.attributes, &whole[HEADER_BYTES..])?;
        Ok((Self { header, records }, rest))
    }

    /// The records in order.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, Corrupt>> {
        let mut rest: &[u8] = &self.records;
        let mut left = self.header.count;
        std::iter::from_fn(move || {
            if left == 0 {
                return (!std::mem::take(&mut rest).is_empty()).then_some(Err(Corrupt::Count));
            }
            left -= 1;
            let record = Record::take(&mut rest);
            if record.is_err() {
                left = 0;
                rest = &[];
            }
            Some(record)
        })
    }
}

/// One message as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// How key and value were written.
    pub attributes: Attributes,
    /// Its place in the batch.
    pub offset_delta: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl<'a> Record<'a> {
    fn take(input: &mut &'a [u8]) -> Result<Self, Corrupt> {
        let mut body = varint::take_bytes(input)?.ok_or(Corrupt::Truncated)?;
        let (&attributes, rest) = body.split_first().ok_or(Corrupt::Truncated)?;
        body = rest;
        varint::take(&mut body)?;
        let offset_delta = varint::take(&mut body)?;
        let key = varint::take_bytes(&mut body)?;
        let value = varint::take_bytes(&mut body)?;
        Ok(Self {
            attributes: Attributes::from_byte(attributes),
            offset_delta,
            key,
            value,
            headers: body,
        })
    }

    /// The headers in the order they were written; a name may come more than once.
    pub fn headers(&self) -> Result<Headers<'a>, Corrupt> {
        let mut rest = self.headers;
        let left = usize::try_from(varint::take(&mut rest)?).map_err(|_| Corrupt::Count)?;
        Ok(Headers { rest, left })
    }
}

/// The headers of one record.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: usize,
}

impl Headers<'_> {
    /// Whether there are none left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<(&'a str, &'a [u8]), Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let header = take_header(&mut self.rest);
        if header.is_err() {
            self.left = 0;
        }
        Some(header)
    }
}

fn take_header<'a>(input: &mut &'a [u8]) -> Result<(&'a str, &'a [u8]), Corrupt> {
    let name = varint::take_bytes(input)?.ok_or(Corrupt::Truncated)?;
    let name = std::str::from_utf8(name).map_err(|_| Corrupt::Count)?;
    // Kafka allows a header without a value; on the wire it is an empty one.
    Ok((name, varint::take_bytes(input)?.unwrap_or_default()))
}
