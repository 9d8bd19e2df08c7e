//! An HTTP client that says what it got.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};

/// A client of one node. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    http: reqwest::Client,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// A client of the node at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()
            .expect("a client");
        Self { base: base.trim_end_matches('/').to_owned(), http }
    }

    /// A request to be filled in.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request; none when the connection brought no answer.
    pub async fn try_send(&self, request: RequestBuilder) -> Option<Answer> {
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.ok()?;
        Some(Answer { status, headers, body })
    }

    /// Sends a request that is answered.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.expect("a whole answer") }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// A request with a JSON body.
    pub async fn json(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.send(self.request(method, path).json(body)).await
    }

    /// POST with a body of this type; none where `content_type` is empty.
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> Answer {
        let mut request = self.request(Method::POST, path).body(body.into());
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        self.send(request).await
    }

    /// Makes a topic.
    pub async fn put_topic(&self, topic: &str, settings: Value) {
        let made = self.json(Method::PUT, &format!("/v1/topics/{topic}"), &settings).await;
        assert_eq!(made.status, 201, "{made:?}");
    }

    /// Publishes messages and returns partition and offset of each.
    pub async fn publish(&self, topic: &str, messages: Value) -> Vec<(u32, i64)> {
        let path = format!("/v1/topics/{topic}/messages");
        let answer = self.json(Method::POST, &path, &json!({"messages": messages})).await;
        answer.results()
    }

    /// Reads a page; `query` as in `from=0&limit=10`.
    pub async fn read(&self, topic: &str, partition: u32, query: &str) -> Answer {
        self.get(&format!("/v1/topics/{topic}/partitions/{partition}/messages?{query}")).await
    }

    /// Reads a partition from its low watermark to its high one.
    pub async fn read_all(&self, topic: &str, partition: u32) -> Vec<Value> {
        let mut found = Vec::new();
        let mut from = "earliest".to_owned();
        loop {
            let page = self.read(topic, partition, &format!("from={from}&limit=10000")).await;
            let mut page = page.ok();
            let Value::Array(messages) = page["messages"].take() else { panic!("{page}") };
            found.extend(messages);
            if page["next_offset"] == page["high_watermark"] {
                return found;
            }
            from = page["next_offset"].to_string();
        }
    }

    /// Low and high watermark.
    pub async fn watermarks(&self, topic: &str, partition: u32) -> (i64, i64) {
        let page = self.read(topic, partition, "from=latest&limit=1").await.ok();
        let mark = |name: &str| page[name].as_i64().expect("an offset");
        (mark("low_watermark"), mark("high_watermark"))
    }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The body as JSON.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// The body of a 200 as JSON.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.value()
    }

    /// Partition and offset of each message of an answered publish.
    pub fn results(&self) -> Vec<(u32, i64)> {
        let answer = self.ok();
        assert_eq!(answer["durability"], "local", "{answer}");
        let results = answer["results"].as_array().expect("results");
        let entry = |entry: &Value| {
            let partition = entry["partition"].as_u64().expect("a partition");
            (partition as u32, entry["offset"].as_i64().expect("an offset"))
        };
        results.iter().map(entry).collect()
    }

    /// The answer as a problem of this status, code and effect, with every member that clients
    /// rely on.
    pub fn problem(&self, status: u16, code: &str, effect: &str) -> Value {
        let kind = self.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        assert_eq!(kind, Some("application/problem+json"), "{self:?}");
        let problem = self.value();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["effect"], effect, "{problem}");
        assert_eq!(problem["type"], format!("urn:postrider:error:{code}"), "{problem}");
        assert!(problem["retryable"].is_boolean() && problem["title"].is_string(), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        let id = self.headers.get("x-request-id").and_then(|id| id.to_str().ok());
        assert_eq!(problem["request_id"].as_str(), id, "{self:?}");
        assert_eq!(self.headers.contains_key("retry-after"), status == 503, "{self:?}");
        problem
    }
}
