//! Frames that are JSON objects and still wrong are answered; what is none ends its socket. Either
//! way the other subscriptions and the other sockets go on.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Scene, tail};
use crate::support::Socket;

/// A socket that reads `orders` as `a`, beside which something goes wrong.
pub(super) struct Wronged {
    scene: Scene,
    socket: Socket,
}

impl Wronged {
    pub(super) async fn new() -> Self {
        let scene = Scene::new().await;
        let mut socket = scene.socket().await;
        tail(&mut socket, "a", "orders").await;
        Self { scene, socket }
    }

    /// A message comes to both sockets.
    async fn goes_on(&mut self) {
        self.scene.neighbour_receives().await;
        let received = self.socket.messages("a", 1).await;
        assert_eq!(received[0]["offset"], self.scene.published - 1);
        self.socket.send(json!({"op": "credit", "sub": "a", "messages": 1})).await;
    }

    /// Each frame is refused with its code and a pointer to what is wrong.
    pub(super) async fn refuses(&mut self, wrongs: &[(Value, &str, &str)]) {
        for (frame, code, pointer) in wrongs {
            let problem = self.socket.refused(frame.clone(), code).await;
            assert_eq!(self::pointer(&problem), *pointer, "{frame}: {problem}");
            for member in ["type", "title", "detail", "effect", "request_id"] {
                assert!(problem[member].is_string(), "{member}: {problem}");
            }
            assert!(problem["retryable"].is_boolean() && problem["status"].is_u64(), "{problem}");
            self.goes_on().await;
        }
    }

    pub(super) async fn ends(self) {
        self.socket.close().await;
        self.scene.ends().await;
    }
}

