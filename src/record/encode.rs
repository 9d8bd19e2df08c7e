//! Writing batches. A request's handler writes what does not depend on the message's place (key,
//! value, headers) into a [`RecordBuffer`]; the flush, which knows the place, puts the few bytes
//! before it and copies. So the work of encoding is spread over handlers, and a flush costs a
//! copy and a checksum.

use smallvec::SmallVec;

use super::{Attributes, HEADER_BYTES, compress, varint};
use crate::model::topic::Compression;

/// Messages of one request for one partition, all but their places.
#[derive(Clone, Debug, Default)]
pub struct RecordBuffer {
    bytes: Vec<u8>,
    marks: SmallVec<[Mark; 1]>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    end: u32,
    attributes: Attributes,
}

impl RecordBuffer {
    /// An empty buffer with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), marks: SmallVec::new() }
    }

    /// Adds a message. No value is a tombstone.
    ///
    /// # Panics
    /// When the buffer outgrows 4 GiB, which limits on bodies keep far away.
    pub fn push<'h>(
        &mut self,
        attributes: Attributes,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'h str, &'h [u8])>,
    ) {
        put_bytes(&mut self.bytes, key);
        put_bytes(&mut self.bytes, value);
        varint::put(&mut self.bytes, headers.len() as i64);
        for (name, bytes) in headers {
            put_bytes(&mut self.bytes, Some(name.as_bytes()));
            put_bytes(&mut self.bytes, Some(bytes));
        }
        let end = u32::try_from(self.bytes.len()).expect("bodies are far smaller than 4 GiB");
        self.marks.push(Mark { end, attributes });
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// How many bytes they take, without what the batch adds.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// One batch in the making.
#[derive(Debug)]
pub struct BatchBuilder {
    out: Vec<u8>,
    count: i32,
    created_ms: i64,
}

impl BatchBuilder {
    /// A batch made at `created_ms`, with room for `bytes` of buffers and `messages`.
    pub fn new(created_ms: i64, bytes: usize, messages: usize) -> Self {
        let mut out = Vec::with_capacity(HEADER_BYTES + bytes + 8 * messages);
        out.resize(HEADER_BYTES, 0);
        Self { out, count: 0, created_ms }
    }

    /// Adds the messages of `buffer` behind those that are in.
    pub fn extend(&mut self, buffer: &RecordBuffer) {
        let mut start = 0;
        for mark in &buffer.marks {
            let end = mark.end as usize;
            let tail = &buffer.bytes[start..end];
            let delta = i64::from(self.count);
            // attributes, a timestamp delta of zero, the offset delta, the tail
            let length = 2 + varint::len(delta) + tail.len();
            varint::put(&mut self.out, length as i64);
            self.out.push(mark.attributes.byte());
            self.out.push(0);
            varint::put(&mut self.out, delta);
            self.out.extend_from_slice(tail);
            self.count += 1;
            start = end;
        }
    }

    /// How many messages are in.
    pub fn len(&self) -> i32 {
        self.count
    }

    /// Whether none are in.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The finished batch, with base offset 0.
    pub fn finish(self, compression: Compression) -> Vec<u8> {
        let mut out = self.out;
        if compression != Compression::None {
            let records = out.split_off(HEADER_BYTES);
            compress::pack(compression, &records, &mut out);
        }
        let length = i32::try_from(out.len() - 12).expect("a flush is far smaller than 2 GiB");
        out[8..12].copy_from_slice(&length.to_be_bytes());
        out[12..16].copy_from_slice(&(-1i32).to_be_bytes());
        out[16] = 2;
        out[21..23].copy_from_slice(&compress::number(compression).to_be_bytes());
        out[23..27].copy_from_slice(&(self.count - 1).to_be_bytes());
        out[27..35].copy_from_slice(&self.created_ms.to_be_bytes());
        out[35..43].copy_from_slice(&self.created_ms.to_be_bytes());
        // No producer: id, epoch and sequence of -1. The marks are the truth.
        out[43..57].fill(0xff);
        out[57..61].copy_from_slice(&self.count.to_be_bytes());
        let crc = crc32c::crc32c(&out[21..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        out
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
