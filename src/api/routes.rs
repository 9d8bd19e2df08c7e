//! The route table: every path of the service on one screen. Paths are written whole where the
//! handlers are, because nesting rewrites the target of every request.

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    AppState, asyncapi,
    http::{
        docs,
        groups::{admin, members, offsets, poll, seek},
        limits, messages, nodes, ops, publish, stream, topics,
    },
    openapi, ws,
};

fn table() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(
            topics::put_topic,
            topics::get_topic,
            topics::patch_topic,
            topics::delete_topic
        ))
        .routes(routes!(topics::list_topics))
        .routes(routes!(publish::publish_messages))
        .routes(routes!(publish::raw::publish_raw))
        .routes(routes!(messages::read_messages))
        .routes(routes!(members::join_group))
        .routes(routes!(members::leave_group))
        .routes(routes!(poll::poll_group))
        .routes(routes!(offsets::commit_offsets))
        .routes(routes!(seek::seek_group))
        .routes(routes!(admin::pause_group))
        .routes(routes!(admin::resume_group))
        .routes(routes!(admin::get_group, admin::delete_group))
        .routes(routes!(admin::list_groups))
        .routes(routes!(stream::stream_topic))
        .routes(routes!(ws::open_socket))
        .routes(routes!(nodes::list_nodes))
        .routes(routes!(limits::get_limits))
        .routes(routes!(ops::get_health))
        .routes(routes!(ops::get_readiness))
        .routes(routes!(ops::get_metrics))
}

/// The whole service over HTTP, and its description.
pub fn router(state: AppState) -> (Router, OpenApi) {
    let (routes, mut openapi) = table().split_for_parts();
    openapi::complete(&mut openapi);
    let explored = docs::router(openapi::written(&openapi), asyncapi::document());
    (routes.merge(explored).with_state(state), openapi)
}

/// The description alone.
pub(super) fn description() -> OpenApi {
    let mut openapi = table().into_openapi();
    openapi::complete(&mut openapi);
    openapi
}
