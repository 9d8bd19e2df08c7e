//! Reading where nothing can be read.

use serde_json::json;

use super::{Scene, pointer};

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_in_the_future_names_both_watermarks() {
    let scene = Scene::new().await;
    for offset in ["4", "1000", "9007199254740992", "9223372036854775807"] {
        let read = scene.client.read("orders", 0, &format!("from={offset}")).await;
        let problem = read.problem(422, "offset_out_of_range", "none");
        assert_eq!(problem["low_watermark"], 0, "{problem}");
        assert_eq!(problem["high_watermark"], 3, "{problem}");
    }
    // The end itself is where the next message will be.
    let page = scene.client.read("orders", 0, "from=3").await.ok();
    assert_eq!((&page["messages"], &page["next_offset"]), (&json!([]), &json!(3)));
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_negative_offset_names_both_watermarks() {
    let scene = Scene::new().await;
    for offset in ["-1", "-9223372036854775808"] {
        let read = scene.client.read("orders", 0, &format!("from={offset}")).await;
        let problem = read.problem(422, "offset_out_of_range", "none");
        assert_eq!(problem["low_watermark"], 0, "{problem}");
        assert_eq!(problem["high_watermark"], 3, "{problem}");
    }
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_of_an_empty_partition_is_out_of_range_beyond_its_start() {
    let scene = Scene::new().await;
    assert_eq!(scene.put("empty", json!({"partitions": 1})).await.status, 201);
    let page = scene.client.read("empty", 0, "from=0").await.ok();
    assert_eq!((&page["high_watermark"], &page["low_watermark"]), (&json!(0), &json!(0)));
    for offset in ["1", "-1"] {
        let read = scene.client.read("empty", 0, &format!("from={offset}")).await;
        let problem = read.problem(422, "offset_out_of_range", "none");
        assert_eq!((&problem["low_watermark"], &problem["high_watermark"]), (&json!(0), &json!(0)));
    }
    assert_eq!(scene.client.publish("empty", json!([{"value": 1}])).await, [(0, 0)]);
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_make_no_sense_are_named() {
    let scene = Scene::new().await;
    let queries = [
        ("from=", "?from"),
        ("from=first", "?from"),
        ("from=1.0", "?from"),
        ("from=2026-13-01T00:00:00Z", "?from"),
        ("from=2026-11-24", "?from"),
        ("limit=0", "?limit"),
        ("limit=10001", "?limit"),
        ("limit=-1", "?limit"),
        ("limit=x", "?limit"),
        ("limit=1.5", "?limit"),
        ("wait=5", "?wait"),
        ("wait=-1s", "?wait"),
        ("wait=31s", "?wait"),
        ("wait=1w", "?wait"),
        ("limit=1&limit=2", "?limit"),
    ];
    for (query, at) in queries {
        let problem = scene.client.read("orders", 0, query).await.problem(422, "invalid", "none");
        assert_eq!(pointer(&problem), at, "{query}");
    }
    for beyond in ["from=99999999999999999999", "from=-99999999999999999999"] {
        let read = scene.client.read("orders", 0, beyond).await;
        read.problem(422, "offset_out_of_range", "none");
    }
    scene.client.read("orders", 0, "from=%zz").await.problem(400, "malformed", "none");
    scene.client.read("orders", 0, "from=%ff").await.problem(400, "malformed", "none");
    for (query, at) in [
        ("page_size=0", "?page_size"),
        ("page_size=1001", "?page_size"),
        ("page_token=a%20b", "?page_token"),
        ("prefix=a%00", "?prefix"),
    ] {
        let list = scene.client.get(&format!("/v1/topics?{query}")).await;
        assert_eq!(pointer(&list.problem(422, "invalid", "none")), at);
    }
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_outside_the_log_mean_its_ends() {
    let scene = Scene::new().await;
    for (time, next) in [("0001-01-01T00:00:00Z", 3), ("9999-12-31T23:59:59.999Z", 3)] {
        let page = scene.client.read("orders", 0, &format!("from={time}")).await.ok();
        assert_eq!(page["next_offset"], next, "{page}");
        let count = page["messages"].as_array().expect("messages").len();
        assert_eq!(count, if time.starts_with('0') { 3 } else { 0 });
    }
    scene.ends_unchanged().await;
}
