//! Stands in for Postrider's own accept loop until that has landed.

use std::io;

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, task::JoinSet};

/// Serves `router` for ever.
///
/// # Errors
/// When accepting fails.
pub async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
