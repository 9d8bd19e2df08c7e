//! Every way to be refused before a handler does anything: status, code, effect.

use std::{io::Write, time::Duration};

use postrider::api::{accept::AcceptSettings, extract::Bodies};

use super::{Node, get_of, post_of, soon};

const JSON: &str = "content-type: application/json\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).expect("in memory");
    writer.finish().expect("in memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("in memory")
}

async fn small() -> Node {
    let bodies = Bodies::new(1 << 22, 1 << 20, Duration::from_secs(10));
    Node::start(AcceptSettings::default(), bodies).await
}

#[tokio::test]
async fn an_unknown_route_is_not_found() {
    let node = Node::usual().await;
    for path in ["/", "/nothing", "/items", "/items/1/2", "//healthz", "/healthz/"] {
        node.ask(get_of(path)).await.problem(404, "not_found", "none");
    }
}

#[tokio::test]
async fn another_method_is_told_which_ones_there_are() {
    let node = Node::usual().await;
    let answer = node.ask("DELETE /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    answer.problem(405, "method_not_allowed", "none");
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    let answer = node.ask("BREW /orders HTTP/1.1\r\nhost: a\r\n\r\n").await;
    answer.problem(405, "method_not_allowed", "none");
    assert_eq!(answer.header("allow"), Some("POST"));
}

#[tokio::test]
async fn options_and_head_are_answered_without_a_body() {
    let node = Node::usual().await;
    let options = node.ask("OPTIONS /orders HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!((options.status, options.header("allow")), (204, Some("POST")));
    let mut client = node.connect().await;
    for path in ["/healthz", "/nothing"] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    }
    client
        .send("GET /id HTTP/1.1\r\nhost: a\r\nx-request-id: last\r\nconnection: close\r\n\r\n")
        .await;
    let mut read = Vec::new();
    soon(tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut read)).await.expect("all");
    let text = String::from_utf8(read).expect("UTF-8");
    assert_eq!(text.matches("HTTP/1.1 200").count(), 2, "{text}");
    assert_eq!(text.matches("HTTP/1.1 404").count(), 1, "{text}");
    assert!(!text.contains("not_found") && text.ends_with("\r\n\r\nlast"), "{text}");
}

#[tokio::test]
async fn a_long_target_is_refused() {
    let node = Node::usual().await;
    let path = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    node.ask(get_of(&path(8 * 1024 + 1))).await.problem(414, "uri_too_long", "none");
    node.ask(get_of(&path(8 * 1024))).await.problem(404, "not_found", "none");
    let query = format!("/items/1?limit={}", "1".repeat(8 * 1024));
    node.ask(get_of(&query)).await.problem(414, "uri_too_long", "none");
}

