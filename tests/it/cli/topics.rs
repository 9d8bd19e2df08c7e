//! `topic`, exit codes and who is asking.

use axum::http::Method;
use serde_json::json;

use super::{program, ran, ran_with, server::Server};

#[tokio::test(flavor = "multi_thread")]
async fn create_says_created_then_unchanged_and_names_a_conflict() {
    let server = Server::start().await;
    let create = |partitions: &'static str| {
        let args = ["topic", "create", "orders", "--partitions", partitions, "--url", &server.url];
        ran(program(&args))
    };
    let first = create("3").await;
    assert_eq!((first.code, first.err.as_str()), (Some(0), ""));
    assert_eq!(first.text(), "created topic orders (3 partitions, messages kept 7d)\n");
    assert_eq!(server.seen(&Method::PUT)[0].body, json!({"partitions": 3}), "nothing else is told");
    let again = create("3").await;
    assert_eq!(again.code, Some(0));
    assert_eq!(again.text(), "topic orders already stands like that: unchanged\n");
    let other = create("4").await;
    assert_eq!((other.code, other.text()), (Some(1), ""));
    assert_eq!(other.err, "postrider: already_exists: as told (request r-1)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn create_sends_every_setting_by_its_name() {
    let server = Server::start().await;
    let args = "topic create t --partitions 2 --retention 30d --retention-bytes 1000 \
                --compression zstd --keyless round_robin --max-message-bytes 2048 \
                --durability replicated -o json --url";
    let args: Vec<&str> = args.split_whitespace().chain([&*server.url]).collect();
    let created = ran(program(&args)).await;
    let told = json!({"partitions": 2, "retention": "30d", "retention_bytes": 1000,
        "compression": "zstd", "keyless": "round_robin", "max_message_bytes": 2048,
        "durability": "replicated"});
    assert_eq!(server.seen(&Method::PUT)[0].body, told);
    assert_eq!(created.json(), json!({"created": true, "topic": told}));
    for wrong in ["--retention 7w", "--compression gzip", "--partitions x", "--durability none"] {
        let args: Vec<&str> =
            ["topic", "create", "t"].into_iter().chain(wrong.split(' ')).collect();
        assert_eq!(ran(program(&args)).await.code, Some(2), "{wrong}");
    }
    assert_eq!(ran(program(&["topic", "create", "a/b"])).await.code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn list_goes_through_all_pages() {
    let server = Server::start().await;
    for name in ["a1", "a2", "a3", "b1", "a4"] {
        server.set_partitions(name, 2);
    }
    let names = |ran: super::Ran| -> Vec<String> {
        let topics = ran.json();
        let name = |topic: &serde_json::Value| topic["name"].as_str().expect("named").to_owned();
        topics.as_array().expect("an array").iter().map(name).collect()
    };
    let all = ran(program(&["topic", "list", "-o", "json", "--url", &server.url])).await;
    assert_eq!(names(all), ["a1", "a2", "a3", "a4", "b1"]);
    let args = ["topic", "list", "--prefix", "a", "-o", "json", "--url", &server.url];
    assert_eq!(names(ran(program(&args)).await), ["a1", "a2", "a3", "a4"]);
    let table = ran(program(&["topic", "list", "--prefix", "b", "--url", &server.url])).await;
    let lines: Vec<Vec<&str>> =
        table.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "PARTITIONS", "RETENTION", "COMPRESSION", "DURABILITY"]);
    assert_eq!(lines[1][..2], ["b1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn describe_shows_the_watermarks_of_every_partition() {
    let server = Server::with_topic("t", 20).await;
    server.append_over("t", 19, &["a", "b", "c"], 1);
    let told = ran(program(&["topic", "describe", "t", "-o", "json", "--url", &server.url])).await;
    let marks = told.json()["watermarks"].clone();
    assert_eq!(marks.as_array().expect("an array").len(), 20);
    assert_eq!(marks[19], json!({"partition": 19, "low_watermark": 1, "high_watermark": 3}));
    let table = ran(program(&["topic", "describe", "t", "--url", &server.url])).await;
    let last: Vec<&str> = table.text().lines().last().expect("a line").split_whitespace().collect();
    assert_eq!(last, ["19", "1", "3", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_asks_or_is_told_yes() {
    let server = Server::with_topic("t", 1).await;
    let unasked = ran(program(&["topic", "delete", "t", "--url", &server.url])).await;
    assert_eq!(unasked.code, Some(2));
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    assert!(server.seen(&Method::DELETE).is_empty());
    let deleted = ran(program(&["topic", "delete", "t", "--yes", "--url", &server.url])).await;
    assert_eq!((deleted.code, deleted.text()), (Some(0), "deleted topic t\n"));
    let gone = ran(program(&["topic", "delete", "t", "--yes", "--url", &server.url])).await;
    assert_eq!(gone.code, Some(3));
    assert_eq!(gone.err, "postrider: not_found: as told (request r-1)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_answers_the_address_is_named() {
    // A port that was free a moment ago; nothing listens on it.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", free.local_addr().expect("bound"));
    drop(free);
    let told = ran(program(&["topic", "list", "--url", &url])).await;
    assert_eq!(told.code, Some(4));
    assert!(told.err.contains(&url) && told.err.contains("postrider serve"), "{}", told.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_from_the_environment_or_standard_input() {
    let server = Server::start().await;
    let args = ["topic", "list", "--url", &server.url];
    ran(program(&args)).await;
    let mut by_env = program(&args);
    by_env.env("POSTRIDER_TOKEN", "from-env");
    ran(by_env).await;
    let mut by_stdin = program(&["topic", "list", "--token-stdin", "--url", &server.url]);
    by_stdin.env("POSTRIDER_TOKEN", "from-env");
    ran_with(by_stdin, b"from-stdin\n").await;
    let tokens: Vec<Option<String>> =
        server.seen(&Method::GET).into_iter().map(|seen| seen.token).collect();
    let expected = [None, Some("Bearer from-env".to_owned()), Some("Bearer from-stdin".to_owned())];
    assert_eq!(tokens, expected);
    let none = ran_with(program(&["topic", "list", "--token-stdin"]), b"\n").await;
    assert_eq!(none.code, Some(2));
    let mut by_url = program(&["topic", "list"]);
    by_url.env("POSTRIDER_URL", &server.url);
    assert_eq!(ran(by_url).await.code, Some(0));
}
