//! Bytes that no client sends: each ends its socket with the documented code, and no other.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Scene;
use crate::support::{Client, RawSocket, Socket};

const FIN: u8 = 0x80;
const TEXT: u8 = 1;
const CLOSE: u8 = FIN | 8;
const PING: u8 = FIN | 9;
const PONG: u8 = FIN | 10;
/// `limits::BODY_BYTES_MAX`, as the documentation says it.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// Opens a socket, sends bytes, and expects the node to close with this code; the neighbour
/// receives on.
async fn closes(scene: &mut Scene, what: &str, bytes: &[u8], code: u16) {
    let mut socket = RawSocket::open(&scene.base()).await;
    // The node may close before it has taken everything.
    socket.write(bytes).await;
    assert_eq!(socket.closed().await, Some(code), "{what}");
    scene.neighbour_receives().await;
}

/// The next frame of text, as JSON.
async fn told(socket: &mut RawSocket) -> Value {
    loop {
        let frame = socket.read().await.expect("a frame");
        if frame.head == FIN | TEXT {
            return serde_json::from_slice(&frame.payload).expect("JSON");
        }
        assert!(matches!(frame.head, PING | PONG), "{frame:?}");
    }
}

/// The first bytes of a frame that is to have `length` bytes.
fn head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first, 0x80 | 127];
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_ends_its_socket() {
    let mut scene = Scene::new().await;
    let over = MESSAGE_MAX as u64 + 1;
    for length in [over, 1 << 32, 1 << 62] {
        closes(&mut scene, "a head", &head(FIN | TEXT, length), 1009).await;
    }
    let whole = RawSocket::text(&vec![b' '; MESSAGE_MAX + 1]);
    closes(&mut scene, "a frame", &whole, 1009).await;
    let mut parts = RawSocket::frame(TEXT, b"{");
    for _ in 0..=16 {
        parts.extend_from_slice(&RawSocket::frame(0, &vec![b' '; 1 << 20]));
    }
    closes(&mut scene, "fragments", &parts, 1009).await;
    // The largest that may be is read.
    let mut socket = RawSocket::open(&scene.base()).await;
    let mut largest = vec![b' '; MESSAGE_MAX];
    largest[..13].copy_from_slice(br#"{"op":"ping" "#);
    largest[MESSAGE_MAX - 1] = b'}';
    assert!(socket.write(&RawSocket::text(&largest)).await);
    assert_eq!(told(&mut socket).await, json!({"op": "pong"}));
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_utf8_ends_its_socket() {
    let mut scene = Scene::new().await;
    for wrong in
        [&b"\xff"[..], b"{\"op\":\"\xc0\xaf\"}", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"]
    {
        closes(&mut scene, "one frame", &RawSocket::text(wrong), 1007).await;
        let mut parts = RawSocket::frame(TEXT, b"{\"op\":\"ping\"");
        parts.extend_from_slice(&RawSocket::frame(0, wrong));
        parts.extend_from_slice(&RawSocket::frame(FIN, b"}"));
        closes(&mut scene, "fragments", &parts, 1007).await;
    }
    let reason = RawSocket::frame(CLOSE, b"\x03\xe8\xff");
    closes(&mut scene, "a reason", &reason, 1007).await;
    // A character may lie in two fragments.
    let mut socket = RawSocket::open(&scene.base()).await;
    let frame = "{\"op\":\"ping\",\"id\":\"\u{20ac}\"}".as_bytes();
    let mut parts = RawSocket::frame(TEXT, &frame[..20]);
    parts.extend_from_slice(&RawSocket::frame(FIN, &frame[20..]));
    assert!(socket.write(&parts).await);
    assert_eq!(told(&mut socket).await["id"], "\u{20ac}");
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violation_of_the_protocol_ends_its_socket() {
    let mut scene = Scene::new().await;
    let ping = br#"{"op":"ping"}"#;
    let mut unmasked = vec![FIN | TEXT, ping.len() as u8];
    unmasked.extend_from_slice(ping);
    let then = |one: Vec<u8>, other: Vec<u8>| [one, other].concat();
    for (what, bytes) in [
        ("an unmasked frame", unmasked),
        ("a reserved bit", RawSocket::frame(FIN | 0x40 | TEXT, ping)),
        ("a reserved opcode", RawSocket::frame(FIN | 3, ping)),
        ("a reserved control opcode", RawSocket::frame(FIN | 11, b"")),
        ("a ping in parts", RawSocket::frame(9, b"")),
        ("a long ping", RawSocket::frame(PING, &[b'x'; 126])),
        ("a continuation of nothing", RawSocket::frame(FIN, ping)),
        (
            "a message within a message",
            then(RawSocket::frame(TEXT, b"{"), RawSocket::frame(FIN | TEXT, ping)),
        ),
        ("a close code of one byte", RawSocket::frame(CLOSE, b"\x03")),
        ("a close code that may not be sent", RawSocket::frame(CLOSE, b"\x03\xed")),
        ("a close code of nobody", RawSocket::frame(CLOSE, b"\x00\x05")),
    ] {
        closes(&mut scene, what, &bytes, 1002).await;
    }
    for code in [b"\x03\xe8", b"\x0f\xa0", b"\x13\x87"] {
        let answered = u16::from_be_bytes(*code);
        closes(&mut scene, "a close", &RawSocket::frame(CLOSE, code), answered).await;
    }
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pings_or_pongs_ends_its_socket() {
    let mut scene = Scene::new().await;
    for kind in [PING, PONG] {
        let mut socket = RawSocket::open(&scene.base()).await;
        let few: Vec<u8> = (0..250).flat_map(|_| RawSocket::frame(kind, b"x")).collect();
        assert!(socket.write(&few).await);
        assert!(socket.write(&RawSocket::text(br#"{"op":"ping"}"#)).await);
        if kind == PING {
            // RFC 6455, 5.5.3: an answer to the newest stands for those before it.
            let pong = socket.read().await.expect("a pong");
            assert_eq!((pong.head, &*pong.payload), (PONG, &b"x"[..]));
        }
        assert_eq!(told(&mut socket).await, json!({"op": "pong"}), "250 are let pass");
        socket.write(&RawSocket::frame(kind, b"x")).await;
        assert_eq!(socket.closed().await, Some(4029));
        scene.neighbour_receives().await;
    }
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_come_in_frames_of_a_byte() {
    let mut scene = Scene::new().await;
    let mut socket = RawSocket::open(&scene.base()).await;
    let publish = json!({"op": "publish", "id": 1, "topic": "orders",
        "messages": [{"value": "x".repeat(3_000)}]});
    let publish = publish.to_string().into_bytes();
    let last = publish.len() - 1;
    for (at, byte) in publish.iter().enumerate() {
        let first = if at == 0 { TEXT } else { 0 };
        let frame = RawSocket::frame(if at == last { first | FIN } else { first }, &[*byte]);
        if at % 10 == 0 {
            for byte in frame {
                assert!(socket.write(&[byte]).await);
            }
            if at % 1_000 == 0 {
                scene.neighbour_receives().await;
            }
        } else {
            assert!(socket.write(&frame).await);
        }
    }
    let answer = told(&mut socket).await;
    assert_eq!((&answer["op"], &answer["id"]), (&json!("ok"), &json!(1)), "{answer}");
    let received = scene.neighbour.messages("n", 1).await;
    assert_eq!(received[0]["value"], "x".repeat(3_000));
    scene.published += 1;
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_without_an_end_are_bounded_and_wait_for_nobody() {
    let mut scene = Scene::new().await;
    let mut socket = RawSocket::open(&scene.base()).await;
    assert!(socket.write(&RawSocket::frame(TEXT, br#"{"op":"#)).await);
    for _ in 0..3 {
        assert!(socket.write(&RawSocket::frame(0, b" ")).await);
        assert!(socket.write(&RawSocket::frame(PING, b"x")).await);
        let pong = socket.read().await.expect("control frames go between");
        assert_eq!(pong.head, PONG);
        scene.neighbour_receives().await;
    }
    assert!(socket.write(&RawSocket::frame(FIN, br#""ping"}"#)).await);
    assert_eq!(told(&mut socket).await, json!({"op": "pong"}));
    // Of no bytes at all: what counts is what came over the wire.
    assert!(socket.write(&RawSocket::frame(TEXT, b"{")).await);
    let nothing: Vec<u8> = RawSocket::frame(0, b"").repeat(100_000);
    let mut sent = 0;
    while sent < 4 * MESSAGE_MAX && socket.write(&nothing).await {
        sent += nothing.len();
    }
    assert!(sent < 2 * MESSAGE_MAX, "{sent} bytes of empty fragments were taken");
    assert_eq!(socket.closed().await, Some(1009));
    scene.ends().await;
}

/// A message that lacks its last byte, with `between` after each of its parts, once the node has
/// read all of it; none where the node has closed the socket because there are too many of them.
async fn unfinished(base: &str, between: &[u8]) -> Option<RawSocket> {
    let mut socket = RawSocket::open(base).await;
    assert!(socket.write(&RawSocket::frame(TEXT, br#"{"op":"ping" "#)).await);
    for _ in 0..15 {
        if !socket.write(&RawSocket::frame(0, &vec![b' '; 1 << 20])).await {
            break;
        }
        socket.write(between).await;
    }
    socket.write(&RawSocket::frame(PING, b"last")).await;
    loop {
        let frame = socket.read().await.expect("a pong or a close");
        match frame.head {
            PONG if frame.payload == b"last" => return Some(socket),
            PONG => {}
            head => {
                assert_eq!((head, &frame.payload[..2]), (CLOSE, &4003_u16.to_be_bytes()[..]));
                return None;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_messages_of_all_sockets_are_bounded_together() {
    for between in [Vec::new(), RawSocket::frame(PING, b"x")] {
        let mut scene = Scene::new().await;
        let mut held = Vec::new();
        for _ in 0..8 {
            held.extend(unfinished(&scene.base(), &between).await);
        }
        // Of 15 MiB each, six are within 96 MiB.
        assert_eq!(held.len(), 6);
        scene.neighbour_receives().await;
        for socket in &mut held {
            assert!(socket.write(&RawSocket::frame(FIN, b"}")).await);
            assert_eq!(told(socket).await, json!({"op": "pong"}));
        }
        let more = unfinished(&scene.base(), b"").await;
        assert!(more.is_some(), "nothing is counted for ever");
        scene.ends().await;
    }
}

async fn members(client: &Client) -> usize {
    let group = client.get("/v1/groups/billing").await.ok();
    group["members"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_no_ping_is_closed_and_its_member_expires() {
    let mut scene = Scene::new().await;
    let subscribe = json!({"op": "subscribe", "id": 1, "sub": "g", "topics": ["orders"],
        "group": "billing", "session_timeout": "3s"});
    let subscribe = RawSocket::text(subscribe.to_string().as_bytes());
    let mut silent = RawSocket::open(&scene.base()).await;
    assert!(silent.write(&subscribe).await);
    assert_eq!(told(&mut silent).await["op"], "ok");
    let since = Instant::now();
    let mut alive = scene.socket().await;
    alive.call(json!({"op": "subscribe", "sub": "p", "topic": "orders"})).await;
    let mut pings = 0;
    let code = loop {
        let frame = silent.read().await.expect("a close before the end");
        match frame.head {
            PING => pings += 1,
            CLOSE => break u16::from_be_bytes([frame.payload[0], frame.payload[1]]),
            _ => {}
        }
        if pings == 1 {
            scene.neighbour_receives().await;
            pings += 1;
        }
    };
    let took = since.elapsed();
    assert_eq!(code, 4001, "after {pings} pings");
    assert!(took > Duration::from_millis(2_500) && took < Duration::from_secs(6), "{took:?}");
    crate::support::eventually("its member is gone", async || {
        (members(&scene.client).await == 0).then_some(())
    })
    .await;
    assert!(since.elapsed() < Duration::from_secs(6), "{:?}", since.elapsed());
    alive.close().await;
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_pings_stays() {
    let mut scene = Scene::new().await;
    let mut socket = scene.socket().await;
    let subscribe = json!({"op": "subscribe", "sub": "g", "topics": ["orders"],
        "group": "billing", "session_timeout": "3s"});
    socket.call(subscribe).await;
    socket.of("g", "assigned").await;
    // The client answers pings while it reads, and says nothing else.
    socket.is_quiet_for(Duration::from_secs(7)).await;
    assert_eq!(members(&scene.client).await, 1);
    scene.neighbour_receives().await;
    let received = socket.messages("g", 1).await;
    assert_eq!(received[0]["offset"], 0);
    socket.close().await;
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_just_go_leave_nothing() {
    let mut scene = Scene::new().await;
    for round in 0..40 {
        let mut raw = RawSocket::open(&scene.base()).await;
        let publish = json!({"op": "publish", "topic": "none", "messages": [{"value": round}]});
        let bytes = RawSocket::text(publish.to_string().as_bytes());
        raw.write(&bytes[..bytes.len() - round]).await;
        drop(raw);
        let mut socket = Socket::open(&scene.base()).await;
        socket.ask(json!({"op": "subscribe", "sub": "a", "topic": "orders"})).await;
        drop(socket);
    }
    scene.neighbour_receives().await;
    scene.neighbour.close().await;
    // A session that was left would keep the node until its drain is over.
    let since = Instant::now();
    scene.node.stop().await.expect("stops");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}
