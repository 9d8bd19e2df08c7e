//! The socket to the server: frames out, frames in, how it ended, and when to try again.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{SinkExt, StreamExt};
use rand::Rng;
use reqwest::{Method, StatusCode, Upgraded, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{CliError, client::Client, problem::Problem};

const PATH: &str = "/v1/ws";
const PROTOCOL: &str = "postrider.v1.json";
/// From asking for the socket to having it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The server pings every 25 s.
const SILENCE_MAX: Duration = Duration::from_secs(70);
/// How long the server may take nothing of a frame.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A frame of one message of 16 MiB, all of it control characters, six bytes of JSON each.
const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// How long a command that has had nothing yet tries to reach a server.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// How long a server that is busy is asked again.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
/// How long work under way waits for a server that restarts.
const PATIENCE: Duration = Duration::from_secs(60);

/// A socket that is open.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<Upgraded>,
    url: String,
}

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    url: String,
    /// The code of the server's close; none where the connection was lost.
    code: Option<u16>,
    detail: String,
}

/// A frame from the server, as far as all have the same fields.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    /// What it is.
    pub op: &'a str,
    /// What it answers.
    #[serde(default)]
    pub id: Option<i64>,
    /// The subscription that it is about.
    #[serde(default)]
    pub sub: Option<&'a str>,
    /// What went wrong.
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    /// When a node that stops wants its clients to come back.
    #[serde(default)]
    reconnect_after: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// Reads what all frames have in common.
    pub fn read(text: &'a str) -> Result<Self, CliError> {
        parse(text)
    }

    /// What went wrong, as the server says it.
    pub fn problem(&self) -> Problem {
        Problem::of_frame(self.error.map_or("", RawValue::get))
    }

    /// After how long a node that stops wants its clients to come back.
    pub fn reconnect_after(&self) -> Duration {
        let told = self.reconnect_after.and_then(|text| crate::model::duration::parse(text).ok());
        told.unwrap_or(PAUSE_MAX).min(BUSY_PATIENCE)
    }
}

/// Reads a frame.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, CliError> {
    serde_json::from_str(text).map_err(|error| {
        CliError::Failed(format!("a frame of the server was not understood: {error}"))
    })
}

impl Ended {
    /// Whether coming back would help nobody.
    fn is_final(&self) -> bool {
        matches!(self.code, Some(1002 | 1003 | 1007..=1009 | 4100..=4199))
    }

    /// The error that [`Retries`] know; at once where coming back would help nobody.
    pub fn into_error(self) -> Result<CliError, CliError> {
        let is_final = self.is_final();
        let Self { url, code, detail } = self;
        match code {
            Some(code) if is_final => {
                let why = if detail.is_empty() { "no reason given" } else { &*detail };
                Err(CliError::Failed(format!("{url} closed the socket: {why} ({code})")))
            }
            _ => Ok(CliError::Lost { url, detail }),
        }
    }
}

/// Why work on a socket came to a stop.
#[derive(Debug)]
pub enum Broken {
    /// Another try may do better; [`Retries`] tell when.
    Again(CliError),
    /// No other try would.
    Final(CliError),
}

impl From<CliError> for Broken {
    fn from(error: CliError) -> Self {
        Self::Final(error)
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Final(error.into())
    }
}

impl From<Ended> for Broken {
    fn from(ended: Ended) -> Self {
        ended.into_error().map_or_else(Self::Final, Self::Again)
    }
}

impl From<Problem> for Broken {
    fn from(problem: Problem) -> Self {
        let again = problem.is_worth_repeating();
        let error = CliError::Problem(Box::new(problem));
        if again { Self::Again(error) } else { Self::Final(error) }
    }
}

impl Socket {
    /// Opens one, with one try.
    pub async fn open(client: &Client) -> Result<Self, CliError> {
        let url = client.address().to_owned();
        match timeout(OPEN_TIMEOUT, Self::upgrade(client)).await {
            Ok(opened) => opened,
            Err(_) => Err(CliError::Unreachable { url, detail: "no answer in time".to_owned() }),
        }
    }

