//! Unknown topics, bad names, unknown fields and parameters, wrong types.

use reqwest::Method;
use serde_json::json;

use super::{JSON, Scene, pointer};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_not_found() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let (topic, messages) = ("/v1/topics/nowhere", "/v1/topics/nowhere/messages");
    let body = r#"{"messages":[{"value":1}]}"#;
    client.post(messages, JSON, body).await.problem(404, "not_found", "none");
    client.post(&format!("{messages}/raw"), "text/plain", "x").await.problem(
        404,
        "not_found",
        "none",
    );
    let lines = client.post(messages, "application/x-ndjson", "{\"value\":1}\n").await;
    lines.problem(404, "not_found", "none");
    client.get(topic).await.problem(404, "not_found", "none");
    client.read("nowhere", 0, "").await.problem(404, "not_found", "none");
    client.json(Method::PATCH, topic, &json!({})).await.problem(404, "not_found", "none");
    client.json(Method::DELETE, topic, &json!({})).await.problem(404, "not_found", "none");
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_name_is_invalid_by_each_rule() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let too_long = "x".repeat(256);
    let names = [
        (too_long.as_str(), "255"),
        ("_internal", "start"),
        (".hidden", "start"),
        ("a%20b", "letters"),
        ("a%2Fb", "letters"),
        ("a%00b", "letters"),
        ("a%07b", "letters"),
        ("a%7Fb", "letters"),
        ("caf%C3%A9", "letters"),
        ("%F0%9F%98%80", "letters"),
        ("a:b", "letters"),
    ];
    for (name, says) in names {
        let topic = format!("/v1/topics/{name}");
        let messages = format!("{topic}/messages");
        let body = r#"{"messages":[{"value":1}]}"#;
        let answers = [
            client.json(Method::PUT, &topic, &json!({})).await,
            client.json(Method::PATCH, &topic, &json!({})).await,
            client.get(&topic).await,
            client.json(Method::DELETE, &topic, &json!({})).await,
            client.post(&messages, JSON, body).await,
            client.post(&format!("{messages}/raw"), "text/plain", "x").await,
            client.get(&format!("{topic}/partitions/0/messages")).await,
        ];
        for answer in answers {
            let problem = answer.problem(422, "invalid", "none");
            assert!(problem["detail"].as_str().expect("text").contains(says), "{name}: {problem}");
        }
    }
    // No UTF-8 is no name, and an empty one is another path.
    client.get("/v1/topics/%FF").await.problem(400, "malformed", "none");
    client.json(Method::PUT, "/v1/topics/", &json!({})).await.problem(404, "not_found", "none");
    client.post("/v1/topics//messages", JSON, "{}").await.problem(422, "invalid", "none");
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_name_and_every_character_are_taken() {
    let scene = Scene::new().await;
    for name in ["x".repeat(255).as_str(), "A.z_0~9-", "0", "~", "-"] {
        assert_eq!(scene.put(name, json!({})).await.status, 201, "{name}");
        assert_eq!(scene.client.publish(name, json!([{"value": 1}])).await[0].1, 0);
    }
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_field_is_named() {
    let scene = Scene::new().await;
    let bodies = [
        (r#"{"messages":[{"value":1}],"mesages":[]}"#, "/mesages"),
        (r#"{"messages":[{"value":1},{"valeu":1}]}"#, "/messages/1/valeu"),
        (r#"{"messages":[{"headers":{"a":{"base65":"AA=="}}}]}"#, "/messages/0/headers/a/base65"),
    ];
    for (body, at) in bodies {
        let problem = scene.publish(body).await.problem(422, "unknown_field", "none");
        assert_eq!(pointer(&problem), at, "{problem}");
    }
    let lines = scene.client.post(super::MESSAGES, "application/x-ndjson", "{\"valeu\":1}\n").await;
    assert_eq!(pointer(&lines.problem(422, "unknown_field", "none")), "/valeu");
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_setting_is_named() {
    let scene = Scene::new().await;
    for answer in [
        scene.put("other", json!({"partitons": 3})).await,
        scene.put("orders", json!({"partitons": 3})).await,
        scene.patch(json!({"partitons": 3})).await,
    ] {
        assert_eq!(pointer(&answer.problem(422, "unknown_field", "none")), "/partitons");
    }
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_parameter_is_named() {
    let scene = Scene::new().await;
    let read = scene.client.read("orders", 0, "form=earliest").await;
    assert_eq!(pointer(&read.problem(422, "unknown_field", "none")), "?form");
    let list = scene.client.get("/v1/topics?pagesize=3").await;
    assert_eq!(pointer(&list.problem(422, "unknown_field", "none")), "?pagesize");
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_type_is_pointed_at() {
    let scene = Scene::new().await;
    let bodies = [
        (r#"[]"#, "nowhere"),
        (r#"[[{"value":1}]]"#, "nowhere"),
        (r#""text""#, "nowhere"),
        (r#"null"#, "nowhere"),
        (r#"{}"#, "/messages"),
        (r#"{"messages":{}}"#, "/messages"),
        (r#"{"messages":null}"#, "/messages"),
        (r#"{"messages":[]}"#, "/messages"),
        (r#"{"messages":[["k"]]}"#, "/messages/0"),
        (r#"{"messages":[null]}"#, "/messages/0"),
        (r#"{"messages":["text"]}"#, "/messages/0"),
        (r#"{"messages":[{"value":1,"key":1}]}"#, "/messages/0/key"),
        (r#"{"messages":[{"value":1},{"value_text":7}]}"#, "/messages/1/value_text"),
        (r#"{"messages":[{"value_text":null}]}"#, "/messages/0/value_text"),
        (r#"{"messages":[{"value_base64":{}}]}"#, "/messages/0/value_base64"),
        (r#"{"messages":[{"headers":[]}]}"#, "/messages/0/headers"),
        (r#"{"messages":[{"headers":{"a":1}}]}"#, "/messages/0/headers/a"),
        (r#"{"messages":[{"headers":{"a":[["b"]]}}]}"#, "/messages/0/headers"),
        (r#"{"messages":[{"partition":"0"}]}"#, "/messages/0/partition"),
        (r#"{"messages":[{"partition":-1}]}"#, "/messages/0/partition"),
        (r#"{"messages":[{"partition":0.0}]}"#, "/messages/0/partition"),
        (r#"{"messages":[{"value":1,"value":2}]}"#, "/messages/0/value"),
        (r#"{"messages":[{"value":1,"value_text":"2"}]}"#, "/messages/0"),
        (r#"{"messages":[{"key":"a","key_base64":"AA=="}]}"#, "/messages/0/key_base64"),
    ];
    for (body, at) in bodies {
        let problem = scene.publish(body).await.problem(422, "invalid", "none");
        let told = pointer(&problem);
        assert!(told == at || (at == "nowhere" && told.is_empty()), "{body}: {problem}");
    }
    scene.ends_unchanged().await;
}
