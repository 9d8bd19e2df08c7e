//! Connections that are slow, silent, many, or speak nonsense.

use std::time::{Duration, Instant};

use postrider::api::{accept::AcceptSettings, extract::Bodies};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Client, Node, get_of, post_of, soon};

const SHORT: Duration = Duration::from_millis(200);

fn hasty() -> AcceptSettings {
    AcceptSettings { head_timeout: SHORT, ..AcceptSettings::default() }
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let node = Node::start(hasty(), Bodies::default()).await;
    let begun = Instant::now();
    node.connect().await.closed().await;
    assert!(begun.elapsed() >= SHORT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn half_a_head_is_told_so_and_closed() {
    let node = Node::start(hasty(), Bodies::default()).await;
    let mut client = node.connect().await;
    let begun = Instant::now();
    client.send("GET /healthz HTTP/1.1\r\nhost: a\r\n").await;
    let answer = client.answer().await.expect("an answer");
    let problem = answer.problem(408, "head_timeout", "none");
    assert_eq!(problem["retryable"], true);
    assert!(begun.elapsed() >= SHORT, "{:?}", begun.elapsed());
    client.closed().await;
}

#[tokio::test]
async fn a_head_that_drips_is_not_kept_alive_by_its_drops() {
    let node = Node::start(hasty(), Bodies::default()).await;
    let client = node.connect().await;
    let (mut reader, mut writer) = client.stream.into_split();
    let mut paced = tokio::time::interval(SHORT / 10);
    let head = format!("GET /healthz HTTP/1.1\r\nx-a: {}\r\n\r\n", "a".repeat(4096));
    let dripping = async {
        for byte in head.as_bytes() {
            paced.tick().await;
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    let mut read = Vec::new();
    let told = async { reader.read_to_end(&mut read).await };
    soon(async {
        tokio::select! {
            () = dripping => panic!("the whole head was taken"),
            _ = told => {}
        }
    })
    .await;
    assert!(read.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&read));
}

#[tokio::test]
async fn a_connection_may_rest_longer_than_a_head_may_take() {
    let idle = 4 * SHORT;
    let settings = AcceptSettings { idle_timeout: idle, ..hasty() };
    let node = Node::start(settings, Bodies::default()).await;
    let mut client = node.connect().await;
    let mut begun = Instant::now();
    for _ in 0..3 {
        begun = Instant::now();
        client.send(get_of("/healthz")).await;
        assert_eq!(client.answer().await.expect("an answer").status, 200);
    }
    client.closed().await;
    assert!(begun.elapsed() >= idle, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_second_head_that_stops_midway_is_told_so() {
    let node = Node::start(hasty(), Bodies::default()).await;
    let mut client = node.connect().await;
    client.send(get_of("/healthz")).await;
    assert_eq!(client.answer().await.expect("an answer").status, 200);
    client.send("GET /he").await;
    client.answer().await.expect("an answer").problem(408, "head_timeout", "none");
}

#[tokio::test]
async fn a_handler_may_take_longer_than_a_head() {
    let settings = AcceptSettings { idle_timeout: SHORT, write_timeout: SHORT, ..hasty() };
    let node = Node::start(settings, Bodies::default()).await;
    let mut client = node.connect().await;
    client.send(get_of("/wait")).await;
    soon(node.shared.entered.acquire()).await.expect("open").forget();
    let mut silent = node.connect().await;
    for _ in 0..3 {
        silent.closed().await;
        silent = node.connect().await;
    }
    node.shared.gate.add_permits(1);
    assert_eq!(client.answer().await.expect("an answer").text(), "waited");
}

#[tokio::test]
async fn half_a_body_is_told_so() {
    let bodies = Bodies::new(1 << 20, 1 << 20, SHORT);
    let node = Node::start(hasty(), bodies).await;
    for lines in
        ["content-length: 10\r\n", "content-length: 100000\r\n", "transfer-encoding: chunked\r\n"]
    {
        let mut client = node.connect().await;
        let begun = Instant::now();
        client.send(format!("POST /bytes HTTP/1.1\r\nhost: a\r\n{lines}\r\n5")).await;
        let answer = client.answer().await.expect("an answer");
        answer.problem(408, "body_timeout", "none");
        assert!(begun.elapsed() >= SHORT, "{:?}", begun.elapsed());
    }
    assert_eq!(node.shared.taken.available_permits(), 0, "a handler was given half a body");
}

#[tokio::test]
async fn no_body_at_all_is_told_so() {
    let node = Node::start(hasty(), Bodies::new(1 << 20, 1 << 20, SHORT)).await;
    let mut client = node.connect().await;
    client.send("POST /bytes HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n").await;
    client.answer().await.expect("an answer").problem(408, "body_timeout", "none");
}

#[tokio::test]
async fn a_length_that_promises_too_much_changes_nothing() {
    let node = Node::usual().await;
    let mut client = node.connect().await;
    client.send("POST /bytes HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345").await;
    soon(client.stream.shutdown()).await.expect("half closed");
    if let Some(answer) = client.answer().await {
        answer.problem(400, "malformed", "none");
    }
    node.is_well().await;
    assert_eq!(node.shared.taken.available_permits(), 0, "a handler was given half a body");
}

#[tokio::test]
async fn a_length_that_promises_too_little_ends_the_connection() {
    let node = Node::usual().await;
    let mut client = node.connect().await;
    client.send("POST /bytes HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n12345\r\n\r\n").await;
    assert_eq!(client.answer().await.expect("an answer").text(), "3");
    if let Some(answer) = client.answer().await {
        assert_eq!(answer.status, 400);
    }
    client.closed().await;
    node.is_well().await;
}

#[tokio::test]
async fn two_lengths_that_differ_are_refused() {
    let node = Node::usual().await;
    let request =
        "POST /bytes HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n123";
    node.ask(request).await.problem(400, "malformed", "none");
}

#[tokio::test]
async fn nonsense_is_refused_with_a_problem() {
    let node = Node::usual().await;
    for nonsense in ["hello\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /\u{1} HTTP/1.1\r\n\r\n"] {
        let mut client = node.connect().await;
        client.send(nonsense).await;
        client.answer().await.expect("an answer").problem(400, "malformed", "none");
        client.closed().await;
    }
}

#[tokio::test]
async fn a_head_of_too_many_bytes_or_fields_is_refused_with_a_problem() {
    let node = Node::usual().await;
    let bytes = format!("GET /healthz HTTP/1.1\r\nx-a: {}\r\n\r\n", "a".repeat(400 * 1024));
    let fields = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x-a: 1\r\n".repeat(101));
    for head in [bytes, fields] {
        let mut client = node.connect().await;
        let (mut reader, mut writer) = client.stream.split();
        let mut read = Vec::new();
        let (_, told) = soon(async {
            tokio::join!(writer.write_all(head.as_bytes()), reader.read_to_end(&mut read))
        })
        .await;
        told.expect("no reset before the answer is read");
        let answer = super::Answer::parse(&read).expect("an answer");
        answer.problem(431, "head_too_large", "none");
    }
    let most = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x-a: 1\r\n".repeat(100));
    assert_eq!(node.ask(most).await.status, 200);
}

#[tokio::test]
async fn a_client_reads_the_refusal_of_a_body_that_it_goes_on_sending() {
    let node = Node::start(hasty(), Bodies::new(1 << 20, 1 << 20, Duration::from_secs(5))).await;
    let request = post_of("/bytes", "", vec![b'x'; 8 << 20]);
    let mut client = node.connect().await;
    let (mut reader, mut writer) = client.stream.split();
    let mut read = Vec::new();
    let (sent, told) =
        soon(async { tokio::join!(writer.write_all(&request), reader.read_to_end(&mut read)) })
            .await;
    sent.expect("taken to the end");
    told.expect("no reset before the answer is read");
    let answer = super::Answer::parse(&read).expect("an answer");
    answer.problem(413, "body_too_large", "none");
}

#[tokio::test]
async fn connections_over_the_cap_are_told_so() {
    let settings = AcceptSettings { connections_max: 2, ..AcceptSettings::default() };
    let node = Node::start(settings, Bodies::default()).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = node.connect().await;
        client.send(get_of("/healthz")).await;
        assert_eq!(client.answer().await.expect("an answer").status, 200);
        kept.push(client);
    }
    let answer = node.connect().await.answer().await.expect("an answer");
    let problem = answer.problem(503, "overloaded", "none");
    assert_eq!((&problem["retryable"], answer.header("retry-after")), (&true.into(), Some("1")));
    drop(kept.pop());
    soon(async {
        loop {
            let mut client = node.connect().await;
            client.send(get_of("/healthz")).await;
            if client.answer().await.is_some_and(|answer| answer.status == 200) {
                break;
            }
        }
    })
    .await;
    let first = kept.first_mut().expect("one is left");
    first.send(get_of("/healthz")).await;
    assert_eq!(first.answer().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn two_thousand_idle_connections_harm_no_neighbour() {
    let node = Node::usual().await;
    let mut idle = Vec::new();
    for n in 0..2_000 {
        let mut client = node.connect().await;
        if n % 2 == 0 {
            client.send("GET /healthz HTTP/1.1\r\n").await;
        }
        idle.push(client);
    }
    let mut neighbour = node.connect().await;
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let begun = Instant::now();
        neighbour.send(get_of("/healthz")).await;
        assert_eq!(neighbour.answer().await.expect("an answer").status, 200);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let last = idle.last_mut().expect("there are 2,000");
    last.send(get_of("/healthz")).await;
    assert_eq!(last.answer().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let settings = AcceptSettings { write_timeout: SHORT, ..AcceptSettings::default() };
    let node = Node::start(settings, Bodies::default()).await;
    let mut client = node.connect().await;
    client.send(get_of("/large")).await;
    soon(node.shared.dropped.acquire()).await.expect("open").forget();
    node.is_well().await;
}

#[tokio::test]
async fn http2_is_spoken_and_an_unused_connection_is_closed() {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let node = Node::start(hasty(), Bodies::default()).await;
    let mut client = Client { stream: TcpStream::connect(node.address).await.expect("it listens") };
    client.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &SETTINGS].concat()).await;
    let mut frame = [0; 9];
    soon(client.stream.read_exact(&mut frame)).await.expect("a frame");
    assert_eq!(frame[3], 4, "the first frame is SETTINGS");
    let mut rest = Vec::new();
    let _ = soon(client.stream.read_to_end(&mut rest)).await;
    assert!(!rest.starts_with(b"HTTP/1.1"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_handler() {
    let node = Node::start(AcceptSettings::default(), Bodies::default()).await;
    let mut client = node.connect().await;
    client.send(get_of("/wait")).await;
    soon(node.shared.entered.acquire()).await.expect("open").forget();
    drop(client);
    soon(node.shared.dropped.acquire()).await.expect("open").forget();
}

#[tokio::test]
async fn first_bytes_may_come_one_by_one() {
    let node = Node::start(AcceptSettings::default(), Bodies::default()).await;
    let mut client = node.connect().await;
    for byte in get_of("/healthz").as_bytes() {
        client.send([*byte]).await;
    }
    assert_eq!(client.answer().await.expect("an answer").status, 200);
    let mut client = Client { stream: TcpStream::connect(node.address).await.expect("it listens") };
    client.stream.set_nodelay(true).expect("a socket");
    for byte in
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()
    {
        client.send([byte]).await;
    }
    let mut frame = [0; 9];
    soon(client.stream.read_exact(&mut frame)).await.expect("a frame");
    assert_eq!(frame[3], 4, "the first frame is SETTINGS");
    // What begins like the preface and is not it.
    let mut client = node.connect().await;
    client.send("PRI /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.expect("an answer").status, 405);
}
