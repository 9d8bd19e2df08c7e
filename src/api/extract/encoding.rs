//! Content encodings of request bodies.

use std::io::Write;

use axum::http::HeaderValue;
use bytes::{Bytes, BytesMut};

use crate::api::error::{ErrorCode, Problem};

/// The window that a zstd frame may ask for, which the decoder allocates whole: 8 MiB, as RFC 9659
/// says for HTTP. The library's own limit would let twenty bytes ask for 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body is encoded; a body has at most one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// Why a body cannot be decoded.
pub(super) enum DecodeError {
    TooLarge,
    Broken(std::io::Error),
}

impl Encoding {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn of(value: &HeaderValue) -> Result<Self, Problem> {
        let text = value.to_str().unwrap_or("?").trim();
        [Self::Identity, Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|encoding| text.eq_ignore_ascii_case(encoding.as_str()))
            .ok_or_else(Self::unsupported)
    }

    pub(super) fn unsupported() -> Problem {
        Problem::new(
            ErrorCode::UnsupportedMediaType,
            "a body's Content-Encoding is gzip, zstd or identity, and only one of them",
        )
    }

    /// Never holds more than `bytes_max` decoded bytes, whatever `raw` would become.
    pub(super) fn decode(self, raw: &[u8], bytes_max: usize) -> Result<Bytes, DecodeError> {
        let mut out = Bounded { bytes: BytesMut::new(), bytes_max, burst: false };
        let copied = match self {
            Self::Identity => out.write_all(raw),
            Self::Gzip => {
                let mut reader = flate2::bufread::MultiGzDecoder::new(raw);
                std::io::copy(&mut reader, &mut out).map(drop)
            }
            Self::Zstd => unzstd(raw, &mut out),
        };
        match copied {
            Ok(()) => Ok(out.bytes.freeze()),
            Err(_) if out.burst => Err(DecodeError::TooLarge),
            Err(why) => Err(DecodeError::Broken(why)),
        }
    }
}

fn unzstd(raw: &[u8], out: &mut Bounded) -> std::io::Result<()> {
    let mut reader = zstd::stream::read::Decoder::with_buffer(raw)?;
    reader.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    std::io::copy(&mut reader, out).map(drop)
}

struct Bounded {
    bytes: BytesMut,
    bytes_max: usize,
    burst: bool,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + data.len() > self.bytes_max {
            self.burst = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
