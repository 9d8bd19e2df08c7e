//! The accept loop.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::net::TcpListener;

use super::layers::Shell;
use crate::{lifecycle::Lifecycle, model::limits};

/// The bounds of the accept loop.
#[derive(Clone, Debug)]
pub struct AcceptSettings {
    /// From connecting to the first byte, and from the first byte of a head to its last.
    pub head_timeout: Duration,
    /// How long a kept-alive connection may rest between requests.
    pub idle_timeout: Duration,
    /// How long a client may take no byte of an answer that waits for it.
    pub write_timeout: Duration,
    /// How long running requests are served after a stop has begun.
    pub drain_timeout: Duration,
    /// Connections at the same time.
    pub connections_max: usize,
}

impl Default for AcceptSettings {
    fn default() -> Self {
        Self {
            head_timeout: limits::HEAD_TIMEOUT,
            idle_timeout: limits::IDLE_TIMEOUT,
            write_timeout: Duration::from_secs(30),
            drain_timeout: limits::DRAIN_TIMEOUT,
            connections_max: limits::CONNECTIONS_MAX,
        }
    }
}

/// Serves `router` on `listener` until `lifecycle` drains.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    lifecycle: Lifecycle,
    _settings: AcceptSettings,
) {
    let shell = Arc::new(Shell::new(router));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = lifecycle.draining() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let shell = Arc::clone(&shell);
        lifecycle.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let shell = Arc::clone(&shell);
                async move { Ok::<_, Infallible>(shell.handle(request.map(Body::new)).await) }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .max_headers(limits::HEAD_FIELDS_MAX)
                .max_buf_size(limits::HEAD_BYTES_MAX);
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
