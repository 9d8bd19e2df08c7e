//! The way to the server: one request, its repeats where a repeat is harmless, its answer.

use std::{io::Read, time::Duration};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, Url, header};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::{CliError, args::ServerArgs, problem::Problem};
use crate::config::Secret;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From sending a request to the end of its answer, beyond what it asks the server to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A page of messages may be 16 MiB of control characters, six bytes of JSON each.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;
const TOKEN_BYTES_MAX: u64 = 64 * 1024;
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// How long repeats go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// One try.
    None,
    /// Somebody waits at the terminal: a second where nothing answers, ten where the server says
    /// that it is busy.
    Command,
    /// Work under way that a restart of the node should not end: a minute.
    Stream,
}

impl Patience {
    fn refused(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Command => Duration::from_secs(1),
            Self::Stream => Duration::from_secs(60),
        }
    }

    fn busy(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Command => Duration::from_secs(10),
            Self::Stream => Duration::from_secs(60),
        }
    }
}

/// A request. Those by GET and PUT may be repeated after anything; others only where the first
/// try is known to have had no effect.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Bytes>,
    wait: Duration,
    patience: Patience,
    is_harmless: bool,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        let (wait, patience) = (Duration::ZERO, Patience::Command);
        let (query, is_harmless) = (Vec::new(), matches!(method, Method::GET | Method::PUT));
        Self { method, path: path.into(), query, body: None, wait, patience, is_harmless }
    }

    /// `GET`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// `DELETE`.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// `PUT` of JSON.
    pub fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { body: Some(body.into()), ..Self::new(Method::PUT, path) }
    }

    /// `POST` of JSON.
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { body: Some(body.into()), ..Self::new(Method::POST, path) }
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Asks the server to wait, in whole seconds, for something to answer.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self.query("wait", format!("{}s", wait.as_secs()))
    }

    /// Leaves the server time for a wait that the body asks for.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// To repeat it does nothing that was not done by the first try.
    #[must_use]
    pub fn harmless(mut self) -> Self {
        self.is_harmless = true;
        self
    }

    /// Sets how long repeats go on.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    fn is_idempotent(&self) -> bool {
        self.is_harmless
    }
}

/// A success.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The server's time of day as its `Date` header tells it.
    pub date: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Reads the body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            CliError::Failed(format!("the server's answer was not understood: {error}"))
        })
    }
}

/// A connection pool to one server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret>,
}

impl Client {
    /// Prepares the way to the server of `args`; nothing is sent yet. Reads standard input when
    /// the token comes from there.
    pub fn new(args: &ServerArgs) -> Result<Self, CliError> {
        let base = base_url(&args.url)?;
        let token = if args.token_stdin {
            Some(token_of(std::io::stdin())?)
        } else {
            std::env::var("POSTRIDER_TOKEN").ok().map(Secret::new)
        };
        let token = token.filter(|token| !token.expose().trim().is_empty());
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        if base.scheme() == "http" {
            // Else building fails on a machine without ca-certificates, which plain HTTP can do
            // without.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| {
            CliError::Failed(format!("HTTPS cannot be set up: {}", chain(&error)))
        })?;
        Ok(Self { http, base, token })
    }

    /// The server's address as messages name it.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Sends `call`, repeats it where that is harmless, and gives its success.
    pub async fn send(&self, call: &Call) -> Result<Answer, CliError> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(200);
        loop {
            let error = match self.once(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let (patience, after) = match &error {
                CliError::Unreachable { .. } => (call.patience.refused(), pause),
                CliError::Lost { .. } if call.is_idempotent() => (call.patience.refused(), pause),
                CliError::Problem(problem) if is_worth_repeating(call, problem) => {
                    let told = problem.retry_after_s.map(Duration::from_secs);
                    (call.patience.busy(), told.unwrap_or(pause).min(RETRY_AFTER_MAX))
                }
                _ => return Err(error),
            };
            if began.elapsed() + after > patience {
                return Err(error);
            }
            sleep(after).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// A request to be filled in.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token.expose().trim()),
            None => request,
        }
    }

    async fn once(&self, call: &Call) -> Result<Answer, CliError> {
        let mut request = self
            .request(call.method.clone(), &call.path)
            .query(&call.query)
            .timeout(ANSWER_TIMEOUT + call.wait);
        if let Some(body) = &call.body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        let response = request.send().await.map_err(|error| self.failed(error))?;
        self.read(response).await
    }

    /// Reads an answer: its success, or its problem.
    pub(super) async fn read(&self, response: Response) -> Result<Answer, CliError> {
        let status = response.status();
        let told = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (date, request_id) = (told("date"), told("x-request-id"));
        let retry_after_s = told("retry-after").and_then(|text| text.parse().ok());
        let body = self.body(response).await?;
        if status.is_success() {
            return Ok(Answer { status: status.as_u16(), date, body });
        }
        let mut problem = Problem::read(status.as_u16(), request_id.as_deref(), &body);
        problem.retry_after_s = retry_after_s;
        Err(CliError::Problem(Box::new(problem)))
    }

    async fn body(&self, mut response: Response) -> Result<Bytes, CliError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(CliError::Failed(format!(
                    "the answer has more than {ANSWER_BYTES_MAX} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }

    pub(super) fn failed(&self, error: reqwest::Error) -> CliError {
        let url = self.address().to_owned();
        if error.is_builder() {
            return CliError::Usage(format!("the request to {url} cannot be made: {error}"));
        }
        let unreachable = error.is_connect();
        let detail = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            chain(&error.without_url())
        };
        if unreachable {
            CliError::Unreachable { url, detail }
        } else {
            CliError::Lost { url, detail }
        }
    }
}

fn is_worth_repeating(call: &Call, problem: &Problem) -> bool {
    match problem.http_status {
        429 | 503 => call.is_idempotent() || problem.had_no_effect(),
        // A proxy whose node is away. Only work under way is worth it.
        502 | 504 => call.is_idempotent() && call.patience == Patience::Stream,
        _ => false,
    }
}

fn base_url(text: &str) -> Result<Url, CliError> {
    let text = if text.trim().is_empty() { "http://127.0.0.1:8080" } else { text.trim() };
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| CliError::Usage("--url is not http://HOST:PORT or https://…".to_owned()))?;
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "--url holds a user or password; give a token by POSTRIDER_TOKEN";
        return Err(CliError::Usage(hint.to_owned()));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn token_of(input: impl Read) -> Result<Secret, CliError> {
    let mut text = String::new();
    let read = input.take(TOKEN_BYTES_MAX).read_to_string(&mut text);
    match (read, text.trim()) {
        (Ok(_), token) if !token.is_empty() => Ok(Secret::new(token)),
        _ => Err(CliError::Usage("--token-stdin: there was no token to read".to_owned())),
    }
}

/// An error with its causes. The outer ones mostly say only that there was an error.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_http_without_credentials() {
        assert_eq!(base_url(" ").expect("default").as_str(), "http://127.0.0.1:8080/");
        assert_eq!(base_url("https://a/b/").expect("valid").path(), "/b/");
        for bad in ["a", "localhost:8080", "ftp://a", "http://", "http://u:s3cret@a", "http://u@a"]
        {
            let error = base_url(bad).expect_err(bad).to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        for (url, loopback) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(is_loopback(&base_url(url).expect(url)), loopback, "{url}");
        }
    }

    #[test]
    fn a_token_is_trimmed_and_never_empty() {
        assert_eq!(token_of(&b" abc\n"[..]).expect("there").expose(), "abc");
        assert!(token_of(&b" \n"[..]).is_err());
    }
}
