//! The WebSocket: `GET /v1/ws`, sub-protocol `postrider.v1.json` (docs/websocket.md). One socket
//! carries publishes and any number of subscriptions.

mod answers;
mod close;
mod credit;
mod frames;
pub mod handshake;
mod lanes;
mod member;
mod outbox;
pub(in crate::api) mod place;
pub(in crate::api) mod schema;
mod session;
mod settle;
pub(in crate::api) mod tail;
mod turns;

use axum::{
    body::Body,
    extract::{Request, State},
    http::Response,
};

pub use self::{close::Close, session::Session};
use super::{
    AppState,
    accept::Peer,
    error::{Problem, ProblemBody},
    layers::RequestId,
    origin,
};
use crate::auth::Principal;

/// What is spoken on the socket.
pub const PROTOCOL: &str = "postrider.v1.json";

/// Open a WebSocket
///
/// Publishes and subscriptions on one socket, as `/asyncapi.json` describes it. The client offers
/// the sub-protocol `postrider.v1.json`.
#[utoipa::path(get, path = "/v1/ws", operation_id = "open_socket", tag = "streams",
    responses((status = 101, description = "The socket is open."),
        (status = 426, description = "The request asks for no WebSocket.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub async fn open_socket(
    principal: Principal,
    State(state): State<AppState>,
    request_id: RequestId,
    request: Request,
) -> Result<Response<Body>, Problem> {
    origin::check(request.headers(), &state.origins)?;
    let peer = request.extensions().get::<Peer>();
    let place = match peer {
        Some(Peer(peer)) => state.addresses.admit(*peer, request.headers())?,
        None => None,
    };
    let (lifecycle, unfinished) = (state.lifecycle.clone(), state.unfinished.clone());
    handshake::upgrade(request, Some(PROTOCOL), unfinished, &lifecycle, move |socket| {
        let unfinished = std::sync::Arc::clone(socket.get_ref().unfinished());
        let request_id = request_id.as_str().to_owned();
        let session = Session::new(socket, state, principal, &request_id, Some(unfinished));
        let session = Box::new(session);
        async move {
            session.run().await;
            drop(place);
        }
    })
}
