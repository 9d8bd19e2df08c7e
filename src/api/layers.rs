//! What surrounds every request, as one hand-written shell instead of a stack of layers: the
//! request's id, problems as bodies, panics as problems, metrics, and the access log. At 100,000
//! requests a second each boxed layer is felt, so the shell boxes nothing.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{FromRequestParts, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::future::RouteFuture,
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

/// One request in so many is timed: reading the clock twice is felt at 100,000 a second.
const TIMED_EACH: u64 = 8;

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

/// Hexadecimal digits of each half of an id made here.
const ID_DIGITS: usize = 12;

/// Makes ids that are unique per node and cheap: a random half and a counter.
#[derive(Debug)]
struct RequestIds {
    template: [u8; 2 * ID_DIGITS + 1],
    next: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let mut template = [b'-'; 2 * ID_DIGITS + 1];
        write_hex(&mut template[..ID_DIGITS], rand::random());
        Self { template, next: AtomicU64::new(0) }
    }

    /// The number of the next request.
    fn count(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn make(&self, number: u64) -> RequestId {
        let mut text = self.template;
        write_hex(&mut text[ID_DIGITS + 1..], number);
        RequestId(HeaderValue::from_bytes(&text).expect("hexadecimal digits and a dash"))
    }
}

fn write_hex(text: &mut [u8], mut number: u64) {
    for place in text.iter_mut().rev() {
        *place = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
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
        self.ids.make(self.ids.count())
    }

    /// Begins to answer `request`; the answer always carries the request's id.
    #[inline]
    pub(super) fn answer(&self, mut request: Request) -> Answering {
        let number = self.ids.count();
        let given = request.headers().get(&X_REQUEST_ID).and_then(RequestId::given);
        let id = given.unwrap_or_else(|| self.ids.make(number));
        let log = tracing::enabled!(tracing::Level::DEBUG).then(|| Box::new(Access::of(&request)));
        let is_timed = log.is_some() || number.is_multiple_of(TIMED_EACH);
        let begun = is_timed.then(Instant::now);
        let is_asking_options = request.method() == Method::OPTIONS;
        if uri_bytes(&request) > limits::URI_BYTES_MAX {
            let metrics = self.metrics;
            return Answering { route: None, id, metrics, begun, log, is_asking_options };
        }
        request.extensions_mut().insert(id.clone());
        Answering {
            route: Some(self.router.clone().call(request)),
            id,
            metrics: self.metrics,
            begun,
            log,
            is_asking_options,
        }
    }
}

/// A request that is being answered. Not an `async fn`: those copy requests and answers from
/// one state to the next.
pub(super) struct Answering {
    /// `None` where the target is too long.
    route: Option<RouteFuture<Infallible>>,
    id: RequestId,
    metrics: &'static Api,
    begun: Option<Instant>,
    log: Option<Box<Access>>,
    is_asking_options: bool,
}

impl Future for Answering {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let this = &mut *self;
        let answered = match &mut this.route {
            Some(route) => match panics::catch(|| Pin::new(route).poll(cx)) {
                Ok(polled) => ready!(polled),
                Err(panic) => Ok(this.panicked(&panic)),
            },
            None => Ok(this.too_long()),
        };
        let Ok(mut response) = answered;
        if response.status().as_u16() >= 400 {
            response = this.refused(response);
        }
        response.headers_mut().insert(X_REQUEST_ID, this.id.0.clone());
        this.note(response.status());
        Poll::Ready(response)
    }
}

impl Answering {
    fn note(&self, status: StatusCode) {
        self.metrics.answered(status.as_u16()).increment(1);
        let Some(begun) = self.begun else { return };
        let took = begun.elapsed();
        self.metrics.request_seconds.record(took);
        if let Some(access) = &self.log {
            access.write(status, &self.id, took);
        }
    }

    fn refused(&self, mut response: Response) -> Response {
        match response.extensions_mut().remove() {
            Some(PendingProblem(problem)) => problem.respond(self.id.as_str()),
            None => bare(response, &self.id, self.is_asking_options),
        }
    }

    fn panicked(&self, panic: &str) -> Response {
        self.metrics.panics.increment(1);
        tracing::error!(request_id = self.id.as_str(), panic, "a handler panicked");
        Problem::new(ErrorCode::Internal, "the request failed inside this node").into_response()
    }

    fn too_long(&self) -> Response {
        let detail = format!("a request target has at most {} bytes", limits::URI_BYTES_MAX);
        Problem::new(ErrorCode::UriTooLong, detail).into_response()
    }
}

fn uri_bytes(request: &Request) -> usize {
    request.uri().path_and_query().map_or(0, |target| target.as_str().len())
}

/// A line of the access log. Queries are left out: they can hold what is nobody's business.
struct Access {
    method: Method,
    path: String,
}

impl Access {
    fn of(request: &Request) -> Self {
        Self { method: request.method().clone(), path: request.uri().path().to_owned() }
    }

    fn write(&self, status: StatusCode, id: &RequestId, took: Duration) {
        let (method, path) = (self.method.as_str(), self.path.as_str());
        let (status, request_id) = (status.as_u16(), id.as_str());
        tracing::debug!(method, path, status, request_id, ?took, "request");
    }
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
