//! Subscriptions that cannot be.

use serde_json::json;

use super::bad_frames::Wronged;

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_without_its_name_or_its_topics() {
    let mut wronged = Wronged::new().await;
    let wrongs = [
        (json!({"op": "subscribe", "topic": "orders"}), "invalid", "/sub"),
        (json!({"op": "subscribe", "sub": "x"}), "invalid", "/topics"),
        (json!({"op": "subscribe", "sub": "x", "topics": []}), "invalid", "/topics"),
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders", "topics": ["orders"]}),
            "invalid",
            "/topics",
        ),
        (json!({"op": "subscribe", "sub": 1, "topic": "orders"}), "invalid", "/sub"),
        (json!({"op": "subscribe", "sub": "", "topic": "orders"}), "invalid", "/sub"),
        (json!({"op": "subscribe", "sub": "x".repeat(256), "topic": "orders"}), "invalid", "/sub"),
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders", "frm": 0}),
            "unknown_field",
            "/frm",
        ),
        (json!({"op": "subscribe", "sub": "x", "topic": "a b"}), "invalid", "/topic"),
        (
            json!({"op": "subscribe", "sub": "x", "topics": ["orders", "a b"]}),
            "invalid",
            "/topics/1",
        ),
    ];
    wronged.refuses(&wrongs).await;
    wronged.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_a_subscription_that_is_unknown_or_of_another_type() {
    let mut wronged = Wronged::new().await;
    let wrongs = [
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders", "from": "soon"}),
            "invalid",
            "/from",
        ),
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders", "from": true}),
            "invalid",
            "/from",
        ),
        (json!({"op": "subscribe", "sub": "x", "topic": "orders", "log": "x"}), "invalid", "/log"),
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders", "credit": -1}),
            "invalid",
            "/credit",
        ),
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders", "credit": "1"}),
            "invalid",
            "/credit",
        ),
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders", "credit_bytes": 1_u64 << 31}),
            "invalid",
            "/credit_bytes",
        ),
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders", "filter": {}}),
            "invalid",
            "/filter",
        ),
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders", "filter": {"header": {}}}),
            "unknown_field",
            "/filter/header",
        ),
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders",
            "filter": {"key_prefix": "x".repeat(1025)}}),
            "invalid",
            "/filter/key_prefix",
        ),
        (
            json!({"op": "subscribe", "sub": "x", "topic": "orders", "generation": 1}),
            "invalid",
            "/generation",
        ),
    ];
    wronged.refuses(&wrongs).await;
    wronged.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_belongs_to_another_kind_of_subscription() {
    let mut wronged = Wronged::new().await;
    let wrongs = [
        (json!({"op": "subscribe", "sub": "x", "queue": "q"}), "not_yet_supported", "/queue"),
        (
            json!({"op": "subscribe", "sub": "x", "topics": ["orders"], "group": "g", "from": 1}),
            "invalid",
            "/from",
        ),
        (
            json!({"op": "subscribe", "sub": "x", "topics": ["orders"], "group": "g",
            "filter": {"key_prefix": "x"}}),
            "not_yet_supported",
            "/filter",
        ),
        (
            json!({"op": "subscribe", "sub": "x", "topics": ["orders"], "group": "g",
            "session_timeout": "1s"}),
            "invalid",
            "/session_timeout",
        ),
    ];
    wronged.refuses(&wrongs).await;
    wronged.ends().await;
}
