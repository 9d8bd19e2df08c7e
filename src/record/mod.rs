//! The record batch codec: Kafka's RecordBatch, magic 2 (KIP-98), as it lies in the log and as a
//! Kafka client would send it. Base offset and leader epoch lie outside the checksum, so they are
//! patched when served and never rewritten in place.
//!
//! Kafka leaves the attributes byte of a record unused. Its two low bits say here how the value
//! was written ([`ValueKind`]), the third that the key came as base64; a foreign batch has zeros,
//! which mean "unknown".

mod compress;
mod decode;
mod encode;
mod varint;

#[cfg(test)]
mod tests;

pub use decode::{Batch, Batches, Corrupt, Header, Headers, Record};
pub use encode::{BatchBuilder, RecordBuffer};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Which field a value was written with, so that it is read back by the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueKind {
    /// A foreign client wrote it.
    Unknown = 0,
    /// `value`: JSON, kept byte for byte.
    Json = 1,
    /// `value_text`: a string.
    Text = 2,
    /// `value_base64`: bytes.
    Bytes = 3,
}

/// A record's attributes byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(u8);

impl Attributes {
    const KIND: u8 = 0b011;
    const BINARY_KEY: u8 = 0b100;

    /// The attributes of a message written with `kind` and, if `binary_key`, `key_base64`.
    pub fn new(kind: ValueKind, binary_key: bool) -> Self {
        Self(kind as u8 | if binary_key { Self::BINARY_KEY } else { 0 })
    }

    /// The attributes of a stored byte.
    pub fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte to store.
    pub fn byte(self) -> u8 {
        self.0
    }

    /// How the value was written.
    pub fn kind(self) -> ValueKind {
        match self.0 & Self::KIND {
            1 => ValueKind::Json,
            2 => ValueKind::Text,
            3 => ValueKind::Bytes,
            _ => ValueKind::Unknown,
        }
    }

    /// Whether the key was written as `key_base64`.
    pub fn binary_key(self) -> bool {
        self.0 & Self::BINARY_KEY != 0
    }
}
