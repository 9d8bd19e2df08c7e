//! A server that speaks the interface's shapes, records what it was asked and fails on demand.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use postrider::lifecycle::Lifecycle;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use super::sockets;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub token: Option<String>,
    pub body: Value,
}

#[derive(Debug, Default)]
pub struct Topic {
    settings: Map<String, Value>,
    pub partitions: Vec<Vec<Value>>,
    low: u64,
}

#[derive(Debug, Default)]
pub struct Inner {
    pub topics: BTreeMap<String, Topic>,
    seen: Vec<Seen>,
    pub failures: VecDeque<(StatusCode, Value)>,
    /// What producers' sequences are refused with.
    pub refusals: BTreeMap<i64, Value>,
    /// How a socket is ended at its next turn: closed with a code, or just lost.
    pub ends: VecDeque<Option<u16>>,
    /// What was answered to a producer's sequence.
    pub marks: BTreeMap<(String, i64), Value>,
}

/// The server; dropped, it stops.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<u64>,
    /// The next frame of a socket is done, and its connection ends without an answer.
    pub vanishes: Arc<AtomicBool>,
    /// A socket is told that the node stops, after its next frame.
    pub drains: Arc<AtomicBool>,
    pub url: String,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = Self {
            inner: Arc::default(),
            changed: watch::channel(0).0,
            vanishes: Arc::default(),
            drains: Arc::default(),
            url,
        };
        let routes = Router::new()
            .route("/healthz", get(|| async { "ok" }))
            .route("/readyz", get(ready))
            .route("/openapi.json", get(document))
            .route("/v1/topics", get(list))
            .route("/v1/topics/{topic}", get(show).put(put).delete(remove))
            .route("/v1/ws", get(sockets::upgrade))
            .route("/v1/topics/{topic}/partitions/{partition}/messages", get(read))
            .with_state(server.clone());
        Lifecycle::new().spawn(async move { axum::serve(listener, routes).await });
        server
    }

    /// A topic of that many partitions.
    pub async fn with_topic(topic: &str, partitions: usize) -> Self {
        let server = Self::start().await;
        server.set_partitions(topic, partitions);
        server
    }

    /// The next publish, or readiness, fails so.
    pub fn fail(&self, status: u16, problem: Value) {
        let status = StatusCode::from_u16(status).expect("a status");
        self.lock().failures.push_back((status, problem));
    }

    /// Appends texts to a partition.
    pub fn append(&self, topic: &str, partition: u32, texts: &[&str]) {
        self.append_over(topic, partition, texts, 0);
    }

    pub fn set_partitions(&self, topic: &str, partitions: usize) {
        let mut inner = self.lock();
        let topic = inner.topics.entry(topic.to_owned()).or_default();
        topic.settings.insert("partitions".to_owned(), partitions.into());
        topic.partitions.resize_with(partitions, Vec::new);
    }

    /// Appends texts to a partition while retention takes all below `low`.
    pub fn append_over(&self, topic: &str, partition: u32, texts: &[&str], low: u64) {
        let mut inner = self.lock();
        for text in texts {
            inner.append(topic, json!({"value_text": text, "partition": partition}));
        }
        inner.topics.get_mut(topic).expect("a topic").low = low;
        drop(inner);
        self.changed.send_modify(|version| *version += 1);
    }

    pub fn delete(&self, topic: &str) {
        self.lock().topics.remove(topic);
        self.changed.send_modify(|version| *version += 1);
    }

    /// All messages of a topic, partition after partition.
    pub fn messages(&self, topic: &str) -> Vec<Value> {
        self.lock().topics[topic].partitions.concat()
    }

    pub fn seen(&self, method: &Method) -> Vec<Seen> {
        let of_method = |seen: &&Seen| seen.method == method;
        self.lock().seen.iter().filter(of_method).cloned().collect()
    }

    /// Waits until the requests so far satisfy `condition`.
    pub async fn until(&self, condition: impl Fn(&[Seen]) -> bool) {
        let mut changes = self.changed.subscribe();
        let met = async {
            while !condition(&self.lock().seen) {
                changes.changed().await.expect("the server lives");
            }
        };
        timeout(super::DEADLINE, met).await.expect("is asked for in time");
    }

    /// Ends the next socket that has something to do, with a code or without a word.
    pub fn end_sockets(&self, code: Option<u16>) {
        self.lock().ends.push_back(code);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Tells of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test thread has panicked in it")
    }

    pub fn saw(&self, method: Method, headers: &HeaderMap, body: &[u8]) {
        let token = headers.get("authorization").and_then(|value| value.to_str().ok());
        self.lock().seen.push(Seen {
            method,
            token: token.map(str::to_owned),
            body: serde_json::from_slice(body).unwrap_or(Value::Null),
        });
        self.changed.send_modify(|version| *version += 1);
    }
}

impl Inner {
    /// Low and high watermark.
    pub fn watermarks(&self, topic: &str, partition: usize) -> (usize, usize) {
        let topic = &self.topics[topic];
        let high = topic.partitions[partition].len();
        (high.min(topic.low as usize), high)
    }