    async fn upgrade(client: &Client) -> Result<Self, CliError> {
        let url = client.address().to_owned();
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        let request = client
            .request(Method::GET, PATH)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .header(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
            .header("x-request-id", format!("cli-{:016x}", rand::random::<u64>()));
        let response = request.send().await.map_err(|error| client.failed(error))?;
        let foreign = || CliError::Failed(format!("{url}{PATH} is no socket of Postrider's"));
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            client.read(response).await?;
            return Err(foreign());
        }
        let has = |name: header::HeaderName, value: &str| {
            response.headers().get(name).is_some_and(|found| found == value)
        };
        if !has(header::SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes()))
            || !has(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
        {
            return Err(foreign());
        }
        let upgraded = response.upgrade().await.map_err(|error| client.failed(error))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let stream = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        Ok(Self { stream, url })
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: impl Into<Utf8Bytes>) -> Result<(), Ended> {
        let sent = timeout(SEND_TIMEOUT, self.stream.send(Message::Text(frame.into())));
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => Err(self.ended(None, "it takes nothing any more")),
        }
    }

    /// The next frame. Nothing is lost when this is dropped.
    pub async fn next(&mut self) -> Result<Utf8Bytes, Ended> {
        loop {
            // Each ping of the server begins it anew.
            let Ok(next) = timeout(SILENCE_MAX, self.stream.next()).await else {
                return Err(self.ended(None, "it has gone silent"));
            };
            match next {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    return Err(self.ended(Some(code.into()), &reason));
                }
                Some(Ok(Message::Close(None))) | None => {
                    return Err(self.ended(None, "it ended"));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(self.lost(&error)),
            }
        }
    }

    /// The end of one that does not answer what it is asked.
    pub fn is_silent(&self) -> Ended {
        self.ended(None, "no answer in time")
    }

    /// Closes it in order, for as long as that takes the server, within bounds.
    pub async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };
        let closed = async {
            if self.stream.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = self.stream.next().await {}
            }
        };
        // Whoever does not answer has lost nothing.
        let _ = timeout(CLOSE_TIMEOUT, closed).await;
    }

    fn lost(&self, error: &Error) -> Ended {
        self.ended(None, &error.to_string())
    }

    fn ended(&self, code: Option<u16>, detail: &str) -> Ended {
        Ended { url: self.url.clone(), code, detail: detail.to_owned() }
    }
}

/// When to try again, and when no more.
#[derive(Debug)]
pub struct Retries {
    pause: Duration,
    since: Option<Instant>,
    has_worked: bool,
}

impl Default for Retries {
    /// Nothing has failed yet, and nothing has worked.
    fn default() -> Self {
        Self { pause: PAUSE_MIN, since: None, has_worked: false }
    }
}

impl Retries {
    /// It works: the next failure is a first one.
    pub fn worked(&mut self) {
        *self = Self { has_worked: true, ..Self::default() };
    }

    /// Waits until it is time to try again after `error`; gives it back where there is no point.
    pub async fn after(&mut self, error: CliError) -> Result<(), CliError> {
        sleep(self.pause_after(error, Instant::now())?).await;
        Ok(())
    }

    fn pause_after(&mut self, error: CliError, now: Instant) -> Result<Duration, CliError> {
        let (first, then) = match &error {
            CliError::Unreachable { .. } | CliError::Lost { .. } => (FIRST_PATIENCE, PATIENCE),
            CliError::Problem(problem) if problem.is_worth_repeating() => (BUSY_PATIENCE, PATIENCE),
            // A proxy whose node is away. Only work under way is worth waiting for it.
            CliError::Problem(problem) if matches!(problem.http_status, 502 | 504) => {
                (Duration::ZERO, PATIENCE)
            }
            _ => return Err(error),
        };
        let since = *self.since.get_or_insert(now);
        // Clients that lost their node together are not to come back together.
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.0));
        if now + pause > since + if self.has_worked { then } else { first } {
            return Err(error);
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_help_nobody_is_final() {
        for (code, is_final) in [
            (None, false),
            (Some(1001), false),
            (Some(4000), false),
            (Some(4008), false),
            (Some(1009), true),
            (Some(4100), true),
            (Some(4103), true),
        ] {
            let ended = Ended { url: String::new(), code, detail: String::new() };
            assert_eq!(ended.is_final(), is_final, "{code:?}");
        }
    }

    #[test]
    fn tries_go_on_for_a_while_and_longer_once_something_worked() {
        let lost = || CliError::Lost { url: String::new(), detail: String::new() };
        for (has_worked, most) in [(false, FIRST_PATIENCE), (true, PATIENCE)] {
            let mut retries = Retries { has_worked, ..Retries::default() };
            let (began, mut passed) = (Instant::now(), Duration::ZERO);
            while let Ok(pause) = retries.pause_after(lost(), began + passed) {
                assert!(pause <= PAUSE_MAX && pause >= PAUSE_MIN / 2, "{pause:?}");
                passed += pause;
            }
            assert!(passed <= most && passed + PAUSE_MAX > most, "{passed:?}");
            retries.worked();
            assert!(retries.pause_after(lost(), began + passed).is_ok());
        }
        let wrong = CliError::Failed("why".to_owned());
        assert!(Retries::default().pause_after(wrong, Instant::now()).is_err());
    }

    #[test]
    fn frames_tell_what_they_are() {
        let text = r#"{"op":"error","id":7,"error":{"code":"overloaded","status":503,
            "effect":"none","retryable":true,"detail":"busy"},"new":1}"#;
        let frame = Frame::read(text).expect("a frame");
        assert_eq!((frame.op, frame.id, frame.sub), ("error", Some(7), None));
        let problem = frame.problem();
        assert_eq!((&*problem.code, problem.http_status), ("overloaded", 503));
        assert!(problem.is_worth_repeating());
        let frame = Frame::read(r#"{"op":"draining","reconnect_after":"1500ms"}"#).expect("one");
        assert_eq!(frame.reconnect_after(), Duration::from_millis(1_500));
        assert!(Frame::read("[]").is_err());
    }
}
