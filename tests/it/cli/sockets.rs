//! The socket of the small server: publishes with producers, subscriptions without group.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering,
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, Response, StatusCode},
};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use postrider::lifecycle::Lifecycle;
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::server::{Inner, Server, problem};

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// Upgrades.
pub async fn upgrade(
    State(server): State<Server>,
    headers: HeaderMap,
    mut request: Request,
) -> Response<Body> {
    let key = headers.get("sec-websocket-key").expect("a key").as_bytes();
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", derive_accept_key(key))
        .header("sec-websocket-protocol", "postrider.v1.json");
    let upgrading = hyper::upgrade::on(&mut request);
    Lifecycle::new().spawn(async move {
        let Ok(upgraded) = upgrading.await else { return };
        let io = TokioIo::new(upgraded);
        let stream = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        let session = Session { server, headers, subs: BTreeMap::new(), next: HashMap::new() };
        session.run(stream).await;
    });
    answer.body(Body::empty()).expect("an answer")
}

struct Sub {
    topic: String,
    next: Vec<usize>,
    credit: usize,
}

struct Session {
    server: Server,
    headers: HeaderMap,
    subs: BTreeMap<String, Sub>,
    /// By producer the sequence that is taken next.
    next: HashMap<String, i64>,
}

impl Session {
    async fn run(mut self, mut stream: Stream) {
        let mut changes = self.server.changes();
        loop {
            let answers = tokio::select! {
                message = stream.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let frame: Value = serde_json::from_str(&text).expect("JSON");
                        let answers = self.answer(&frame);
                        self.server.saw(self.method(&frame), &self.headers,
                            text.as_bytes());
                        if self.server.vanishes.swap(false, Ordering::Relaxed) {
                            return;
                        }
                        answers
                    }
                    Some(Ok(_)) => continue,
                    _ => return,
                },
                changed = changes.changed() => {
                    changed.expect("the server lives");
                    Vec::new()
                }
            };
            let answers = answers.into_iter().chain(self.deliveries());
            for answer in answers {
                if stream.send(Message::text(answer.to_string())).await.is_err() {
                    return;
                }
            }
            if self.server.drains.swap(false, Ordering::Relaxed) {
                let told = json!({"op": "draining", "reconnect_after": "10ms"}).to_string();
                let _ = stream.send(Message::text(told)).await;
            }
            let end = self.server.lock().ends.pop_front();
            if let Some(code) = end {
                let Some(code) = code else { return };
                let frame = CloseFrame { code: CloseCode::from(code), reason: "as told".into() };
                let _ = stream.close(Some(frame)).await;
            }
        }
    }

    fn method(&self, frame: &Value) -> Method {
        if frame["op"] == "publish" { Method::POST } else { Method::GET }
    }

    fn answer(&mut self, frame: &Value) -> Vec<Value> {
        let sub = frame["sub"].as_str().unwrap_or_default().to_owned();
        let answer = match frame["op"].as_str().expect("an op") {
            "publish" => self.publish(frame),
            "subscribe" => self.subscribe(frame, &sub),
            "unsubscribe" => {
                self.subs.remove(&sub);
                Ok(json!({"op": "ok", "sub": sub}))
            }
            "credit" => {
                if let Some(sub) = self.subs.get_mut(&sub) {
                    sub.credit += frame["messages"].as_u64().unwrap_or(0) as usize;
                }
                return Vec::new();
            }
            other => panic!("{other}"),
        };
        let mut answer = answer.unwrap_or_else(|problem| json!({"op": "error", "error": problem}));
        answer["id"] = frame["id"].clone();
        vec![answer]
    }

    fn publish(&mut self, frame: &Value) -> Result<Value, Value> {
        let mut inner = self.server.lock();
        let producer = frame["producer"]["id"].as_str().expect("a producer").to_owned();
        let sequence = frame["producer"]["sequence"].as_i64().expect("a sequence");
        let next = self.next.entry(producer.clone()).or_insert(sequence);
        if sequence > *next {
            return Err(refusal(
                409,
                &json!({"code": "out_of_turn", "effect": "none",
                "retryable": true}),
            ));
        }
        if let Some(results) = inner.marks.get(&(producer.clone(), sequence)) {
            *next = (*next).max(sequence + 1);
            return Ok(json!({"op": "ok", "results": results, "durability": "local",
                "duplicate": true}));
        }
        if let Some(problem) = inner.refusals.get(&sequence) {
            *next += 1;
            return Err(refusal(413, problem));
        }
        if let Some((status, problem)) = inner.failures.pop_front() {
            let is_final =
                problem["retryable"] != true && status != StatusCode::SERVICE_UNAVAILABLE;
            *next += i64::from(is_final);
            return Err(refusal(status.as_u16(), &problem));
        }
        let topic = frame["topic"].as_str().expect("a topic");
        if !inner.topics.contains_key(topic) {
            return Err(refusal(404, &problem("not_found", "none")));
        }
        let messages = frame["messages"].as_array().expect("messages").clone();
        let results: Vec<Value> =
            messages.into_iter().map(|message| inner.append(topic, message)).collect();
        let results = json!(results);
        *next += 1;
        inner.marks.insert((producer, sequence), results.clone());
        Ok(json!({"op": "ok", "results": results, "durability": "local"}))
    }

    fn subscribe(&mut self, frame: &Value, sub: &str) -> Result<Value, Value> {
        let inner = self.server.lock();
        let name = frame["topic"].as_str().expect("a topic");
        let Some(topic) = inner.topics.get(name) else {
            return Err(refusal(404, &problem("not_found", "none")));
        };
        let (mut next, mut recovered) = (Vec::new(), true);
        for partition in 0..topic.partitions.len() {
            let (low, high) = inner.watermarks(name, partition);
            let from = &frame["from"];
            let offset = match from.as_str() {
                None | Some("latest") if !from.is_object() => high,
                Some("earliest") => low,
                Some(text) => text.parse().unwrap_or(0),
                None => from[partition.to_string()].as_u64().unwrap_or(0) as usize,
            };
            if (low..=high).contains(&offset) {
                next.push(offset);
            } else if frame["log"].is_string() {
                (recovered, _) = (false, next.push(low));
            } else {
                return Err(out_of_range(low, high));
            }
        }
        let positions: BTreeMap<String, usize> = next
            .iter()
            .enumerate()
            .map(|(partition, next)| (partition.to_string(), *next))
            .collect();
        let mut ok = json!({"op": "ok", "sub": sub, "log": "the-log", "recovered": recovered,
            "positions": {name: positions}});
        if !recovered {
            ok["reason"] = json!("offset_out_of_range");
        }
        let credit = frame["credit"].as_u64().unwrap_or(1_000) as usize;
        self.subs.insert(sub.to_owned(), Sub { topic: name.to_owned(), next, credit });
        Ok(ok)
    }

    /// What there is for the subscriptions, and which of them end.
    fn deliveries(&mut self) -> Vec<Value> {
        let inner = self.server.lock();
        let (mut frames, mut ended) = (Vec::new(), Vec::new());
        for (name, sub) in &mut self.subs {
            let end = sub.deliver(name, &inner, &mut frames);
            if let Some(error) = end {
                frames.push(json!({"op": "closed", "sub": name, "error": error}));
                ended.push(name.clone());
            }
        }
        self.subs.retain(|name, _| !ended.contains(name));
        frames
    }
}