    pub fn append(&mut self, topic: &str, mut message: Value) -> Value {
        let topic = self.topics.get_mut(topic).expect("a topic");
        let key = message["key"].as_str().unwrap_or_default();
        let hash: usize = key.bytes().map(usize::from).sum();
        let partition = message["partition"].as_u64().map_or(hash, |partition| partition as usize)
            % topic.partitions.len();
        let offset = topic.partitions[partition].len();
        message["partition"] = partition.into();
        message["offset"] = offset.into();
        message["timestamp"] = "2026-11-24T10:00:00.000Z".into();
        topic.partitions[partition].push(message);
        json!({"partition": partition, "offset": offset})
    }
}

pub fn problem(code: &str, effect: &str) -> Value {
    json!({"code": code, "detail": "as told", "effect": effect, "request_id": "r-1"})
}

fn refused(status: StatusCode, problem: Value) -> Response {
    let kind = [("content-type", "application/problem+json"), ("retry-after", "0")];
    (status, kind, problem.to_string()).into_response()
}

fn missing() -> Response {
    refused(StatusCode::NOT_FOUND, problem("not_found", "none"))
}

async fn ready(State(server): State<Server>) -> Response {
    match server.lock().failures.pop_front() {
        Some((status, problem)) => refused(status, problem),
        None => "ok".into_response(),
    }
}

async fn document() -> Json<Value> {
    Json(json!({"info": {"version": "0.0.1"}}))
}

async fn list(
    State(server): State<Server>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    server.saw(Method::GET, &headers, b"");
    let prefix = query.get("prefix").map_or("", |prefix| prefix);
    let after = query.get("page_token").map_or("", |token| token);
    let inner = server.lock();
    let mut names = inner.topics.keys().filter(|name| name.starts_with(prefix) && &***name > after);
    let items: Vec<Value> = names
        .by_ref()
        .take(2)
        .map(|name| {
            let mut item = inner.topics[name].settings.clone();
            item.insert("name".to_owned(), json!(name));
            item.into()
        })
        .collect();
    let next = names.next().and(items.last()).map(|last| last["name"].clone());
    Json(json!({"items": items, "next_page_token": next})).into_response()
}

async fn show(
    State(server): State<Server>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    server.saw(Method::GET, &headers, b"");
    match server.lock().topics.get(&name) {
        Some(topic) => Json(topic.settings.clone()).into_response(),
        None => missing(),
    }
}

async fn put(
    State(server): State<Server>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    server.saw(Method::PUT, &headers, &body);
    let told: Map<String, Value> = serde_json::from_slice(&body).expect("an object");
    let stands = server.lock().topics.get(&name).map(|topic| topic.settings.clone());
    if let Some(stands) = stands {
        if told.iter().any(|(field, value)| stands.get(field) != Some(value)) {
            return refused(StatusCode::CONFLICT, problem("already_exists", "none"));
        }
        return Json(stands).into_response();
    }
    let partitions = told.get("partitions").and_then(Value::as_u64).unwrap_or(4);
    server.set_partitions(&name, partitions as usize);
    let mut inner = server.lock();
    let topic = inner.topics.get_mut(&name).expect("just made");
    topic.settings.extend(told);
    topic.settings.entry("retention").or_insert("7d".into());
    (StatusCode::CREATED, Json(topic.settings.clone())).into_response()
}

async fn remove(
    State(server): State<Server>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    server.saw(Method::DELETE, &headers, b"");
    match server.lock().topics.remove(&name) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => missing(),
    }
}

async fn read(
    State(server): State<Server>,
    Path((name, partition)): Path<(String, usize)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    server.saw(Method::GET, &headers, b"");
    let limit: usize = query["limit"].parse().expect("a number");
    let waits = query.get("wait").is_some_and(|wait| wait != "0s");
    let mut changes = server.changed.subscribe();
    loop {
        changes.mark_unchanged();
        {
            let inner = server.lock();
            let Some(topic) = inner.topics.get(&name) else { return missing() };
            let messages = &topic.partitions[partition];
            let (low, high) = inner.watermarks(&name, partition);
            let from = match &*query["from"] {
                "latest" => high,
                "earliest" => low,
                other => other.parse().unwrap_or(0),
            };
            if from < low || from > high {
                let mut problem = problem("offset_out_of_range", "none");
                problem["low_watermark"] = low.into();
                problem["high_watermark"] = high.into();
                return refused(StatusCode::UNPROCESSABLE_ENTITY, problem);
            }
            let page: Vec<&Value> = messages[from..].iter().take(limit).collect();
            if !page.is_empty() || !waits {
                let next = from + page.len();
                let page = json!({"messages": page, "next_offset": next,
                    "high_watermark": high, "low_watermark": low});
                return Json(page).into_response();
            }
        }
        if timeout(Duration::from_secs(20), changes.changed()).await.is_err() {
            return StatusCode::REQUEST_TIMEOUT.into_response();
        }
    }
}
