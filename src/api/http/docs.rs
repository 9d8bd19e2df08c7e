//! `/openapi.json`, `/asyncapi.json`, and the explorer at `/docs`, which loads nothing from elsewhere.

use std::sync::Arc;

use axum::{
    Router,
    extract::Path,
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use utoipa_swagger_ui::Config;

use crate::api::error::{ErrorCode, Problem};

/// What the explorer may load: its own files from this node, and answers of this node.
const CONTENT_SECURITY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

/// Serves `document`, the OpenAPI document as JSON, and the explorer of it; and `of_socket`, the
/// AsyncAPI document.
pub fn router<S: Clone + Send + Sync + 'static>(document: String, of_socket: String) -> Router<S> {
    let (document, of_socket) = (Bytes::from(document), Bytes::from(of_socket));
    // Under any host name but localhost the explorer otherwise asks a public validator.
    let config = Config::new(["/openapi.json"])
        .try_it_out_enabled(true)
        .display_request_duration(true)
        .validator_url("none");
    let config = Arc::new(config);
    let (start, rest) = (Arc::clone(&config), config);
    Router::new()
        .route("/openapi.json", get(async move || json(document)))
        .route("/asyncapi.json", get(async move || json(of_socket)))
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(async move || explorer("", start)))
        .route("/docs/{*file}", get(async move |Path(file): Path<String>| explorer(&file, rest)))
}

fn json(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

fn explorer(file: &str, config: Arc<Config<'static>>) -> Response {
    match utoipa_swagger_ui::serve(file, config) {
        Ok(Some(file)) => (
            [(header::CONTENT_TYPE, file.content_type)],
            [(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY)],
            file.bytes.into_owned(),
        )
            .into_response(),
        Ok(None) => {
            Problem::new(ErrorCode::NotFound, "the explorer has no such file").into_response()
        }
        Err(_) => Problem::new(ErrorCode::Internal, "the explorer cannot be shown").into_response(),
    }
}
