//! Where a read begins and how far it goes.

use reqwest::Method;
use serde_json::{Value, json};

use super::{each, message, one};

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_no_gap_and_no_overlap() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let mut sent = 0;
    for size in [1, 2, 3, 50, 7, 1, 400, 1] {
        let batch: Vec<Value> = (sent..sent + size).map(|n| json!({"value": n})).collect();
        client.publish("orders", json!(batch)).await;
        sent += size;
    }
    for limit in [1, 2, 7, 100, 464, 465, 466, 10_000] {
        let mut from = 0;
        while from < sent {
            let page = client.read("orders", 0, &format!("from={from}&limit={limit}")).await.ok();
            let messages = page["messages"].as_array().expect("messages");
            assert_eq!(messages.len() as i64, limit.min(sent - from), "from {from} by {limit}");
            for (at, message) in messages.iter().enumerate() {
                let offset = from + at as i64;
                assert_eq!(message["offset"], offset);
                assert_eq!(message["value"], offset);
                assert_eq!(
                    (&message["topic"], &message["partition"]),
                    (&json!("orders"), &json!(0))
                );
            }
            assert_eq!(
                (&page["high_watermark"], &page["low_watermark"]),
                (&json!(sent), &json!(0))
            );
            from = page["next_offset"].as_i64().expect("an offset");
        }
    }
    let page = client.read("orders", 0, "").await.ok();
    assert_eq!(page["messages"].as_array().expect("messages").len(), 465);
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn earliest_latest_and_offsets_mean_what_they_say() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    for query in ["", "from=earliest", "from=latest", "from=0", "from=2020-01-01T00:00:00Z"] {
        let page = client.read("orders", 0, query).await.ok();
        let empty = json!({
            "messages": [], "next_offset": 0, "high_watermark": 0, "low_watermark": 0,
            "log": page["log"]
        });
        assert_eq!(page, empty, "{query}");
    }
    for n in 0..5 {
        client.publish("orders", message(n)).await;
    }
    for (query, first) in [("", 0), ("from=earliest", 0), ("from=0", 0), ("from=3", 3)] {
        let page = client.read("orders", 0, query).await.ok();
        assert_eq!(page["messages"][0]["offset"], first, "{query}");
        assert_eq!(page["next_offset"], 5);
    }
    for query in ["from=latest", "from=5"] {
        let page = client.read("orders", 0, query).await.ok();
        assert_eq!((&page["messages"], &page["next_offset"]), (&json!([]), &json!(5)), "{query}");
    }
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_means_the_first_message_from_then_on_in_every_bucket() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    for n in 0..90 {
        client.publish("orders", json!(vec![json!({"value": n}); 1 + n % 3])).await;
        if n % 30 == 29 {
            // Into a bucket of another class.
            let retention = ["1h", "30d", "1d"][n / 30];
            let retention = json!({"retention": retention});
            let moved = client.json(Method::PATCH, "/v1/topics/orders", &retention).await;
            assert_eq!(moved.status, 200);
        }
    }
    let all = client.read_all("orders", 0).await;
    assert_eq!(all.len(), 180);
    let times: Vec<&str> = all.iter().map(|m| m["timestamp"].as_str().expect("a time")).collect();
    assert!(times.is_sorted(), "timestamps fall: {times:?}");
    for time in &times {
        let page = client.read("orders", 0, &format!("from={time}&limit=1")).await.ok();
        let first = times.iter().position(|other| other >= time).expect("itself");
        assert_eq!(page["messages"][0]["offset"], first, "{time}");
    }
    let mut others: Vec<String> = each(&all, "timestamp")
        .iter()
        .map(|t| t.as_str().expect("text").replace('Z', "%2B00:00"))
        .collect();
    others.dedup();
    let page = client.read("orders", 0, &format!("from={}&limit=1", others[1])).await.ok();
    assert_eq!(page["messages"][0]["timestamp"], others[1].replace("%2B00:00", "Z"));
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_backlog_is_read_in_pages_of_bounded_bytes() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    let text = "x".repeat(100_000);
    for n in 0..12 {
        let batch: Vec<Value> = (0..10).map(|m| json!({"value": [n * 10 + m, text]})).collect();
        client.publish("orders", json!(batch)).await;
    }
    let page = client.read("orders", 0, "from=0&limit=10000").await;
    assert!(page.body.len() < 8 << 20, "a page of {} bytes", page.body.len());
    let count = page.ok()["messages"].as_array().expect("messages").len();
    assert!((10..120).contains(&count), "{count} messages");
    let all = client.read_all("orders", 0).await;
    let numbers: Vec<u64> = all.iter().map(|m| m["value"][0].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (0..120).collect::<Vec<u64>>());
    node.stop().await.expect("stops");
}
