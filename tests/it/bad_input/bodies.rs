//! Bodies that are not what they say they are.

use reqwest::Method;
use serde_json::json;

use super::{JSON, MESSAGES, RAW, Scene};

const NDJSON: &str = "application/x-ndjson";

#[tokio::test(flavor = "multi_thread")]
async fn malformed_json_is_told_where() {
    let scene = Scene::new().await;
    let bodies = [
        "",
        "{",
        "{\"messages\":[{\"value\":}]}",
        "{\"messages\":[{\"value\":1}]",
        "{\"messages\":[{\"value\":1}]} x",
        "{\"messages\":[{\"value\":1}]}{}",
        "{\"messages\":[{\"value\":01}]}",
        "{\"messages\":[{\"value\":NaN}]}",
        "{\"messages\":[{\"value\":'x'}]}",
        "{\"messages\":[{\"value\":1,}]}",
        "{\"messages\":[{\"value\":\"a\u{1}b\"}]}",
        "{\"messages\":[{\"key\":\"a\\ud800\",\"value\":1}]}",
        "\u{feff}{\"messages\":[{\"value\":1}]}",
        "<messages/>",
    ];
    for body in bodies {
        let problem = scene.publish(body).await.problem(400, "malformed", "none");
        assert!(problem["detail"].as_str().expect("text").contains("JSON"), "{body:?}: {problem}");
    }
    let invalid: &[u8] = b"{\"messages\":[{\"value_text\":\"\xff\"}]}";
    scene.publish(invalid).await.problem(400, "malformed", "none");
    let invalid: &[u8] = b"{\"messages\":[{\"value\":\"\xff\"}]}";
    scene.publish(invalid).await.problem(400, "malformed", "none");
    scene.client.post(RAW, JSON, "{\"a\":").await.problem(400, "malformed", "none");
    scene.client.post(RAW, JSON, "").await.problem(400, "malformed", "none");
    scene.client.post(RAW, JSON, "1 2").await.problem(400, "malformed", "none");
    let text: &[u8] = b"\xff\xfe";
    scene.client.post(RAW, "text/plain", text).await.problem(400, "malformed", "none");
    for method in [Method::PUT, Method::PATCH] {
        let request = scene.client.request(method, "/v1/topics/orders").body("{\"partitions\":");
        let answer = scene.client.send(request.header("content-type", JSON)).await;
        answer.problem(400, "malformed", "none");
    }
    scene.ends_unchanged().await;
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_128_levels_is_refused_and_one_of_127_is_kept() {
    let scene = Scene::new().await;
    let of = |value: &str| format!("{{\"messages\":[{{\"value\":{value},\"partition\":0}}]}}");
    for depth in [128, 129, 1_000, 100_000] {
        let problem = scene.publish(of(&nested(depth))).await.problem(400, "malformed", "none");
        assert!(problem["detail"].as_str().expect("text").contains("127"), "{problem}");
        let line = format!("{{\"value\":{}}}\n", nested(depth));
        scene.client.post(MESSAGES, NDJSON, line).await.problem(400, "malformed", "none");
        scene.client.post(RAW, JSON, nested(depth)).await.problem(400, "malformed", "none");
    }
    let mixed = format!("{}1{}", "{\"a\":[".repeat(64), "]}".repeat(64));
    scene.publish(of(&mixed)).await.problem(400, "malformed", "none");
    scene.is_unchanged().await;
    // Brackets inside a text are no levels.
    let text = format!("\"{}\\\"{}\"", "[".repeat(500), "{".repeat(500));
    for (offset, value) in [(3, nested(127)), (4, text)] {
        assert_eq!(scene.publish(of(&value)).await.results(), [(0, offset)]);
        let page = scene.client.read("orders", 0, &format!("from={offset}")).await;
        assert!(page.text().contains(&format!("\"value\":{value}")), "{}", page.text());
    }
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_settings_and_fields_are_malformed() {
    let scene = Scene::new().await;
    let body = format!("{{\"messages\":[{{\"headers\":{{\"a\":{}}}}}]}}", nested(200));
    scene.publish(body).await.problem(400, "malformed", "none");
    let body = format!("{{\"partitions\":{}}}", nested(200));
    for method in [Method::PUT, Method::PATCH] {
        let request = scene.client.request(method, "/v1/topics/orders").body(body.clone());
        let answer = scene.client.send(request.header("content-type", JSON)).await;
        answer.problem(400, "malformed", "none");
    }
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_content_type_is_pointed_to_raw() {
    let scene = Scene::new().await;
    let body = r#"{"messages":[{"value":1}]}"#;
    for kind in ["text/plain", "application/xml", "application/octet-stream", "x", "a/b; c=d"] {
        let problem = scene.client.post(MESSAGES, kind, body).await;
        let problem = problem.problem(415, "unsupported_media_type", "none");
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.contains("/v1/topics/orders/messages/raw"), "{kind}: {detail}");
    }
    for method in [Method::PUT, Method::PATCH] {
        let request = scene.client.request(method, "/v1/topics/orders").body("partitions: 8");
        let answer = scene.client.send(request.header("content-type", "text/yaml")).await;
        answer.problem(415, "unsupported_media_type", "none");
    }
    let request = scene.client.request(Method::POST, MESSAGES).body(body);
    let brotli = scene.client.send(request.header("content-encoding", "br")).await;
    brotli.problem(415, "unsupported_media_type", "none");
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_in_its_encoding_is_malformed() {
    let scene = Scene::new().await;
    for encoding in ["gzip", "zstd"] {
        let request = scene.client.request(Method::POST, MESSAGES).body("{\"messages\":[]}");
        let request = request.header("content-type", JSON).header("content-encoding", encoding);
        scene.client.send(request).await.problem(400, "malformed", "none");
    }
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_bad_line_ends_a_stream_and_those_before_it_stand() {
    let scene = Scene::new().await;
    let good = json!({"value": 7, "partition": 0}).to_string();
    for bad in ["{", "{\"valeu\":1}", "[]", "{\"partition\":9}", "{\"value_base64\":\"*\"}"] {
        let lines = scene.client.post(MESSAGES, NDJSON, format!("{bad}\n{good}\n")).await;
        let problem = lines.value();
        assert!(lines.status == 400 || lines.status == 422, "{problem}");
        assert_eq!((&problem["effect"], &problem["line"]), (&json!("none"), &json!(1)), "{bad}");
    }
    scene.is_unchanged().await;
    let body = format!("{good}\n\n{good}\n{{\"valeu\":1}}\n{good}\n");
    let answer = scene.client.post(MESSAGES, NDJSON, body).await;
    assert_eq!(answer.status, 200);
    let lines: Vec<serde_json::Value> =
        answer.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, offset) in lines.iter().zip([3, 4]) {
        assert_eq!(*line, json!({"partition": 0, "offset": offset, "durability": "local"}));
    }
    let error = &lines[2]["error"];
    assert_eq!((&error["code"], &error["line"]), (&json!("unknown_field"), &json!(4)), "{error}");
    assert_eq!(scene.client.watermarks("orders", 0).await, (0, 5));
    assert_eq!(scene.client.post(MESSAGES, NDJSON, "\n\n").await.status, 422);
    scene.node.stop().await.expect("stops");
}
