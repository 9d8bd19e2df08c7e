//! Reading request bodies: bounded in bytes (after decoding), in time, and in what all bodies of
//! the node hold together.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderValue, Version, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::encoding::{DecodeError, Encoding};
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

    /// Reads the body of `request` whole, decoded as its `Content-Encoding` says.
    ///
    /// # Errors
    /// `body_too_large`, `body_timeout`, `overloaded`, `malformed` (the body broke off or is not
    /// in its encoding) and `unsupported_media_type` (an encoding that is not read).
    pub async fn read(&self, request: Request) -> Result<ReadBody, Problem> {
        let (media, encoding) = kinds(request.headers())?;
        let is_plain = encoding == Encoding::Identity && request.version() < Version::HTTP_2;
        let mut body = request.into_body();
        let declared = body.size_hint().exact();
        let declared = declared.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if declared.is_some_and(|bytes| bytes > self.bytes_max) {
            return Err(self.too_large());
        }
        let mut first = None;
        if is_plain && declared.is_some_and(|bytes| bytes <= UNCOUNTED_BYTES_MAX) {
            first = Prompt { body: &mut body, is_polled: false }.await?;
            if first.as_ref().map(Bytes::len) == declared {
                return Ok(ReadBody { bytes: first.unwrap_or_default(), media, _share: None });
            }
        }
        // Boxed, so that the futures of all handlers stay small.
        let (bytes, share) =
            Box::pin(self.read_slowly(Incoming { body, declared, encoding, first })).await?;
        Ok(ReadBody { bytes, media, _share: share })
    }

    async fn read_slowly(&self, incoming: Incoming) -> Result<(Bytes, Share), Problem> {
        let encoding = incoming.encoding;
        let received = tokio::time::timeout(self.timeout, self.receive(incoming)).await;
        let (raw, share) = received.map_err(|_| {
            Problem::new(
                ErrorCode::BodyTimeout,
                format!("the body did not arrive within {} s", self.timeout.as_secs_f32()),
            )
        })??;
        match encoding {
            Encoding::Identity => Ok((raw, share)),
            Encoding::Gzip | Encoding::Zstd => self.decode(encoding, raw, share).await,
        }
    }

    /// The body as it was sent. One that comes in one frame is handed on without being copied;
    /// one that does not declare its length takes its share when it turns out not to be small.
    async fn receive(&self, incoming: Incoming) -> Result<(Bytes, Share), Problem> {
        let Incoming { mut body, declared, first, .. } = incoming;
        let mut share = match declared {
            Some(bytes) if bytes > UNCOUNTED_BYTES_MAX => Some(self.reserve(bytes).await?),
            _ => None,
        };
        let mut next = match first {
            Some(first) => Some(first),
            None => next_data(&mut body).await?,
        };
        if let Some(whole) = &next
            && body.is_end_stream()
            && whole.len() <= UNCOUNTED_BYTES_MAX.min(self.bytes_max)
        {
            return Ok((next.unwrap_or_default(), share));
        }
        let mut whole = BytesMut::with_capacity(declared.unwrap_or(0));
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

/// A body on its way in.
struct Incoming {
    body: Body,
    /// Bytes before decoding, where the request says so.
    declared: Option<usize>,
    encoding: Encoding,
    /// What has come already.
    first: Option<Bytes>,
}

/// The first bytes of a body when they came with the head, as those of small requests do: no
/// timer is made for them. `None` when they are late. A body that does not come at all is
/// noticed because the accept loop polls a request again that has lasted a tick.
struct Prompt<'a> {
    body: &'a mut Body,
    is_polled: bool,
}

impl Future for Prompt<'_> {
    type Output = Result<Option<Bytes>, Problem>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut *self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(frame.into_data().ok())),
            Poll::Ready(Some(Err(_))) => Poll::Ready(Err(broken_off())),
            Poll::Ready(None) => Poll::Ready(Ok(Some(Bytes::new()))),
            Poll::Pending if self.is_polled => Poll::Ready(Ok(None)),
            Poll::Pending => {
                self.is_polled = true;
                Poll::Pending
            }
        }
    }
}

fn broken_off() -> Problem {
    Problem::new(ErrorCode::Malformed, "the body ended before all of it had arrived")
}

/// The next bytes of `body`; trailers are passed over.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| broken_off())?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// What the head says about the body. One pass, since there are few fields and two questions.
fn kinds(headers: &HeaderMap) -> Result<(MediaKind, Encoding), Problem> {
    let (mut media, mut encoding) = (MediaKind::Absent, Encoding::Identity);
    for (name, value) in headers {
        if *name == header::CONTENT_TYPE {
            media = MediaKind::of(value)?;
        } else if *name == header::CONTENT_ENCODING {
            if encoding != Encoding::Identity {
                return Err(Encoding::unsupported());
            }
            encoding = Encoding::of(value)?;
        }
    }
    Ok((media, encoding))
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
    /// What a `Content-Type` says; parameters such as a charset are passed over.
    fn of(value: &HeaderValue) -> Result<Self, Problem> {
        if value == "application/json" {
            return Ok(Self::Json);
        }
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
        state.as_ref().read(request).await
    }
}