impl Sub {
    fn deliver(&mut self, name: &str, inner: &Inner, frames: &mut Vec<Value>) -> Option<Value> {
        let Some(topic) = inner.topics.get(&self.topic) else {
            return Some(refusal(404, &problem("not_found", "none")));
        };
        self.next.resize(topic.partitions.len(), 0);
        for (partition, next) in self.next.iter_mut().enumerate() {
            let (low, high) = inner.watermarks(&self.topic, partition);
            if *next < low {
                return Some(out_of_range(low, high));
            }
            let count = (high - *next).min(self.credit).min(100);
            if count == 0 {
                continue;
            }
            let items = topic.partitions[partition][*next..*next + count].iter().map(|message| {
                let mut item = message.clone();
                item.as_object_mut().expect("an object").remove("partition");
                item
            });
            let items: Vec<Value> = items.collect();
            frames.push(json!({"op": "messages", "sub": name, "topic": self.topic,
                "partition": partition, "messages": items}));
            *next += count;
            self.credit -= count;
        }
        let more = self.next.iter().zip(&topic.partitions).any(|(next, all)| *next < all.len());
        if more && self.credit > 0 { self.deliver(name, inner, frames) } else { None }
    }
}

fn refusal(status: u16, problem: &Value) -> Value {
    let mut problem = problem.clone();
    problem["status"] = json!(status);
    problem
}

fn out_of_range(low: usize, high: usize) -> Value {
    let mut problem = problem("offset_out_of_range", "none");
    problem["low_watermark"] = low.into();
    problem["high_watermark"] = high.into();
    refusal(422, &problem)
}
