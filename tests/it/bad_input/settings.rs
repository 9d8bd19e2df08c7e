//! Settings that contradict what stands, or themselves.

use reqwest::Method;
use serde_json::json;

use super::{Scene, pointer};

#[tokio::test(flavor = "multi_thread")]
async fn a_conflicting_redeclaration_names_the_difference() {
    let scene = Scene::new().await;
    let cases = [
        (json!({"partitions": 3}), "/partitions", "partitions is 2, not 3"),
        (json!({"retention": "1h"}), "/retention", "retention is 7d, not 1h"),
        (json!({"compression": "zstd"}), "/compression", "compression is none, not zstd"),
        (json!({"keyless": "round_robin"}), "/keyless", "keyless is sticky, not round_robin"),
        (
            json!({"max_message_bytes": 5}),
            "/max_message_bytes",
            "max_message_bytes is 1048576, not 5",
        ),
    ];
    for (settings, at, says) in cases {
        let problem = scene.put("orders", settings).await.problem(409, "already_exists", "none");
        assert_eq!(pointer(&problem), at);
        assert!(problem["detail"].as_str().expect("text").contains(says), "{problem}");
        assert_eq!(problem["errors"].as_array().expect("errors").len(), 1, "{problem}");
    }
    let two = json!({"partitions": 2, "retention": "1h", "compression": "lz4"});
    let problem = scene.put("orders", two).await.problem(409, "already_exists", "none");
    assert_eq!(problem["errors"].as_array().expect("errors").len(), 2, "{problem}");
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_declaration_again_confirms() {
    let scene = Scene::new().await;
    let same = [
        json!({}),
        json!({"partitions": 2}),
        json!({"retention": "168h", "durability": "local", "retention_bytes": null}),
        json!({"compression": "none", "max_message_bytes": 1_048_576, "keyless": "sticky"}),
        json!({"compression": null}),
    ];
    for settings in same {
        let answer = scene.put("orders", settings).await;
        assert_eq!(answer.ok()["partitions"], 2);
    }
    let bare = scene.client.send(scene.client.request(Method::PUT, "/v1/topics/orders")).await;
    assert_eq!(bare.ok()["name"], "orders");
    scene.ends_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_do_not_shrink() {
    let scene = Scene::new().await;
    let problem = scene.patch(json!({"partitions": 1})).await.problem(422, "invalid", "none");
    assert_eq!(pointer(&problem), "/partitions");
    let problem = scene.put("orders", json!({"partitions": 1})).await;
    problem.problem(409, "already_exists", "none");
    // A default is a number too.
    assert_eq!(scene.put("wide", json!({"partitions": 8})).await.status, 201);
    let reset = json!({"partitions": null});
    let reset = scene.client.json(Method::PATCH, "/v1/topics/wide", &reset).await;
    reset.problem(422, "invalid", "none");
    assert_eq!(scene.client.get("/v1/topics/wide").await.ok()["partitions"], 8);
    scene.node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_out_of_their_range_are_pointed_at() {
    let scene = Scene::new().await;
    let cases = [
        (json!({"partitions": 0}), "/partitions"),
        (json!({"partitions": 1_025}), "/partitions"),
        (json!({"partitions": -1}), "/partitions"),
        (json!({"partitions": "4"}), "/partitions"),
        (json!({"partitions": 4.0}), "/partitions"),
        (json!({"retention": 7}), "/retention"),
        (json!({"retention": "7"}), "/retention"),
        (json!({"retention": "0s"}), "/retention"),
        (json!({"retention": "-1d"}), "/retention"),
        (json!({"retention": "99999999999999999999d"}), "/retention"),
        (json!({"retention_bytes": "x"}), "/retention_bytes"),
        (json!({"retention_bytes": 0}), "/retention_bytes"),
        (json!({"retention_bytes": -1}), "/retention_bytes"),
        (json!({"retention_bytes": 1.5}), "/retention_bytes"),
        (json!({"retention_bytes": 9_007_199_254_740_993_u64}), "/retention_bytes"),
        (json!({"durability": "async"}), "/durability"),
        (json!({"compression": "snappy"}), "/compression"),
        (json!({"max_message_bytes": 0}), "/max_message_bytes"),
        (json!({"max_message_bytes": 16_777_217}), "/max_message_bytes"),
        (json!({"keyless": "random"}), "/keyless"),
    ];
    for (settings, at) in cases {
        for answer in [
            scene.put("new", settings.clone()).await,
            scene.put("orders", settings.clone()).await,
            scene.patch(settings.clone()).await,
        ] {
            let problem = answer.problem(422, "invalid", "none");
            assert_eq!(pointer(&problem), at, "{settings}");
        }
    }
    for body in [json!([4]), json!("x"), json!(null), json!(4)] {
        scene.put("new", body.clone()).await.problem(422, "invalid", "none");
        scene.patch(body).await.problem(422, "invalid", "none");
    }
    scene.ends_unchanged().await;
}
