//! The way in: accept loop, shell and extractors around handlers of the test's own.

mod accept;
mod asyncapi;
mod drain;
mod errors;
mod openapi;
mod operators;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{FromRef, State},
    routing::{get, post},
};
use bytes::Bytes;
use postrider::{
    api::{
        accept::{AcceptSettings, serve},
        extract::{Bodies, JsonBody, PathParams, QueryParams, ReadBody},
        http::ops,
        layers::RequestId,
    },
    lifecycle::{Lifecycle, Readiness},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

/// No single step of a test may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `step`, but not for ever.
async fn soon<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, step).await.expect("the step took too long")
}

/// What the handlers of these tests share.
#[derive(Clone)]
struct Shared {
    bodies: Bodies,
    lifecycle: Lifecycle,
    readiness: Readiness,
    /// Handlers that wait have entered.
    entered: Arc<Semaphore>,
    /// Handlers that wait may go on.
    gate: Arc<Semaphore>,
    /// Large answers, and handlers that wait, that ended.
    dropped: Arc<Semaphore>,
    /// Bodies that handlers were given.
    taken: Arc<Semaphore>,
}

impl AsRef<Bodies> for Shared {
    fn as_ref(&self) -> &Bodies {
        &self.bodies
    }
}

impl FromRef<Shared> for Lifecycle {
    fn from_ref(shared: &Shared) -> Self {
        shared.lifecycle.clone()
    }
}

impl FromRef<Shared> for Readiness {
    fn from_ref(shared: &Shared) -> Self {
        shared.readiness.clone()
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    name: String,
    #[serde(default)]
    lines: Vec<Line>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    count: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Paging {
    limit: Option<u32>,
}

struct Large(Arc<Semaphore>, Vec<u8>);

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

async fn take(State(shared): State<Shared>, body: ReadBody) -> String {
    shared.taken.add_permits(1);
    body.bytes.len().to_string()
}

async fn wait(State(shared): State<Shared>) -> &'static str {
    let _ends = Large(Arc::clone(&shared.dropped), Vec::new());
    shared.entered.add_permits(1);
    let passed = shared.gate.acquire().await.expect("the gate is never closed");
    passed.forget();
    "waited"
}

async fn large(State(shared): State<Shared>) -> Bytes {
    Bytes::from_owner(Large(shared.dropped, vec![b'x'; 64 * 1024 * 1024]))
}

async fn item(PathParams(n): PathParams<u32>, QueryParams(q): QueryParams<Paging>) -> String {
    format!("{n} {:?}", q.limit)
}

async fn fail() -> &'static str {
    panic!("told to")
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/orders", post(async |JsonBody(order): JsonBody<Order>| Json(order)))
        .route("/bytes", post(take))
        .route("/wait", get(wait))
        .route("/large", get(large))
        .route("/items/{n}", get(item))
        .route("/id", get(async |id: RequestId| id.to_string()))
        .route("/panic", get(fail))
        .route("/healthz", get(ops::get_health))
        .route("/readyz", get(ops::get_readiness))
        .route("/metrics", get(ops::get_metrics))
        .with_state(shared)
}

/// A node that serves the routes above.
struct Node {
    address: SocketAddr,
    shared: Shared,
    served: JoinHandle<()>,
}

impl Node {
    async fn start(settings: AcceptSettings, bodies: Bodies) -> Self {
        let shared = Shared {
            bodies,
            lifecycle: Lifecycle::new(),
            readiness: Readiness::new(),
            entered: Arc::new(Semaphore::new(0)),
            gate: Arc::new(Semaphore::new(0)),
            dropped: Arc::new(Semaphore::new(0)),
            taken: Arc::new(Semaphore::new(0)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (router, lifecycle) = (router(shared.clone()), shared.lifecycle.clone());
        let served = shared.lifecycle.spawn(serve(listener, router, lifecycle, settings));
        Self { address, shared, served }
    }

    async fn usual() -> Self {
        Self::start(AcceptSettings::default(), Bodies::default()).await
    }

    async fn connect(&self) -> Client {
        Client { stream: soon(TcpStream::connect(self.address)).await.expect("it listens") }
    }

    /// One request on a connection of its own.
    async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await.expect("an answer")
    }

    /// The node still answers others.
    async fn is_well(&self) {
        assert_eq!(self.ask("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.status, 200);
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.expect("the node takes it");
    }

    /// The next answer; `None` when the connection ended first.
    async fn answer(&mut self) -> Option<Answer> {
        let mut read = Vec::new();
        loop {
            if let Some(answer) = Answer::parse(&read) {
                return Some(answer);
            }
            let mut buf = [0; 4096];
            match soon(self.stream.read(&mut buf)).await {
                Ok(0) | Err(_) => {
                    assert!(read.is_empty(), "half an answer: {}", String::from_utf8_lossy(&read));
                    return None;
                }
                Ok(n) => read.extend_from_slice(&buf[..n]),
            }
        }
    }

    /// Completes when the node closes; nothing may come before.
    async fn closed(&mut self) {
        let mut buf = [0; 64];
        let read = soon(self.stream.read(&mut buf)).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{:?}", String::from_utf8_lossy(&buf));
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn parse(read: &[u8]) -> Option<Self> {
        let end = read.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8(read[..end].to_vec()).expect("a head is ASCII");
        let status = head.split(' ').nth(1)?.parse().expect("a status");
        let answer = Self { status, head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |n| n.parse().expect("a length"));
        let body = read[end + 4..].get(..length)?.to_vec();
        Some(Self { body, ..answer })
    }

    fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The answer as a problem with every member that clients rely on.
    fn problem(&self, status: u16, code: &str, effect: &str) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["effect"], effect, "{problem}");
        assert_eq!(problem["type"], format!("urn:postrider:error:{code}"));
        assert!(problem["retryable"].is_boolean() && problem["title"].is_string());
        assert!(!problem["detail"].as_str().expect("a detail").is_empty());
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{self:?}");
        problem
    }
}

/// A POST with a body and these header lines.
fn post_of(path: &str, lines: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n{lines}\r\n");
    [head.as_bytes(), body].concat()
}

fn get_of(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}
