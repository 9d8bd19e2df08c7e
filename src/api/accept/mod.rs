//! The accept loop. `axum::serve` has no timeouts, leaves Nagle on and takes any number of
//! connections; hyper's own head timeout also counts the rest between requests and never ends a
//! connection that sends nothing.

mod connection;
mod progress;
mod socket;
mod upgraded;

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody},
    http::{HeaderValue, Request, Response, StatusCode, Version, header},
};
use bytes::Bytes;
use hyper::{
    body::{Frame, Incoming, SizeHint},
    service::Service,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

pub use self::upgraded::{Raw, Unfinished, UnfinishedBytes};
use self::{
    connection::Driver,
    progress::{Progress, Serving, Watch},
    socket::{Socket, raw_answer},
};
use super::{
    error::{ErrorCode, Problem},
    layers::{Answering, Shell},
};
use crate::{lifecycle::Lifecycle, model::limits, telemetry::metrics};

/// Connections over the cap that are told so at the same time; more are closed at once.
const REFUSALS_MAX: usize = 64;
/// How long telling one may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses after an accept that failed for want of files or memory.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long connections have to close once they were told to at once.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The bounds of the accept loop.
#[derive(Clone, Debug)]
pub struct AcceptSettings {
    /// From connecting to the first byte, and from the first byte of a head to its last.
    pub head_timeout: Duration,
    /// How long a kept-alive connection may rest between requests.
    pub idle_timeout: Duration,
    /// How long a client may take none of the bytes that wait for it.
    pub write_timeout: Duration,
    /// How long new requests are still served after a stop has begun.
    pub leave_time: Duration,
    /// How long running requests are served after a stop has begun.
    pub drain_timeout: Duration,
    /// Connections at the same time. What comes on top is answered 503 `overloaded` and closed;
    /// in a rush of them some are closed without an answer.
    pub connections_max: usize,
}

impl Default for AcceptSettings {
    fn default() -> Self {
        Self {
            head_timeout: limits::HEAD_TIMEOUT,
            idle_timeout: limits::IDLE_TIMEOUT,
            write_timeout: limits::WRITE_TIMEOUT,
            leave_time: limits::LEAVE_TIME,
            drain_timeout: limits::DRAIN_TIMEOUT,
            connections_max: limits::CONNECTIONS_MAX,
        }
    }
}

/// Serves `router` on `listener` until `lifecycle` drains; then for a moment more, while every
/// answer ends its connection: a load balancer that had just sent a request into a connection that
/// is closed could not know whether it counts. Then running requests end within the drain's
/// timeout. Returns when no connection is left.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    lifecycle: Lifecycle,
    settings: AcceptSettings,
) {
    raise_file_limit();
    let door = Door {
        shell: Arc::new(Shell::new(router)),
        watch: Watch::new(&settings),
        driver: Arc::new(Driver::new(&lifecycle)),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        connections_max: settings.connections_max,
        number: AtomicU64::new(0),
        lifecycle,
    };
    tokio::select! {
        () = door.accept(&listener) => {}
        () = door.watch.run() => {}
        () = door.lifecycle.draining() => {}
    }
    door.watch.leave();
    tokio::select! {
        () = door.accept(&listener) => {}
        () = door.watch.run() => {}
        () = tokio::time::sleep(settings.leave_time) => {}
        () = door.watch.empty() => {}
        () = door.lifecycle.aborted() => {}
    }
    door.close(listener);
    // What has just connected gets the time to send its request.
    tokio::select! {
        () = door.watch.run() => {}
        () = tokio::time::sleep(settings.leave_time / 4) => {}
        () = door.watch.empty() => {}
        () = door.lifecycle.aborted() => {}
    }
    door.drain(settings.drain_timeout).await;
}

/// Ten thousand parked polls are ten thousand files; the soft limit is often 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    if now.current != now.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// What one listener shares.
struct Door {
    shell: Arc<Shell>,
    watch: Arc<Watch>,
    driver: Arc<Driver>,
    refusals: Arc<Semaphore>,
    connections_max: usize,
    /// The next connection's.
    number: AtomicU64,
    lifecycle: Lifecycle,
}

