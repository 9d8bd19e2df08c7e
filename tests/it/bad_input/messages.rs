//! What one message or one batch may be.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{JSON, MESSAGES, RAW, Scene, pointer};

fn batch(messages: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&json!({"messages": messages})).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_out_of_range_is_told_at_publish_and_at_read() {
    let scene = Scene::new().await;
    for partition in [2_u64, 1_000, u64::from(u32::MAX)] {
        let body = batch(&[json!({"value": 1}), json!({"value": 2, "partition": partition})]);
        let problem = scene.publish(body).await.problem(422, "partition_out_of_range", "none");
        assert_eq!(pointer(&problem), "/messages/1/partition");
        let path = format!("/v1/topics/orders/partitions/{partition}/messages");
        scene.client.get(&path).await.problem(404, "not_found", "none");
    }
    for partition in ["-1", "x", "99999999999999999999", "0x0", "1.0"] {
        let path = format!("/v1/topics/orders/partitions/{partition}/messages");
        scene.client.get(&path).await.problem(404, "not_found", "none");
    }
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_are_a_batch_and_one_more_is_too_large() {
    let scene = Scene::new().await;
    let message = json!({"value": 1, "partition": 0});
    let body = batch(&vec![message.clone(); 10_001]);
    let problem = scene.publish(body).await.problem(413, "batch_too_large", "none");
    assert_eq!(pointer(&problem), "/messages");
    assert!(problem["detail"].as_str().expect("text").contains("10001"), "{problem}");
    scene.is_unchanged().await;
    let results = scene.publish(batch(&vec![message; 10_000])).await.results();
    let dense: Vec<(u32, i64)> = (3..10_003).map(|offset| (0, offset)).collect();
    assert_eq!(results, dense);
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_one_bad_message_is_refused_whole() {
    let scene = Scene::new().await;
    for bad in [json!({"value": 1, "partition": 9}), json!({"value_base64": "*"}), json!({"k": 1})]
    {
        let mut messages = vec![json!({"value": "good"}); 100];
        messages.push(bad);
        assert_eq!(scene.publish(batch(&messages)).await.status, 422);
    }
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_refused_and_one_at_the_limit_is_not() {
    let scene = Scene::new().await;
    let limit = 1024 * 1024;
    for (key, headers) in [("", json!({})), ("key", json!({"name": "value"}))] {
        let more = key.len() + headers.as_object().expect("object").len() * "namevalue".len();
        let of = |bytes: usize| {
            let text = "x".repeat(bytes - more);
            batch(&[json!({"key": key, "headers": headers, "value_text": text, "partition": 0})])
        };
        let problem = scene.publish(of(limit + 1)).await.problem(413, "message_too_large", "none");
        assert_eq!(pointer(&problem), "/messages/0");
        scene.is_unchanged().await;
    }
    let raw = scene.client.post(RAW, "text/plain", "x".repeat(limit + 1)).await;
    raw.problem(413, "message_too_large", "none");
    scene.is_unchanged().await;
    let exact = batch(&[json!({"value_text": "x".repeat(limit), "partition": 0})]);
    assert_eq!(scene.publish(exact).await.results(), [(0, 3)]);
    assert_eq!(scene.client.post(RAW, "text/plain", "x".repeat(limit)).await.status, 200);
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_s_own_message_limit_counts() {
    let scene = Scene::new().await;
    assert_eq!(scene.put("small", json!({"max_message_bytes": 10})).await.status, 201);
    let path = "/v1/topics/small/messages";
    let of = |text: &str| batch(&[json!({"value_text": text})]);
    scene.client.post(path, JSON, of("12345678901")).await.problem(
        413,
        "message_too_large",
        "none",
    );
    assert_eq!(scene.client.post(path, JSON, of("1234567890")).await.results()[0].1, 0);
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_keys_have_their_own_limits() {
    let scene = Scene::new().await;
    let name = "n".repeat(1_024);
    let headers = json!({ &name: "v".repeat(64 * 1024 - 1_023) });
    let problem = scene.publish(batch(&[json!({"value": 1, "headers": headers})])).await;
    let problem = problem.problem(413, "message_too_large", "none");
    assert_eq!(pointer(&problem), "/messages/0/headers");
    let problem = scene.publish(batch(&[json!({"value": 1, "key": "k".repeat(1_025)})])).await;
    assert_eq!(pointer(&problem.problem(422, "invalid", "none")), "/messages/0/key");
    let key = STANDARD.encode(vec![0; 1_025]);
    let problem = scene.publish(batch(&[json!({"value": 1, "key_base64": key})])).await;
    problem.problem(422, "invalid", "none");
    let request = scene.client.request(reqwest::Method::POST, RAW).body("x");
    let raw = scene.client.send(request.header("postrider-key", "k".repeat(1_025))).await;
    raw.problem(422, "invalid", "none");
    scene.is_unchanged().await;
    let headers = json!({ &name: "v".repeat(64 * 1024 - 1_024) });
    let fits = json!({"key": "k".repeat(1_024), "headers": headers, "partition": 0});
    assert_eq!(scene.publish(batch(&[fits])).await.results(), [(0, 3)]);
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_body_is_refused_before_and_after_decoding() {
    let scene = Scene::new().await;
    let limit = 16 * 1024 * 1024;
    let body = vec![b' '; limit + 1];
    scene.publish(body.clone()).await.problem(413, "body_too_large", "none");
    scene.client.post(RAW, "text/plain", body.clone()).await.problem(413, "body_too_large", "none");
    let bomb = zstd::encode_all(&*body, 1).expect("in memory");
    let request = scene.client.request(reqwest::Method::POST, MESSAGES).body(bomb);
    let request = request.header("content-type", JSON).header("content-encoding", "zstd");
    scene.client.send(request).await.problem(413, "body_too_large", "none");
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_target_and_a_large_head_are_refused() {
    let scene = Scene::new().await;
    let query = format!("from={}", "1".repeat(8 * 1024));
    scene.client.read("orders", 0, &query).await.problem(414, "uri_too_long", "none");
    let body = r#"{"messages":[{"value":1}]}"#;
    let post = || scene.client.request(reqwest::Method::POST, MESSAGES).body(body);
    let large = scene.client.send(post().header("x-large", "x".repeat(256 * 1024))).await;
    large.problem(431, "head_too_large", "none");
    let many = (0..101).fold(post(), |post, n| post.header(format!("x-{n}"), "x"));
    scene.client.send(many).await.problem(431, "head_too_large", "none");
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_base64_is_pointed_at() {
    let scene = Scene::new().await;
    for text in ["*", "AA=A", "A", "AA AA", "AA\n", "_-8=", "AB=="] {
        let fields = [
            (json!({"key_base64": text}), "/messages/0/key_base64"),
            (json!({"value_base64": text}), "/messages/0/value_base64"),
            (json!({"headers": {"a": {"base64": text}}}), "/messages/0/headers"),
            (json!({"headers": {"a": ["b", {"base64": text}]}}), "/messages/0/headers"),
        ];
        for (message, at) in fields {
            let problem = scene.publish(batch(&[message])).await.problem(422, "invalid", "none");
            assert_eq!(pointer(&problem), at, "{text:?}");
        }
    }
    scene.ends_unchanged().await;
}