fn pointer(problem: &Value) -> &str {
    problem["errors"][0]["pointer"].as_str().unwrap_or("nowhere")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_op_that_is_none() {
    let mut wronged = Wronged::new().await;
    let wrongs = [
        (json!({}), "invalid", "/op"),
        (json!({"op": "subscrib", "sub": "x"}), "invalid", "/op"),
        (json!({"op": "ok"}), "invalid", "/op"),
        (json!({"op": ""}), "invalid", "/op"),
        (json!({"op": 7}), "invalid", "/op"),
        (json!({"op": null}), "invalid", "/op"),
        (json!({"op": ["ping"]}), "invalid", "/op"),
        (json!({"op": "auth", "token": "x"}), "not_yet_supported", "/op"),
        (json!({"op": "settle", "sub": "a", "acks": []}), "not_yet_supported", "/op"),
    ];
    wronged.refuses(&wrongs).await;
    wronged.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_a_publish_that_is_missing_unknown_or_of_another_type() {
    let mut wronged = Wronged::new().await;
    let message = json!([{"value": 1}]);
    let wrongs = [
        (json!({"op": "publish", "topic": "orders"}), "invalid", "/messages"),
        (json!({"op": "publish", "messages": message}), "invalid", "/topic"),
        (
            json!({"op": "publish", "topic": "orders", "messages": [{"value": 1, "x": 1}]}),
            "unknown_field",
            "/messages/0/x",
        ),
        (
            json!({"op": "publish", "topic": "orders", "messages": message, "x": 1}),
            "unknown_field",
            "/x",
        ),
        (json!({"op": "publish", "topic": 7, "messages": message}), "invalid", "/topic"),
        (json!({"op": "publish", "topic": "orders", "messages": []}), "invalid", "/messages"),
        (
            json!({"op": "publish", "topic": "orders", "messages": message,
            "producer": {"id": "x", "sequence": 1}}),
            "invalid",
            "/producer/id",
        ),
        (
            json!({"op": "publish", "topic": "orders", "messages": message, "expect_offset": "1"}),
            "invalid",
            "/expect_offset",
        ),
        (
            json!({"op": "publish", "queue": "q", "messages": message}),
            "not_yet_supported",
            "/queue",
        ),
        (
            json!({"op": "publish", "exchange": "e", "messages": message}),
            "not_yet_supported",
            "/exchange",
        ),
    ];
    wronged.refuses(&wrongs).await;
    wronged.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_another_frame_that_is_missing_unknown_or_of_another_type() {
    let mut wronged = Wronged::new().await;
    let wrongs = [
        (json!({"op": "credit"}), "invalid", "/sub"),
        (json!({"op": "credit", "sub": "a", "messages": "1"}), "invalid", "/messages"),
        (json!({"op": "credit", "sub": "a", "credit": 1}), "unknown_field", "/credit"),
        (json!({"op": "commit", "sub": "a"}), "invalid", "/offsets"),
        (json!({"op": "release", "sub": "a"}), "invalid", "/assignments"),
        (json!({"op": "unsubscribe"}), "invalid", "/sub"),
        (json!({"op": "ping", "at": 1}), "unknown_field", "/at"),
    ];
    wronged.refuses(&wrongs).await;
    wronged.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_none_and_an_op_without_one() {
    let mut wronged = Wronged::new().await;
    for id in [json!(true), json!([1]), json!({"a": 1}), json!("x".repeat(300))] {
        wronged.socket.send(json!({"op": "ping", "id": id})).await;
        let told = wronged.socket.expect("error").await;
        assert!(told.get("id").is_none(), "{told}");
        assert_eq!((pointer(&told["error"]), &told["error"]["code"]), ("/id", &json!("invalid")));
        wronged.goes_on().await;
    }
    for id in [json!(0), json!(-1.5e300), json!("7"), json!("ü\n\"{"), json!("")] {
        wronged.socket.send(json!({"op": "ping", "id": id})).await;
        assert_eq!(wronged.socket.expect("pong").await, json!({"op": "pong", "id": id}));
    }
    wronged.socket.send(json!({"op": "ping", "id": null})).await;
    assert_eq!(wronged.socket.expect("pong").await, json!({"op": "pong"}));
    // Without an id, what is wrong is told by its sub.
    wronged.socket.send(json!({"op": "credit", "sub": "a", "messages": -1})).await;
    let told = wronged.socket.expect("error").await;
    assert_eq!((&told["sub"], told.get("id")), (&json!("a"), None), "{told}");
    wronged.socket.send(json!({"op": "subscribe", "sub": "b", "topic": "none"})).await;
    let told = wronged.socket.expect("error").await;
    assert_eq!((&told["sub"], &told["error"]["code"]), (&json!("b"), &json!("not_found")));
    wronged.goes_on().await;
    wronged.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_that_is_unknown_or_there_already() {
    let mut wronged = Wronged::new().await;
    let wrongs = [
        (json!({"op": "credit", "sub": "x", "messages": 1}), "not_found", "/sub"),
        (json!({"op": "commit", "sub": "x", "offsets": []}), "not_found", "/sub"),
        (json!({"op": "release", "sub": "x", "assignments": []}), "not_found", "/sub"),
        (json!({"op": "unsubscribe", "sub": "x"}), "not_found", "/sub"),
        (json!({"op": "unsubscribe", "sub": "x".repeat(100_000)}), "not_found", "/sub"),
        (json!({"op": "subscribe", "sub": "a", "topic": "orders"}), "already_exists", "/sub"),
        (
            json!({"op": "subscribe", "sub": "a", "topics": ["orders"], "group": "g"}),
            "already_exists",
            "/sub",
        ),
        // No group stands behind `a`.
        (json!({"op": "commit", "sub": "a", "offsets": []}), "invalid", "/sub"),
        (json!({"op": "release", "sub": "a", "assignments": []}), "invalid", "/sub"),
    ];
    wronged.refuses(&wrongs).await;
    // A name is there before its answer is.
    let frame = json!({"op": "subscribe", "sub": "b", "topic": "orders"});
    let [first, second] =
        [wronged.socket.ask(frame.clone()).await, wronged.socket.ask(frame).await];
    assert_eq!(wronged.socket.answer(second).await["error"]["code"], "already_exists");
    assert_eq!(wronged.socket.answer(first).await["op"], "ok");
    wronged.socket.call(json!({"op": "unsubscribe", "sub": "b"})).await;
    wronged.goes_on().await;
    wronged.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_that_overflows_adds_nothing() {
    let mut wronged = Wronged::new().await;
    tail(&mut wronged.socket, "b", "orders").await;
    wronged.socket.call(json!({"op": "unsubscribe", "sub": "b"})).await;
    let few = json!({"op": "subscribe", "sub": "few", "topic": "orders", "credit": 2});
    wronged.socket.call(few).await;
    for (messages, bytes, at) in [
        (json!(1_000_000), json!(null), "/messages"),
        (json!(-1), json!(null), "/messages"),
        (json!(i64::MAX), json!(null), "/messages"),
        (json!(5), json!(1 << 30), "/bytes"),
        (json!(5), json!(-1), "/bytes"),
    ] {
        let frame = json!({"op": "credit", "sub": "few", "messages": messages, "bytes": bytes});
        let problem = wronged.socket.refused(frame, "invalid").await;
        assert_eq!(pointer(&problem), at);
    }
    let over = json!({"op": "credit", "sub": "few", "messages": 1u64 << 63});
    wronged.socket.refused(over, "invalid").await;
    for _ in 0..4 {
        wronged.goes_on().await;
    }
    wronged.socket.messages("few", 2).await;
    let pinged = wronged.socket.ask(json!({"op": "ping"})).await;
    wronged.socket.answer(pinged).await;
    wronged.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_what_is_not_held() {
    let mut wronged = Wronged::new().await;
    let frame = json!({"op": "subscribe", "sub": "g", "topics": ["orders"], "group": "billing"});
    wronged.socket.call(frame).await;
    let assigned = wronged.socket.of("g", "assigned").await;
    let held = &assigned["assignments"][0];
    assert_eq!((&held["topic"], &held["partition"]), (&json!("orders"), &json!(0)));
    let epoch = held["epoch"].as_i64().expect("an epoch");
    let commit = |topic: &str, partition: i64, offset: i64, epoch: i64| {
        json!({"op": "commit", "sub": "g", "offsets": [{"topic": topic, "partition": partition,
            "offset": offset, "epoch": epoch}]})
    };
    for (frame, code) in [
        (commit("orders", 0, 0, epoch + 1), "stale_epoch"),
        (commit("orders", 0, 0, epoch - 1), "stale_epoch"),
        (commit("orders", 7, 0, epoch), "stale_epoch"),
        (commit("others", 0, 0, epoch), "stale_epoch"),
        (commit("orders", 0, 1_000, epoch), "offset_out_of_range"),
    ] {
        let problem = wronged.socket.refused(frame.clone(), code).await;
        let each = problem["commit_errors"].as_array();
        assert!(each.is_some_and(|each| each.len() == 1), "{frame}: {problem}");
        wronged.goes_on().await;
    }
    let released = json!([{"topic": "orders", "partition": 7, "epoch": epoch}]);
    let release = json!({"op": "release", "sub": "g", "assignments": released});
    wronged.socket.call(release).await;
    let group = wronged.scene.client.get("/v1/groups/billing").await.ok();
    assert_eq!(group["partitions"][0]["committed_offset"], 0, "{group}");
    wronged.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_to_what_does_not_exist() {
    let mut wronged = Wronged::new().await;
    let publish = |topic: &str, message: Value| {
        let messages = json!([message]);
        json!({"op": "publish", "topic": topic, "messages": messages})
    };
    let wrongs = [
        (publish("none", json!({"value": 1})), "not_found", "nowhere"),
        (publish("none", json!({"value": 1})), "not_found", "nowhere"),
        (publish("a b", json!({"value": 1})), "invalid", "/topic"),
        (publish("", json!({"value": 1})), "invalid", "/topic"),
        (publish("_own", json!({"value": 1})), "invalid", "/topic"),
        (
            publish("orders", json!({"value": 1, "partition": 1})),
            "partition_out_of_range",
            "/messages/0/partition",
        ),
    ];
    wronged.refuses(&wrongs).await;
    wronged.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_object_ends_its_socket() {
    let mut scene = Scene::new().await;
    let deep = format!("{{\"op\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for text in [
        "",
        " ",
        "null",
        "1",
        "\"op\"",
        "[]",
        "[{\"op\":\"ping\"}]",
        "{",
        "{\"op\"",
        "{\"op\":}",
        "{\"op\":\"ping\"} {}",
        "{\"op\":\"ping\",}",
        "{'op':'ping'}",
        "{\"op\":\"ping\\u12\"}",
        "{\"op\":\"publish\",\"topic\":\"orders\",\"messages\":[{]}",
        "{\"op\":\"publish\",",
        "\u{feff}{\"op\":\"ping\"}",
    ] {
        let mut socket = scene.socket().await;
        socket.send_message(Message::text(text)).await;
        assert_eq!(socket.closed().await, 4100, "{text}");
        scene.neighbour_receives().await;
    }
    for bytes in [&b"{\"op\":\"ping\"}"[..], b"", b"\xff\xfe"] {
        let mut socket = scene.socket().await;
        socket.send_message(Message::binary(bytes.to_vec())).await;
        assert_eq!(socket.closed().await, 4100, "{bytes:?}");
        scene.neighbour_receives().await;
    }
    // Objects, however odd, are answered.
    let mut socket = scene.socket().await;
    for text in [deep.as_str(), "{\"op\":\"ping\",\"op\":\"ping\"}", "\n {\"OP\":\"ping\"}"] {
        socket.send_message(Message::text(text)).await;
        socket.expect("error").await;
    }
    socket.send_message(Message::text(" \t{ \"op\" : \"pi\\u006eg\" }\r\n")).await;
    assert_eq!(socket.expect("pong").await, json!({"op": "pong"}));
    socket.close().await;
    scene.ends().await;
}
