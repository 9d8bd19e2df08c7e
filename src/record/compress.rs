//! Compression inside a batch, as Kafka numbers it: 3 is LZ4 in frames, 4 Zstandard.

use std::{
    borrow::Cow,
    io::{Read, Write},
};

use super::Corrupt;
use crate::model::{limits, topic::Compression};

/// The bits of a batch's attributes that name its compression.
pub(super) const MASK: i16 = 0b111;

const ZSTD_LEVEL: i32 = 1;

/// What one stored batch may unpack to. A flush merges whole requests, so this is well above
/// anything that an append makes; it bounds what a hostile batch can ask for.
const UNPACKED_BYTES_MAX: u64 = 4 * (limits::BODY_BYTES_MAX + limits::FLUSH_BYTES_MAX) as u64;

/// Kafka's number of a compression.
pub(super) fn number(compression: Compression) -> i16 {
    match compression {
        Compression::None => 0,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    }
}

/// Packs records. Nothing here can fail: it writes to memory.
pub(super) fn pack(compression: Compression, records: &[u8], out: &mut Vec<u8>) {
    match compression {
        Compression::None => out.extend_from_slice(records),
        Compression::Lz4 => {
            let mut frame = lz4_flex::frame::FrameEncoder::new(out);
            frame.write_all(records).expect("a Vec takes every byte");
            frame.finish().expect("a Vec takes every byte");
        }
        Compression::Zstd => {
            zstd::stream::copy_encode(records, out, ZSTD_LEVEL).expect("a Vec takes every byte");
        }
    }
}

/// Unpacks what a batch of `attributes` holds.
pub(super) fn unpack(attributes: i16, packed: &[u8]) -> Result<Cow<'_, [u8]>, Corrupt> {
    let mut records = Vec::new();
    let unpacked = match attributes & MASK {
        0 => return Ok(Cow::Borrowed(packed)),
        3 => lz4_flex::frame::FrameDecoder::new(packed)
            .take(UNPACKED_BYTES_MAX)
            .read_to_end(&mut records),
        4 => zstd::stream::read::Decoder::new(packed)
            .and_then(|decoder| decoder.take(UNPACKED_BYTES_MAX).read_to_end(&mut records)),
        other => return Err(Corrupt::Compression(other)),
    };
    match unpacked {
        Ok(bytes) if (bytes as u64) < UNPACKED_BYTES_MAX => Ok(Cow::Owned(records)),
        Ok(_) => Err(Corrupt::TooLarge),
        Err(_) => Err(Corrupt::Truncated),
    }
}
