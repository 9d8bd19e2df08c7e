//! The forms in which messages come in and lie in the log.

use std::io::Write;

use reqwest::Method;
use serde_json::{Value, json};

use super::{each, one};

const RAW: &str = "/v1/topics/orders/messages/raw";

#[tokio::test(flavor = "multi_thread")]
async fn raw_bodies_come_back_as_what_they_were() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let bodies: [(&str, &[u8], &str, Value); 9] = [
        ("application/json", b" {\"a\": 1.0}\n", "value", json!({"a": 1.0})),
        ("application/cloudevents+json", b"[1]", "value", json!([1])),
        ("text/plain", b"a text\n", "value_text", json!("a text\n")),
        ("TEXT/CSV; charset=utf-8", b"a,b", "value_text", json!("a,b")),
        ("text/plain", b"", "value_text", json!("")),
        ("application/octet-stream", b"\x00\xff", "value_base64", json!("AP8=")),
        ("image/png", b"text", "value_base64", json!("dGV4dA==")),
        ("application/x-ndjson", b"1\n2\n", "value_base64", json!("MQoyCg==")),
        ("", b"\x01", "value_base64", json!("AQ==")),
    ];
    for (offset, (kind, body, field, value)) in bodies.into_iter().enumerate() {
        let mut request = client.request(Method::POST, RAW).body(body.to_vec());
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let request = request
            .header("postrider-key", "k")
            .header("Postrider-Header-Trace-Id", "1")
            .header("postrider-header-trace-id", "2")
            .header("postrider-header-a", "b");
        assert_eq!(client.send(request).await.results(), [(0, offset as i64)], "{kind}");
        let page = client.read("orders", 0, &format!("from={offset}")).await.ok();
        let found = &page["messages"][0];
        assert_eq!(found[field], value, "{kind}");
        assert_eq!(found["key"], "k");
        assert_eq!(found["headers"], json!({"trace-id": ["1", "2"], "a": "b"}));
        let fields = found.as_object().expect("an object").keys();
        assert_eq!(fields.filter(|name| name.starts_with("value")).count(), 1, "{found}");
    }
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lines_are_committed_by_a_thousand_and_answered_each() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 2})).await;
    let path = "/v1/topics/orders/messages";
    let lines: String =
        (0..2_500).map(|n| format!("{{\"key\":\"k{n}\",\"value\":{n}}}\r\n")).collect();
    // The last line needs no end.
    let answer = client.post(path, "application/x-ndjson", lines.trim_end().to_owned()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let results: Vec<Value> =
        answer.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(results.len(), 2_500);
    let logs = [client.read_all("orders", 0).await, client.read_all("orders", 1).await];
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result["durability"], "local");
        let log = &logs[result["partition"].as_u64().expect("a number") as usize];
        assert_eq!(log[result["offset"].as_u64().expect("a number") as usize]["value"], n);
    }
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_may_be_gzip_or_zstd() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let messages: Vec<Value> = (0..1_000).map(|n| json!({"value": n})).collect();
    let plain = serde_json::to_vec(&json!({"messages": messages})).expect("JSON");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("in memory");
    let bodies = [
        ("gzip", gzip.finish().expect("in memory")),
        ("zstd", zstd::encode_all(&*plain, 1).expect("in memory")),
    ];
    for (encoding, body) in bodies {
        assert!(body.len() < plain.len() / 2);
        let request = client.request(Method::POST, "/v1/topics/orders/messages").body(body);
        let request = request.header("content-encoding", encoding);
        let answer = client.send(request.header("content-type", "application/json")).await;
        assert_eq!(answer.results().len(), 1_000, "{encoding}");
    }
    let read = client.read_all("orders", 0).await;
    let expected: Vec<Value> = (0..1_000).chain(0..1_000).map(Value::from).collect();
    assert_eq!(each(&read, "value"), expected.iter().collect::<Vec<_>>());
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_topic_reads_as_it_was_written() {
    let (database, node, client) = one().await;
    let text = "the same words again and again ".repeat(20);
    let messages: Vec<Value> = (0..200)
        .map(|n| json!({"key": format!("k{n}"), "value": [n, text], "headers": {"n": "1"}}))
        .collect();
    let mut sizes = Vec::new();
    for kind in ["none", "lz4", "zstd"] {
        client.put_topic(kind, json!({"partitions": 1, "compression": kind})).await;
        client.publish(kind, json!(messages)).await;
        let read = client.read_all(kind, 0).await;
        for field in ["key", "value", "headers"] {
            assert_eq!(each(&read, field), each(&messages, field), "{kind}");
        }
        let sql = format!(
            "select sum(octet_length(b.records))::bigint from postrider.batches b
             join postrider.partitions p using (partition_id)
             join postrider.topics t on t.topic_id = p.owner_id where t.name = '{kind}'"
        );
        sizes.push(database.number(&sql).await);
    }
    assert!(sizes[1] * 5 < sizes[0] && sizes[2] * 5 < sizes[0], "{sizes:?}");
    // A change of the setting counts for what comes after it.
    let change = json!({"compression": "none"});
    assert_eq!(client.json(Method::PATCH, "/v1/topics/zstd", &change).await.status, 200);
    client.publish("zstd", json!(messages)).await;
    let read = client.read_all("zstd", 0).await;
    assert_eq!(read.len(), 400);
    assert_eq!(each(&read[200..], "value"), each(&messages, "value"));
    node.stop().await.expect("stops");
}
