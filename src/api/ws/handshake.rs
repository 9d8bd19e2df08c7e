//! From a request to a WebSocket (RFC 6455, section 4.2), with every bound set on purpose: the
//! library's own are 64 MiB a message, 128 KiB of read buffer a socket and no bound for writing.

use std::future::Future;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header},
};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{
    api::{
        accept::{Raw, UnfinishedBytes},
        error::{ErrorCode, Problem},
    },
    lifecycle::Lifecycle,
    model::limits,
};

/// Bytes of a socket's read buffer, which every idle socket has. One that is sent more at once
/// has a larger one as long as that goes on ([`Raw`]).
const READ_BUFFER: usize = 2 * 1024;
/// Bytes of frames that are gathered for one write.
const WRITE_BUFFER: usize = 32 * 1024;
/// Bytes that may wait in the library: one frame of the largest message, all of it escaped. The
/// session sends nothing more while something waits.
const WRITE_BUFFER_MAX: usize = 8 * limits::BODY_BYTES_MAX;

/// A WebSocket of this node.
pub type Socket = WebSocketStream<Raw>;

/// Bounds of every socket.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER_MAX)
        .max_message_size(Some(limits::BODY_BYTES_MAX))
        .max_frame_size(Some(limits::BODY_BYTES_MAX))
        .accept_unmasked_frames(false)
}

/// Answers a request for a WebSocket and hands the socket to `serve` once it is one. With a
/// `protocol`, the client has to offer it.
///
/// # Errors
/// `upgrade_required` where the request asks for none, `malformed` where it does not as it
/// should.
pub fn upgrade<F>(
    mut request: Request<Body>,
    protocol: Option<&'static str>,
    unfinished: UnfinishedBytes,
    lifecycle: &Lifecycle,
    serve: impl FnOnce(Socket) -> F + Send + 'static,
) -> Result<Response<Body>, Problem>
where
    F: Future<Output = ()> + Send + 'static,
{
    let key = check(request.headers(), request.version())?;
    let malformed = |detail: &str| Problem::new(ErrorCode::Malformed, detail);
    if let Some(protocol) = protocol
        && !lists(request.headers(), header::SEC_WEBSOCKET_PROTOCOL, protocol)
    {
        let detail = format!("this socket speaks the sub-protocol `{protocol}`: offer it");
        return Err(malformed(&detail));
    }
    let accept = derive_accept_key(key.as_bytes());
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let on_upgrade = on_upgrade.ok_or_else(|| malformed("this connection cannot be upgraded"))?;
    let tasks = lifecycle.clone();
    lifecycle.spawn(async move {
        // A client that is gone by now is nobody's loss.
        let Ok(upgraded) = on_upgrade.await else { return };
        let Some((raw, early)) = Raw::take(upgraded, &unfinished) else { return };
        // A task of its own, so that what was needed to come here is not kept.
        tasks.spawn(serve(socket(raw, early).await));
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&accept).expect("base64 is a header's value");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(response)
}

async fn socket(raw: Raw, early: Bytes) -> Socket {
    let role = Role::Server;
    WebSocketStream::from_partially_read(raw, early.to_vec(), role, Some(config())).await
}

/// The key of the handshake, where all that belongs to it is there.
fn check(headers: &HeaderMap, version: Version) -> Result<String, Problem> {
    let upgrades = lists(headers, header::CONNECTION, "upgrade")
        && lists(headers, header::UPGRADE, "websocket")
        && version == Version::HTTP_11;
    if !upgrades {
        let detail = "this path is a WebSocket: ask for it with HTTP/1.1 and Upgrade: websocket";
        return Err(Problem::new(ErrorCode::UpgradeRequired, detail));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let detail = "the version of the WebSocket protocol is 13";
        return Err(Problem::new(ErrorCode::UpgradeRequired, detail));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    match key {
        Some(key) if key.len() == 24 => Ok(key.to_owned()),
        _ => Err(Problem::new(ErrorCode::Malformed, "Sec-WebSocket-Key is 16 bytes in base64")),
    }
}

/// Whether one of a header's values, which commas separate, is `wanted` in any case.
fn lists(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(wanted))
}
