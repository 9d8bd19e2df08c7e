//! Requests that are to become a socket.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Scene;
use crate::support::{PROTOCOL, Socket, soon};

/// What a node answers to a request for a socket whose header lines are these, on a connection
/// that it then closes.
async fn answer(base: &str, lines: &[&str]) -> String {
    let mut stream = soon("a connection", TcpStream::connect(base)).await.expect("it listens");
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("GET /v1/ws HTTP/1.1\r\nhost: {base}\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.expect("taken");
    stream.shutdown().await.expect("half closed");
    let mut read = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut read)).await;
    String::from_utf8(read).expect("text")
}

const GOOD: [&str; 5] = [
    "connection: Upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol: postrider.v1.json",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_no_socket_is_told_to_upgrade() {
    let mut scene = Scene::new().await;
    let plain = scene.client.get("/v1/ws").await;
    plain.problem(426, "upgrade_required", "none");
    let upgrade = plain.headers.get("upgrade").and_then(|value| value.to_str().ok());
    assert_eq!(upgrade, Some("websocket"), "RFC 9110, 15.5.22: {plain:?}");
    for (without, replaced, status, code) in [
        (0, "", 426, "upgrade_required"),
        (1, "", 426, "upgrade_required"),
        (1, "upgrade: h2c", 426, "upgrade_required"),
        (2, "", 426, "upgrade_required"),
        (2, "sec-websocket-version: 12", 426, "upgrade_required"),
        (3, "", 400, "malformed"),
        (3, "sec-websocket-key: short", 400, "malformed"),
        (4, "", 400, "malformed"),
        (4, "sec-websocket-protocol: mqtt", 400, "malformed"),
        (4, "sec-websocket-protocol: postrider.v1.jsonx, chat", 400, "malformed"),
    ] {
        let mut lines = GOOD.to_vec();
        lines[without] = replaced;
        lines.retain(|line| !line.is_empty());
        let told = answer(&scene.base(), &lines).await;
        let is_told = told.starts_with(&format!("HTTP/1.1 {status} ")) && told.contains(code);
        assert!(is_told, "{lines:?}: {told}");
        if without == 2 {
            // RFC 6455, 4.2.2: whoever speaks another version is told which ones are spoken here.
            assert!(told.contains("sec-websocket-version: 13\r\n"), "{told}");
        }
        scene.neighbour_receives().await;
    }
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_speaks_the_sub_protocol_and_compresses_nothing() {
    let scene = Scene::new().await;
    let refused = Socket::try_open(&scene.base(), &[]).await.err().expect("no sub-protocol");
    assert_eq!((refused.status, &refused.problem["code"]), (400, &json!("malformed")));
    let mut lines = GOOD.to_vec();
    lines[0] = "connection: keep-alive, UPGRADE";
    lines[1] = "upgrade: WebSocket";
    lines[4] = "sec-websocket-protocol: chat, postrider.v1.json";
    lines.push("sec-websocket-extensions: permessage-deflate; client_max_window_bits");
    let told = answer(&scene.base(), &lines).await;
    assert!(told.starts_with("HTTP/1.1 101 "), "{told}");
    assert!(told.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{told}");
    assert!(told.contains("sec-websocket-protocol: postrider.v1.json\r\n"), "{told}");
    assert!(!told.contains("sec-websocket-extensions"), "{told}");
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_opens_no_socket() {
    let mut scene = Scene::new().await;
    let base = scene.base();
    let with =
        |origin: String| [("sec-websocket-protocol", PROTOCOL.to_owned()), ("origin", origin)];
    for origin in [
        "http://evil.example".to_owned(),
        "null".to_owned(),
        format!("http://{base}.evil.example"),
        format!("http://user@{base}"),
        "http://127.0.0.1:1".to_owned(),
    ] {
        let headers = with(origin.clone());
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let refused = Socket::try_open(&base, &headers).await.err().expect(&origin);
        assert_eq!((refused.status, &refused.problem["code"]), (403, &json!("forbidden_origin")));
        scene.neighbour_receives().await;
    }
    let own = with(format!("http://{base}"));
    let own = own.each_ref().map(|(name, value)| (*name, value.as_str()));
    Socket::try_open(&base, &own).await.expect("a page of this host").close().await;
    scene.ends().await;
}
