//! One connection from its first byte to its end. hyper-util's automatic choice of a protocol
//! hands hyper the first 24 bytes by themselves; hyper then doubles its 8 KiB read buffer for the
//! rest of the head, and every parked poll keeps 16 KiB. Here the bytes that told the protocol
//! come together with what follows them.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, http::Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::HttpService,
};
use hyper_util::rt::TokioTimer;

use super::{
    progress::{Phase, Progress},
    socket::{Protocol, Socket},
};
use crate::{lifecycle::Lifecycle, model::limits};

/// HTTP/2 requests at the same time on one connection.
const STREAMS_MAX: u32 = 256;
/// How often a silent HTTP/2 client is asked whether it lives, and how long it may think.
const STREAMS_PING: Duration = Duration::from_secs(20);

/// hyper's own limit of header fields. Setting it costs an array a request.
const _: () = assert!(limits::HEAD_FIELDS_MAX == 100);

/// How connections of either protocol are served.
pub(super) struct Driver {
    http1: http1::Builder,
    http2: http2::Builder<Spawner>,
}

/// What answers the requests of one connection.
pub(super) trait Service:
    HttpService<
        Incoming,
        ResBody = Body,
        Error = Infallible,
        Future: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    > + Unpin
    + Send
    + 'static
{
}

impl<S> Service for S where
    S: HttpService<
            Incoming,
            ResBody = Body,
            Error = Infallible,
            Future: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
        > + Unpin
        + Send
        + 'static
{
}

impl Driver {
    pub(super) fn new(lifecycle: &Lifecycle) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            // Not to serve half-closed clients: the socket looks for them itself.
            .half_close(true)
            .max_buf_size(limits::HEAD_BYTES_MAX);
        let mut http2 = http2::Builder::new(Spawner(lifecycle.clone()));
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(limits::HEAD_BYTES_MAX as u32)
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(STREAMS_PING)
            .keep_alive_timeout(STREAMS_PING);
        Self { http1, http2 }
    }

    /// Takes in a connection, which the returned future serves until it ends. How it ends is the
    /// client's affair: resets, half requests, silence.
    ///
    /// hyper's buffer for answers is made here, in the thread that accepts: made where requests
    /// are answered it would be memory that a statement has just used and given back, all of it
    /// resident, for as long as the connection rests.
    pub(super) fn drive(
        self: Arc<Self>,
        socket: Socket,
        service: impl Service,
        progress: Arc<Progress>,
    ) -> impl Future<Output = ()> + Send {
        let mut connection = self.http1.serve_connection(socket, service).with_upgrades();
        async move {
            until_end(&mut connection, &progress, |told| told.graceful_shutdown()).await;
            let parts = connection.into_parts();
            let Some(parts) = parts.filter(|parts| parts.io.protocol() == Some(Protocol::Http2))
            else {
                return;
            };
            // Boxed, so that the connections of the usual protocol are not as large.
            let mut connection = Box::pin(self.http2.serve_connection(parts.io, parts.service));
            let served = until_end(&mut connection, &progress, |told| {
                told.get_mut().as_mut().graceful_shutdown();
            });
            Box::pin(served).await;
        }
    }
}

async fn until_end<C: Future + Unpin>(
    connection: &mut C,
    progress: &Progress,
    tell: impl Fn(Pin<&mut C>),
) {
    let mut is_told = false;
    poll_fn(|cx: &mut Context<'_>| {
        progress.driven_by(cx.waker());
        if progress.phase() == Phase::Dead {
            return Poll::Ready(());
        }
        if !is_told && progress.is_draining() {
            if progress.phase() == Phase::Connected {
                return Poll::Ready(());
            }
            is_told = true;
            tell(Pin::new(&mut *connection));
        }
        Pin::new(&mut *connection).poll(cx).map(drop)
    })
    .await;
}

#[derive(Clone, Debug)]
struct Spawner(Lifecycle);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