#[tokio::test]
async fn a_large_body_is_refused_however_it_comes() {
    let node = small().await;
    assert_eq!(node.ask(post_of("/bytes", "", vec![0; 1 << 20])).await.text(), "1048576");
    let over = vec![0; (1 << 20) + 1];
    let problem =
        node.ask(post_of("/bytes", "", over)).await.problem(413, "body_too_large", "none");
    assert_eq!(problem["body_bytes_max"], 1 << 20);

    let mut client = node.connect().await;
    client.send("POST /bytes HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = [b"8000\r\n".as_slice(), &[b'x'; 0x8000], b"\r\n"].concat();
    let (mut reader, mut writer) = client.stream.split();
    let endless = async {
        loop {
            if tokio::io::AsyncWriteExt::write_all(&mut writer, &chunk).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut read = vec![0; 4096];
    let told = tokio::io::AsyncReadExt::read(&mut reader, &mut read);
    let n = soon(async {
        tokio::select! { () = endless => 0, told = told => told.expect("an answer") }
    })
    .await;
    let answer = super::Answer::parse(&read[..n]).expect("an answer");
    answer.problem(413, "body_too_large", "none");
    assert_eq!(node.shared.taken.available_permits(), 1, "a handler was given a refused body");
}

#[tokio::test]
async fn chunked_bodies_are_read_whole() {
    let node = small().await;
    for (chunks, whole) in [(1, 5), (3, 15), (40_000, 200_000)] {
        let chunks = "5\r\nabcde\r\n".repeat(chunks);
        let head = "POST /bytes HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = node.ask(format!("{head}{chunks}0\r\n\r\n")).await;
        assert_eq!(answer.text(), whole.to_string());
    }
}

#[tokio::test]
async fn encoded_bodies_are_decoded_within_the_limit() {
    let node = small().await;
    let plain = b"0123456789".repeat(100_000);
    let bomb = vec![0; 64 << 20];
    for (name, encode) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("ZSTD", zstd)] {
        let lines = format!("content-encoding: {name}\r\n");
        for (bytes, told) in [(b"".as_slice(), "0"), (b"hello", "5"), (&plain, "1000000")] {
            let answer = node.ask(post_of("/bytes", &lines, encode(bytes))).await;
            assert_eq!(answer.text(), told, "{name}");
        }
        let bomb = encode(&bomb);
        let answer = node.ask(post_of("/bytes", &lines, &bomb)).await;
        answer.problem(413, "body_too_large", "none");
        let whole = encode(&plain);
        for broken in [b"hello".as_slice(), &whole[..whole.len() / 2]] {
            let answer = node.ask(post_of("/bytes", &lines, broken)).await;
            answer.problem(400, "malformed", "none");
        }
    }
}

#[tokio::test]
async fn other_encodings_are_refused() {
    let node = small().await;
    for lines in [
        "content-encoding: br\r\n",
        "content-encoding: gzip, gzip\r\n",
        "content-encoding: gzip\r\ncontent-encoding: gzip\r\n",
        "content-encoding: \u{7f}\r\n",
    ] {
        let answer = node.ask(post_of("/bytes", lines, gzip(b"hello"))).await;
        if lines.contains('\u{7f}') {
            answer.problem(400, "malformed", "none");
        } else {
            answer.problem(415, "unsupported_media_type", "none");
        }
    }
}

#[tokio::test]
async fn bodies_beyond_what_a_node_reads_together_wait_and_are_told_so() {
    let bodies = Bodies::new(1 << 20, 1 << 20, Duration::from_secs(10));
    let node = Node::start(AcceptSettings::default(), bodies).await;
    let whole = post_of("/bytes", "", vec![b'x'; 600_000]);
    let mut first = node.connect().await;
    first.send(&whole[..300_000]).await;
    let mut waits = node.connect().await;
    waits.send(&whole[..100_000]).await;
    let answer = waits.answer().await.expect("an answer");
    assert_eq!(answer.problem(503, "overloaded", "none")["retryable"], true);
    assert_eq!(node.ask(post_of("/bytes", "", "small")).await.text(), "5");
    first.send(&whole[300_000..]).await;
    assert_eq!(first.answer().await.expect("an answer").text(), "600000");
    assert_eq!(node.ask(&whole).await.text(), "600000");
}

#[tokio::test]
async fn json_is_read_from_what_calls_itself_json_or_nothing_or_a_form() {
    let node = Node::usual().await;
    let body = r#"{"name":"a","lines":[]}"#;
    for kind in [
        "",
        "content-type: application/json\r\n",
        "content-type: Application/JSON; charset=utf-8\r\n",
        "content-type: application/merge-patch+json\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
    ] {
        assert_eq!(node.ask(post_of("/orders", kind, body)).await.text(), body, "{kind}");
    }
    for kind in
        ["text/plain", "application/x-ndjson", "application/jsonx", "json", "é", "image/+js"]
    {
        let lines = format!("content-type: {kind}\r\n");
        let answer = node.ask(post_of("/orders", &lines, body)).await;
        answer.problem(415, "unsupported_media_type", "none");
    }
}

#[tokio::test]
async fn what_is_not_json_is_malformed_and_told_where() {
    let node = Node::usual().await;
    let deep = format!("{{\"lines\":{}\"]\\\"\"{}}}", "[".repeat(128), "]".repeat(128));
    for (body, line) in [
        ("", 1),
        ("{", 1),
        ("{\"name\":\n tru}", 2),
        ("{\"name\":\"a\"} x", 1),
        ("{\"name\":\"a\"}{}", 1),
        ("{\"name\":\"\u{0}\"}", 1),
        ("{\"name\":01}", 1),
        (deep.as_str(), 1),
    ] {
        let answer = node.ask(post_of("/orders", JSON, body)).await;
        let problem = answer.problem(400, "malformed", "none");
        assert_eq!(problem["line"], line, "{body}: {problem}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("line") && detail.contains("column"), "{detail}");
    }
    let invalid = [b"{\"name\":\"".as_slice(), &[0xff, 0xfe], b"\"}"].concat();
    node.ask(post_of("/orders", JSON, invalid)).await.problem(400, "malformed", "none");
}

#[tokio::test]
async fn fields_that_do_not_fit_are_pointed_at() {
    let node = Node::usual().await;
    for (body, code, pointer) in [
        (r#"{"name":"a","nmae":1}"#, "unknown_field", "/nmae"),
        (
            r#"{"name":"a","lines":[{"count":1},{"count":1,"x/y~":2}]}"#,
            "unknown_field",
            "/lines/1/x~1y~0",
        ),
        (r#"{"lines":[]}"#, "invalid", "/name"),
        (r#"{"name":"a","lines":[{}]}"#, "invalid", "/lines/0/count"),
        (r#"{"name":7}"#, "invalid", "/name"),
        (r#"{"name":"a","lines":[{"count":-1}]}"#, "invalid", "/lines/0/count"),
        (r#"{"name":"a","lines":[{"count":1.0}]}"#, "invalid", "/lines/0/count"),
        (r#"{"name":"a","name":"b"}"#, "invalid", "/name"),
        (r#"["a",[]]"#, "invalid", ""),
        ("7", "invalid", ""),
        (" null", "invalid", ""),
    ] {
        let answer = node.ask(post_of("/orders", JSON, body)).await;
        let problem = answer.problem(422, code, "none");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
        let detail = problem["errors"][0]["detail"].as_str().expect("a detail");
        assert!(!detail.is_empty() && !detail.contains("at line"), "{detail}");
    }
}

#[tokio::test]
async fn an_error_does_not_repeat_a_megabyte() {
    let node = Node::usual().await;
    let body = format!(r#"{{"name":"a","{}":1}}"#, "é".repeat(500_000));
    let answer = node.ask(post_of("/orders", JSON, body)).await;
    answer.problem(422, "unknown_field", "none");
    assert!(answer.body.len() < 4096, "{} bytes", answer.body.len());
}

#[tokio::test]
async fn parameters_are_checked() {
    let node = Node::usual().await;
    assert_eq!(node.ask(get_of("/items/7?limit=3")).await.text(), "7 Some(3)");
    assert_eq!(node.ask(get_of("/items/%37")).await.text(), "7 None");
    for (path, status, code, pointer) in [
        ("/items/7?limt=3", 422, "unknown_field", Some("?limt")),
        ("/items/7?limit=x", 422, "invalid", Some("?limit")),
        ("/items/7?limit=-1", 422, "invalid", Some("?limit")),
        ("/items/7?limit=1&limit=2", 422, "invalid", Some("?limit")),
        ("/items/7?limit=%zz", 400, "malformed", None),
        ("/items/7?limit=%ff", 400, "malformed", None),
        ("/items/7?limit=%f", 400, "malformed", None),
        ("/items/x", 422, "invalid", None),
        ("/items/-1", 422, "invalid", None),
        ("/items/99999999999", 422, "invalid", None),
        ("/items/%ff", 400, "malformed", None),
        ("/items/%zz", 400, "malformed", None),
    ] {
        let problem = node.ask(get_of(path)).await.problem(status, code, "none");
        let pointed = problem["errors"][0]["pointer"].as_str();
        assert_eq!(pointed, pointer, "{path}: {problem}");
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_and_harms_nobody() {
    let node = Node::usual().await;
    let mut client = node.connect().await;
    for _ in 0..2 {
        client.send(get_of("/panic")).await;
        let problem = client.answer().await.expect("an answer").problem(500, "internal", "unknown");
        assert!(!problem.to_string().contains("told to"), "it tells the client: {problem}");
    }
    client.send(get_of("/healthz")).await;
    assert_eq!(client.answer().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn request_ids_are_taken_over_or_made() {
    let node = Node::usual().await;
    let asked = async |id: &str| {
        let answer =
            node.ask(format!("GET /id HTTP/1.1\r\nhost: a\r\nx-request-id: {id}\r\n\r\n")).await;
        assert_eq!(answer.header("x-request-id"), Some(answer.text()), "handler and header differ");
        answer.text().to_owned()
    };
    for id in ["a", "7c9e6679-7425-40de-944b-e07fc1f90ae7", "~!\"{}", &"x".repeat(128)] {
        assert_eq!(asked(id).await, id);
    }
    let mut made = Vec::new();
    for id in ["", "a b", "é", "a\tb", &"x".repeat(129)] {
        let answer = asked(id).await;
        assert!(answer != id && answer.len() == 25, "{answer}");
        made.push(answer);
    }
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), 5, "ids were made twice");
}

#[tokio::test]
async fn what_a_proxy_would_ask_is_refused() {
    let node = Node::usual().await;
    for target in ["CONNECT example.org:443", "GET http://example.org/nothing", "OPTIONS *"] {
        let answer = node.ask(format!("{target} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        answer.problem(404, "not_found", "none");
    }
}
