//! What surrounds every request, as one hand-written shell instead of a stack of layers: the
//! request's id, problems as bodies, panics as problems, metrics, and the access log. At 100,000
//! requests a second each boxed layer is felt, so the shell boxes nothing.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{FromRequestParts, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use tower::Service;

use super::error::{ErrorCode, PendingProblem, Problem};
use crate::{
    model::limits,
    telemetry::{
        metrics::{API, Api},
        panics,
    },
};

/// The header that carries a request's id, in and out.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// Characters of a request id that a client chose.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// What a request is called in answers and logs: the client's own id where that is 1 to 128
/// visible ASCII characters, else one made here.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    fn given(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let fits = (1..=REQUEST_ID_CHARS_MAX).contains(&bytes.len());
        (fits && bytes.iter().all(u8::is_ascii_graphic)).then(|| Self(value.clone()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let known = parts.extensions.get::<Self>().cloned();
        Ok(known.unwrap_or(Self(HeaderValue::from_static("none"))))
    }
}

/// Makes ids that are unique per node and cheap: a random prefix and a counter.
#[derive(Debug)]
struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        Self { prefix: rand::random(), next: AtomicU64::new(0) }
    }

    fn make(&self) -> RequestId {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 33];
        let halves = [(0, self.prefix), (17, self.next.fetch_add(1, Ordering::Relaxed))];
        for (start, number) in halves {
            for (place, byte) in text[start..start + 16].iter_mut().enumerate() {
                *byte = HEX[(number >> (60 - 4 * place) & 15) as usize];
            }
        }
        RequestId(HeaderValue::from_bytes(&text).expect("hexadecimal digits and a dash"))
    }
}

/// The shell around a router.
pub struct Shell {
    router: Router,
    ids: RequestIds,
    metrics: &'static Api,
}

impl Shell {
    /// Surrounds `router`.
    pub fn new(router: Router) -> Self {
        Self { router, ids: RequestIds::new(), metrics: &API }
    }

    /// An id for what is answered before it is a request.
    pub(super) fn make_id(&self) -> RequestId {
        self.ids.make()
    }

    /// Answers `request`; always with an answer that carries the request's id.
    pub async fn handle(&self, mut request: Request) -> Response {
        let begun = Instant::now();
        let given = request.headers().get(&X_REQUEST_ID).and_then(RequestId::given);
        let id = given.unwrap_or_else(|| self.ids.make());
        let log = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| (request.method().clone(), request.uri().path().to_owned()));
        let mut response = if uri_bytes(&request) > limits::URI_BYTES_MAX {
            let detail = format!("a request target has at most {} bytes", limits::URI_BYTES_MAX);
            Problem::new(ErrorCode::UriTooLong, detail).respond(id.as_str())
        } else {
            request.extensions_mut().insert(id.clone());
            self.routed(request, &id).await
        };
        response.headers_mut().insert(X_REQUEST_ID, id.0.clone());
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        let took = begun.elapsed();
        self.metrics.answered(response.status().as_u16()).increment(1);
        self.metrics.request_seconds.record(took);
        if let Some((method, path)) = log {
            access(&method, &path, response.status(), &id, took);
        }
        response
    }

    async fn routed(&self, request: Request, id: &RequestId) -> Response {
        let is_asking_options = request.method() == Method::OPTIONS;
        let mut answering = pin!(self.router.clone().call(request));
        let answered = poll_fn(|cx| match panics::catch(|| answering.as_mut().poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await;
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Err(panic) => return self.panicked(id, &panic),
        };
        if response.status().as_u16() < 400 {
            return response;
        }
        if let Some(PendingProblem(problem)) = response.extensions_mut().remove() {
            return problem.respond(id.as_str());
        }
        bare(response, id, is_asking_options)
    }

    fn panicked(&self, id: &RequestId, panic: &str) -> Response {
        self.metrics.panics.increment(1);
        tracing::error!(request_id = id.as_str(), panic, "a handler panicked");
        Problem::new(ErrorCode::Internal, "the request failed inside this node")
            .respond(id.as_str())
    }
}

fn uri_bytes(request: &Request) -> usize {
    request.uri().path_and_query().map_or(0, |target| target.as_str().len())
}

fn access(method: &Method, path: &str, status: StatusCode, id: &RequestId, took: Duration) {
    tracing::debug!(
        method = method.as_str(),
        path,
        status = status.as_u16(),
        request_id = id.as_str(),
        ?took,
        "request"
    );
}

/// What the router itself refuses comes without a body.
fn bare(response: Response, id: &RequestId, is_asking_options: bool) -> Response {
    match response.status() {
        StatusCode::NOT_FOUND => {
            Problem::new(ErrorCode::NotFound, "nothing is at this path").respond(id.as_str())
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            let allow = response.headers().get(header::ALLOW).cloned();
            let mut answer = if is_asking_options {
                StatusCode::NO_CONTENT.into_response()
            } else {
                let told = allow.as_ref().and_then(|allow| allow.to_str().ok());
                let detail = format!("this path knows {}", told.unwrap_or_default());
                Problem::new(ErrorCode::MethodNotAllowed, detail).respond(id.as_str())
            };
            if let Some(allow) = allow {
                answer.headers_mut().insert(header::ALLOW, allow);
            }
            answer
        }
        _ => response,
    }
}