impl Door {
    async fn accept(&self, listener: &TcpListener) {
        let mut backoff = BACKOFF_MIN;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    backoff = BACKOFF_MIN;
                    let number = self.number.fetch_add(1, Ordering::Relaxed);
                    self.admit(number, stream, peer.ip());
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting connections failed");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Takes in what the system has accepted already: closed with the listener, it would be reset.
    fn close(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                let number = self.number.fetch_add(1, Ordering::Relaxed);
                self.admit(number, stream, peer.ip());
            }
        }
    }

    fn admit(&self, number: u64, stream: TcpStream, peer: IpAddr) {
        let Some(watched) = self.watch.admit(number, self.connections_max) else {
            metrics::API.connections_refused.increment(1);
            if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
                let answer = self.too_many();
                self.lifecycle.spawn(async move {
                    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refuse(stream, answer)).await;
                    drop(permit);
                });
            }
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let progress = Arc::clone(&watched.progress);
        let socket = Socket::new(stream, watched, Arc::clone(&self.shell));
        let (shell, watched) = (Arc::clone(&self.shell), Arc::clone(&progress));
        let service = Serve { shell, progress: watched, peer };
        self.lifecycle.spawn(Arc::clone(&self.driver).drive(socket, service, progress));
    }

    fn too_many(&self) -> Vec<u8> {
        let detail = format!("this node serves at most {} connections", self.connections_max);
        raw_answer(&Problem::new(ErrorCode::Overloaded, detail), self.shell.make_id().as_str())
    }

    async fn drain(&self, timeout: Duration) {
        self.watch.drain();
        tokio::select! {
            () = self.watch.empty() => return,
            () = self.watch.run() => {}
            () = tokio::time::sleep(timeout) => {}
            () = self.lifecycle.aborted() => {}
        }
        tracing::warn!(connections = self.watch.count(), "closing connections that still work");
        self.watch.end();
        let _ = tokio::time::timeout(END_TIMEOUT, self.watch.empty()).await;
    }
}

/// Whether the error belongs to a connection that is already gone, not to the listener.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Reads on after the answer, so that the client sees it before the reset.
async fn refuse(mut stream: TcpStream, answer: Vec<u8>) -> std::io::Result<()> {
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    let mut thrown_away = [0; 1024];
    while stream.read(&mut thrown_away).await? > 0 {}
    Ok(())
}

/// Answers the requests of one connection.
struct Serve {
    shell: Arc<Shell>,
    progress: Arc<Progress>,
    peer: IpAddr,
}

/// The address that a connection comes from; requests that ask for an upgrade carry it.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

impl Service<Request<Incoming>> for Serve {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let serving = self.progress.begin(request.version());
        let has_body = !request.body().is_end_stream() && request.version() < Version::HTTP_2;
        if serving.is_none() {
            return Answer { answering: None, serving, has_body };
        }
        let (mut parts, body) = request.into_parts();
        if parts.headers.contains_key(header::UPGRADE) {
            parts.extensions.insert(Peer(self.peer));
        }
        let answering = self.shell.answer(Request::from_parts(parts, Body::new(body)));
        Answer { answering: Some(answering), serving, has_body }
    }
}

struct Answer {
    /// `None` when the watch is closing the connection, which drops this future with it.
    answering: Option<Answering>,
    serving: Option<Serving>,
    /// The client may go on sending after it was answered.
    has_body: bool,
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answering) = &mut self.answering else { return Poll::Pending };
        let response = ready!(Pin::new(answering).poll(cx));
        let Some(serving) = self.serving.take() else { return Poll::Ready(Ok(response)) };
        Poll::Ready(Ok(finish(response, serving, self.has_body)))
    }
}

/// Decides how long the connection counts as being at work.
fn finish(mut response: Response<Body>, serving: Serving, has_body: bool) -> Response<Body> {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        serving.upgraded();
        return response;
    }
    if serving.is_last() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if has_body && status.as_u16() >= 400 {
        serving.linger();
    }
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(Streamed { body, _serving: serving }))
}

/// An answer of unknown length: its connection is at work until it ends.
struct Streamed {
    body: Body,
    _serving: Serving,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
