//! Reading request bodies: bounded in bytes (after decoding), in time, and in what all bodies of
//! the node hold together.

use std::{io::Write, sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    api::error::{ErrorCode, Problem},
    model::limits,
};

/// Bodies that declare no more than this are not counted against the node's budget: what the
/// connections' own buffers hold is of the same size.
const UNCOUNTED_BYTES_MAX: usize = 64 * 1024;
/// How long a body waits for its share of the budget.
const BUDGET_WAIT_MAX: Duration = Duration::from_secs(1);

/// The bounds of reading bodies, and the bytes that all bodies of a node share. Clones share one
/// budget.
#[derive(Clone, Debug)]
pub struct Bodies {
    budget: Arc<Semaphore>,
    budget_bytes: usize,
    bytes_max: usize,
    timeout: Duration,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new(limits::BODIES_BYTES_MAX, limits::BODY_BYTES_MAX, limits::BODY_TIMEOUT)
    }
}

impl Bodies {
    /// A budget of `budget_bytes` for all bodies together, `bytes_max` for one body after
    /// decoding, and `timeout` from its first to its last byte.
    pub fn new(budget_bytes: usize, bytes_max: usize, timeout: Duration) -> Self {
        let budget = Arc::new(Semaphore::new(budget_bytes));
        Self { budget, budget_bytes, bytes_max, timeout }
    }

    /// Takes a share of `bytes`, at most the whole budget.
    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes.min(self.budget_bytes)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget).acquire_many_owned(bytes);
        match tokio::time::timeout(BUDGET_WAIT_MAX, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Problem::new(
                ErrorCode::Overloaded,
                "this node is reading as many bytes of request bodies as it takes on",
            )),
        }
    }

    fn too_large(&self) -> Problem {
        Problem::new(
            ErrorCode::BodyTooLarge,
            format!("a body has at most {} bytes after decoding", self.bytes_max),
        )
        .fact("body_bytes_max", self.bytes_max)
    }

    /// Reads `body` whole, decoded as its `Content-Encoding` says.
    ///
    /// # Errors
    /// `body_too_large`, `body_timeout`, `overloaded`, `malformed` (the body broke off or is not
    /// in its encoding) and `unsupported_media_type` (an encoding that is not read).
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<ReadBody, Problem> {
        let media = MediaKind::of(headers)?;
        let encoding = Encoding::of(headers)?;
        let declared = body.size_hint().exact();
        let declared = declared.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if declared.is_some_and(|bytes| bytes > self.bytes_max) {
            return Err(self.too_large());
        }
        let received = tokio::time::timeout(self.timeout, self.receive(body, declared)).await;
        let (raw, share) = received.map_err(|_| {
            Problem::new(
                ErrorCode::BodyTimeout,
                format!("the body did not arrive within {} s", self.timeout.as_secs_f32()),
            )
        })??;
        let (bytes, share) = match encoding {
            Encoding::Identity => (raw, share),
            Encoding::Gzip | Encoding::Zstd => self.decode(encoding, raw, share).await?,
        };
        Ok(ReadBody { bytes, media, _share: share })
    }

    /// The body as it was sent. One that comes in one frame is handed on without being copied;
    /// one that does not declare its length takes its share when it turns out not to be small.
    async fn receive(
        &self,
        mut body: Body,
        declared: Option<usize>,
    ) -> Result<(Bytes, Share), Problem> {
        let mut share = match declared {
            Some(bytes) if bytes > UNCOUNTED_BYTES_MAX => Some(self.reserve(bytes).await?),
            _ => None,
        };
        let Some(first) = next_data(&mut body).await? else { return Ok((Bytes::new(), share)) };
        if declared == Some(first.len()) || body.is_end_stream() {
            return if first.len() > self.bytes_max {
                Err(self.too_large())
            } else {
                Ok((first, share))
            };
        }
        let mut whole = BytesMut::with_capacity(declared.unwrap_or(first.len()));
        let mut next = Some(first);
        while let Some(data) = next {
            let length = whole.len() + data.len();
            if length > self.bytes_max {
                return Err(self.too_large());
            }
            if length > UNCOUNTED_BYTES_MAX && share.is_none() {
                share = Some(self.reserve(self.bytes_max).await?);
            }
            whole.extend_from_slice(&data);
            next = next_data(&mut body).await?;
        }
        Ok((whole.freeze(), share))
    }

    /// What stays small is decoded at once; the rest first takes the share of the largest body,
    /// then is decoded off the threads that serve connections.
    async fn decode(
        &self,
        encoding: Encoding,
        raw: Bytes,
        share: Share,
    ) -> Result<(Bytes, Share), Problem> {
        let small = self.bytes_max.min(UNCOUNTED_BYTES_MAX);
        let decoded = match encoding.decode(&raw, small) {
            Err(DecodeError::TooLarge) if small < self.bytes_max => {
                drop(share);
                let share = self.reserve(self.bytes_max).await?;
                let bytes_max = self.bytes_max;
                let decoding = move || encoding.decode(&raw, bytes_max);
                let decoded = tokio::task::spawn_blocking(decoding).await;
                decoded
                    .map_err(|_| Problem::new(ErrorCode::Internal, "decoding failed"))?
                    .map(|bytes| (bytes, Some(share)))
            }
            decoded => decoded.map(|bytes| (bytes, share)),
        };
        decoded.map_err(|error| match error {
            DecodeError::TooLarge => self.too_large(),
            DecodeError::Broken(why) => Problem::new(
                ErrorCode::Malformed,
                format!("the body is not valid {}: {why}", encoding.as_str()),
            ),
        })
    }
}

