//! What looks odd and is kept byte for byte.

use serde_json::{Value, json};

use super::{JSON, MESSAGES, RAW, Scene};

/// JSON values whose bytes a parser would change.
const VALUES: [&str; 18] = [
    "1.0",
    "-0",
    "-0.0",
    "1e400",
    "1E+2",
    "0.1000000000000000055511151231257827",
    "12345678901234567890",
    "-98765432109876543210",
    "99999999999999999999999999999999",
    "{\"a\":1,\"a\":2,\"b\":{\"c\":1,\"c\":1}}",
    "{\"z\":1,\"a\":2}",
    "\"\\u0041\\/\\u00e9\"",
    "\"\\u0000\\u0007\\u001f\"",
    "\"\u{1F680}\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467} \\ud83d\\ude80\"",
    "\"e\u{301} \u{e9} \u{202e}\u{feff}\u{2028}\"",
    "[ 1 , 2,\t3 ]",
    "{ \"a\" :\r\n1 }",
    "null",
];

#[tokio::test(flavor = "multi_thread")]
async fn numbers_duplicate_keys_escapes_and_emoji_are_kept_byte_for_byte() {
    let scene = Scene::new().await;
    let of = |value: &str| format!("{{\"value\":{value},\"partition\":0}}");
    let messages: Vec<String> = VALUES.iter().map(|value| of(value)).collect();
    let body = format!("{{\"messages\":[{}]}}", messages.join(","));
    scene.publish(body).await.results();
    for value in VALUES {
        assert_eq!(scene.client.post(RAW, JSON, value).await.results().len(), 1, "{value}");
    }
    let lines: String =
        VALUES.iter().filter(|value| !value.contains('\n')).map(|v| of(v) + "\n").collect();
    let answer = scene.client.post(MESSAGES, "application/x-ndjson", lines).await;
    assert!(!answer.text().contains("error"), "{}", answer.text());
    let pages =
        [scene.client.read("orders", 0, "").await, scene.client.read("orders", 1, "").await];
    let pages = format!("{}{}", pages[0].text(), pages[1].text());
    for value in VALUES {
        let times = pages.matches(&format!("\"value\":{value}}}")).count();
        assert_eq!(times, if value.contains('\n') { 2 } else { 3 }, "{value} in {pages}");
    }
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_characters_are_kept_in_values_keys_and_headers() {
    let scene = Scene::new().await;
    let all: String =
        (0..0x20).chain([0x7f, 0x80, 0x9f, 0xfffe, 0x10ffff]).filter_map(char::from_u32).collect();
    let message = json!({
        "key": &all, "value": {(&all): [&all]}, "headers": {(&all): &all}, "partition": 0,
    });
    let text = json!({"key": "\0", "value_text": &all, "partition": 0});
    scene.client.publish("orders", json!([message, text])).await;
    let read = scene.client.read_all("orders", 0).await;
    assert_eq!(read[3]["key"], all.as_str());
    assert_eq!(read[3]["value"], message["value"]);
    assert_eq!(read[3]["headers"], message["headers"]);
    assert_eq!((&read[4]["key"], &read[4]["value_text"]), (&json!("\0"), &json!(&all)));
    let raw = scene.client.post(RAW, "text/plain", all.clone()).await.results()[0];
    let page = scene.client.read("orders", raw.0, &format!("from={}", raw.1)).await.ok();
    assert_eq!(page["messages"][0]["value_text"], all.as_str());
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_absence_are_told_apart() {
    let scene = Scene::new().await;
    let messages = [
        json!({}),
        json!({"key": ""}),
        json!({"key": null, "headers": null, "partition": null}),
        json!({"value": null}),
        json!({"value": ""}),
        json!({"value_text": ""}),
        json!({"value_base64": ""}),
        json!({"value_base64": "AP8="}),
        json!({"value_base64": "aGk="}),
        json!({"key_base64": "AP8=", "value": 1}),
        json!({"key_base64": "aGk=", "value": 1}),
        json!({"headers": {"": ""}}),
        json!({"headers": {"a": {"base64": "AP8="}}}),
        json!({"headers": {"a": ["1", "2", {"base64": "AP8="}], "b": "3"}}),
    ];
    let placed: Vec<Value> = messages
        .iter()
        .map(|message| {
            let mut message = message.clone();
            message["partition"] = json!(0);
            message
        })
        .collect();
    scene.client.publish("orders", json!(placed)).await;
    let read = scene.client.read_all("orders", 0).await;
    for (sent, mut found) in messages.iter().zip(read.into_iter().skip(3)) {
        let found = found.as_object_mut().expect("an object");
        for field in ["topic", "partition", "offset", "timestamp"] {
            assert!(found.remove(field).is_some(), "{field}");
        }
        let mut sent = sent.as_object().expect("an object").clone();
        sent.retain(|name, value| !value.is_null() || name == "value");
        assert_eq!(*found, sent);
    }
    scene.node.stop().await.expect("stops");
}
