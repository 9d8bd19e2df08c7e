//! What a load balancer and a monitoring system ask.

use axum::{Json, extract::State, http::header, response::IntoResponse};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::error::{ErrorCode, Problem},
    lifecycle::{Lifecycle, Readiness},
    telemetry::metrics,
};

/// How a node is.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok` or `ready`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the process runs
///
/// Says nothing about the database: a node that waits for it is healthy and not ready.
#[utoipa::path(get, path = "/healthz", operation_id = "get_health", tag = "ops",
    responses((status = 200, description = "The process runs.", body = Health)))]
pub async fn get_health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether this node can serve
///
/// Load balancers send requests where this answers 200. It answers 503 while the database is
/// away, while migrations run, and from the moment the node is told to stop.
#[utoipa::path(get, path = "/readyz", operation_id = "get_readiness", tag = "ops",
    responses((status = 200, description = "The node can serve.", body = Health)))]
pub async fn get_readiness(
    State(lifecycle): State<Lifecycle>,
    State(readiness): State<Readiness>,
) -> Result<Json<Health>, Problem> {
    if lifecycle.is_draining() {
        return Err(Problem::new(ErrorCode::Draining, "this node is about to stop"));
    }
    match readiness.get() {
        Ok(()) => Ok(Json(Health { status: "ready" })),
        Err(reason) => Err(Problem::new(ErrorCode::NotReady, reason)),
    }
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "ops",
    responses((status = 200, description = "All metrics of this node.", body = String,
        content_type = "text/plain")))]
pub async fn get_metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render())
}