/// A body's part of the budget, given back when it is dropped.
type Share = Option<OwnedSemaphorePermit>;

/// The next bytes of `body`; trailers are passed over.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Problem::new(ErrorCode::Malformed, "the body ended before all of it had arrived")
        })?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// What a body says it is, as far as routes tell bodies apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// No `Content-Type`.
    Absent,
    /// `application/json`, or any type that ends in `+json`.
    Json,
    /// `application/x-www-form-urlencoded`, which is what `curl -d` says about JSON.
    Form,
    /// `application/x-ndjson`, `application/ndjson` or `application/jsonl`.
    Ndjson,
    /// Any other type.
    Other,
}

impl MediaKind {
    /// What the `Content-Type` of `headers` says; parameters such as a charset are passed over.
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::Absent) };
        let Ok(text) = value.to_str() else {
            return Err(Problem::new(
                ErrorCode::UnsupportedMediaType,
                "the Content-Type is not readable",
            ));
        };
        let kind = text.split(';').next().unwrap_or_default().trim();
        Ok(if kind.eq_ignore_ascii_case("application/json") || ends_in_json(kind) {
            Self::Json
        } else if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Self::Form
        } else if ["application/x-ndjson", "application/ndjson", "application/jsonl"]
            .iter()
            .any(|ndjson| kind.eq_ignore_ascii_case(ndjson))
        {
            Self::Ndjson
        } else if kind.is_empty() {
            Self::Absent
        } else {
            Self::Other
        })
    }
}

fn ends_in_json(kind: &str) -> bool {
    let Some(start) = kind.len().checked_sub(5) else { return false };
    kind.get(start..).is_some_and(|end| end.eq_ignore_ascii_case("+json"))
}

/// A request body, whole and decoded.
#[derive(Debug)]
pub struct ReadBody {
    /// Its bytes, after decoding.
    pub bytes: Bytes,
    /// What it says it is.
    pub media: MediaKind,
    _share: Share,
}

impl AsRef<Self> for Bodies {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl<S: AsRef<Bodies> + Send + Sync> FromRequest<S> for ReadBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        state.as_ref().read(&parts.headers, body).await
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

enum DecodeError {
    TooLarge,
    Broken(std::io::Error),
}

impl Encoding {
    fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(Self::Identity) };
        let text = value.to_str().unwrap_or("?").trim();
        let known = [Self::Identity, Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|encoding| text.eq_ignore_ascii_case(encoding.as_str()));
        match known {
            Some(encoding) if values.next().is_none() => Ok(encoding),
            _ => Err(Problem::new(
                ErrorCode::UnsupportedMediaType,
                "a body's Content-Encoding is gzip, zstd or identity, and only one of them",
            )),
        }
    }

    /// Never holds more than `bytes_max` decoded bytes, whatever `raw` would become.
    fn decode(self, raw: &[u8], bytes_max: usize) -> Result<Bytes, DecodeError> {
        let mut out = Bounded { bytes: BytesMut::new(), bytes_max, burst: false };
        let copied = match self {
            Self::Identity => out.write_all(raw),
            Self::Gzip => {
                let mut reader = flate2::bufread::MultiGzDecoder::new(raw);
                std::io::copy(&mut reader, &mut out).map(drop)
            }
            Self::Zstd => zstd::stream::copy_decode(raw.reader(), &mut out),
        };
        match copied {
            Ok(()) => Ok(out.bytes.freeze()),
            Err(_) if out.burst => Err(DecodeError::TooLarge),
            Err(why) => Err(DecodeError::Broken(why)),
        }
    }
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
