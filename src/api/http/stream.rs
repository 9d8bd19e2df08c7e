//! Server-Sent Events: `GET /v1/topics/{topic}/stream`. An event's id is where the reader stands
//! in all partitions, so that whoever comes back with the last one misses nothing.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture};
use serde::Deserialize;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use utoipa::IntoParams;

use super::{LogToken, topics::name};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem, ProblemBody},
        extract::{PathParams, QueryParams},
        http::position,
        layers::RequestId,
        ws::{
            place::{From, Logs},
            tail::{self, TailWish},
        },
    },
    auth::Principal,
    deliver::stream::{Mailbox, Portion, Read, Reader, Room},
    log::Position,
    model::limits,
    telemetry::metrics::STREAMS,
};

/// Where a client that comes back stands.
const LAST_EVENT_ID: &str = "last-event-id";
/// After how many ms a client comes back whose stream has ended.
const RETRY_MS: u32 = 1_000;

/// Where to read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamParams {
    /// `earliest`, `latest`, an offset, or an RFC 3339 time.
    #[param(default = "latest")]
    from: Option<String>,
    /// One partition alone.
    partition: Option<u32>,
}

/// Read a topic as Server-Sent Events
///
/// `event: message` has a message as its data, and as its id where the reader stands in all
/// partitions; a client that comes back with `Last-Event-ID` goes on from there. A comment comes
/// each 15 s. `event: closed` says as a problem why the stream ends; then the client is to stop.
#[utoipa::path(get, path = "/v1/topics/{topic}/stream", operation_id = "stream_topic",
    tag = "streams",
    params(("topic" = String, Path, description = "The topic's name."), StreamParams,
        ("Last-Event-ID" = Option<String>, Header,
            description = "The id of the last event that was received; counts before `from`.")),
    responses((status = 200, description = "Events, for as long as the client stays.",
            body = String, content_type = "text/event-stream"),
        (status = 404, description = "There is no such topic or partition.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub async fn stream_topic(
    principal: Principal,
    State(state): State<AppState>,
    request_id: RequestId,
    PathParams(topic): PathParams<String>,
    QueryParams(params): QueryParams<StreamParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = name(&topic)?;
    let (from, logs) = match headers.get(LAST_EVENT_ID) {
        Some(id) => came_back(id)?,
        None => {
            let from = params.from.as_deref().map_or(Ok(Position::Latest), position)?;
            (From::All(from), None)
        }
    };
    let (partition, patterns) = (params.partition, Vec::new());
    let names = vec![name.clone()];
    let wish = TailWish { names, patterns, partition, from, logs, filter: None };
    let mut opened = Box::pin(wish.open(&state, principal.tenant)).await?;
    let opened = opened.pop().filter(|opened| !opened.places.is_empty());
    let opened = opened.ok_or_else(|| {
        let number = partition.unwrap_or_default();
        let detail = format!("the topic `{name}` has no partition {number}");
        Problem::new(ErrorCode::NotFound, detail)
    })?;
    let log = LogToken::of(&opened.stream.topic()).to_string();
    let mailbox = Mailbox::new();
    let mut reader = Reader::new(state.streams.clone(), Arc::clone(&mailbox), 0, None);
    let refused = opened.reason.map(|reason| refused(reason, &log));
    reader.add(opened.stream, &opened.places, partition.is_none());
    let lifecycle = state.lifecycle.clone();
    let events = Events {
        lead: format!("{{\"topic\":\"{name}\",\"partition\":"),
        log,
        mailbox,
        reader,
        request_id: request_id.as_str().to_owned(),
        draining: Box::pin(async move { lifecycle.draining().await }),
        comment: Box::pin(sleep(limits::COMMENT_INTERVAL)),
        first: Some(refused),
        is_over: false,
    };
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// What a client knows that comes back.
fn came_back(id: &HeaderValue) -> Result<(From, Option<Logs>), Problem> {
    let wrong = || {
        let detail = "this is no id of an event of this stream";
        Problem::new(ErrorCode::Invalid, detail).at("Last-Event-ID")
    };
    let (log, positions) = id.to_str().ok().and_then(|id| id.split_once('@')).ok_or_else(wrong)?;
    let one = |part: &str| {
        let (number, offset) = part.split_once(':').ok_or_else(wrong)?;
        Ok((number.parse().map_err(|_| wrong())?, offset.parse().map_err(|_| wrong())?))
    };
    let each = positions.split(',').map(one).collect::<Result<_, Problem>>()?;
    Ok((From::Each(each), Some(Logs::parse(log).map_err(|_| wrong())?)))
}

/// Why a client cannot go on where it stood.
fn refused(reason: ErrorCode, log: &str) -> Problem {
    let detail = match reason {
        ErrorCode::TopicRecreated => "the topic was deleted and made again",
        ErrorCode::LogTruncated => "the database failed over: messages at the end may be gone",
        _ => "messages at this position are gone: retention took them",
    };
    Problem::new(reason, detail).fact("log", log)
}

/// The body: one client's events.
struct Events {
    lead: String,
    log: String,
    mailbox: Arc<Mailbox>,
    reader: Reader,
    request_id: String,
    draining: BoxFuture<'static, ()>,
    comment: Pin<Box<Sleep>>,
    /// What comes first, and whether it is also the last.
    first: Option<Option<Problem>>,
    is_over: bool,
}

impl Events {
    /// What stands before and behind the offset of `partition` in an id.
    fn id_around(&self, partition: u32) -> (String, String) {
        let (mut before, mut behind) = (format!("{}@", self.log), String::new());
        let mut is_before = true;
        for (at, (_, number, offset)) in self.reader.positions().enumerate() {
            let text = if is_before { &mut before } else { &mut behind };
            if at > 0 {
                text.push(',');
            }
            if number == partition {
                text.push_str(&format!("{number}:"));
                is_before = false;
            } else {
                text.push_str(&format!("{number}:{offset}"));
            }
        }
        (before, behind)
    }

    fn begin(&self) -> Vec<u8> {
        let (mut id, _) = self.id_around(u32::MAX);
        id.push_str("\n\n");
        // An id without data is remembered by the client and shown to nobody.
        format!("retry: {RETRY_MS}\nid: {id}").into_bytes()
    }

    fn messages(&self, portion: &Portion) -> Vec<u8> {
        STREAMS.delivered.increment(portion.count() as u64);
        let (before, behind) = self.id_around(portion.partition);
        let each = 64 + before.len() + behind.len() + self.lead.len();
        let mut out = Vec::with_capacity(portion.bytes() + portion.count() * each);
        for (offset, item) in portion.messages() {
            let lead = format!("event: message\nid: {before}{}{behind}\ndata: ", offset + 1);
            out.extend_from_slice(lead.as_bytes());
            out.extend_from_slice(self.lead.as_bytes());
            out.extend_from_slice(format!("{},", portion.partition).as_bytes());
            put_lines(&mut out, item.strip_prefix(b"{").unwrap_or(item));
            out.extend_from_slice(b"\n\n");
        }
        out
    }

    fn closed(&mut self, problem: &Problem) -> Vec<u8> {
        self.is_over = true;
        let mut out = b"event: closed\ndata: ".to_vec();
        out.extend_from_slice(&problem.json(&self.request_id));
        out.extend_from_slice(b"\n\n");
        out
    }

    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        if self.is_over || self.draining.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        match self.first.take() {
            Some(Some(problem)) => return Poll::Ready(Some(self.closed(&problem))),
            Some(None) => return Poll::Ready(Some(self.begin())),
            None => {}
        }
        for key in self.mailbox.take(cx) {
            self.reader.heard(key);
        }
        let portion = limits::FRAME_ITEMS_BYTES;
        let room = Room { messages: usize::MAX, bytes: usize::MAX, portion };
        let out = match self.reader.poll_next(cx, room) {
            Poll::Ready(Read::Portion(portion)) => self.messages(&portion),
            Poll::Ready(Read::Ended(stream, why)) => self.closed(&tail::ended(stream.name(), why)),
            Poll::Ready(Read::Failed(stream, partition, error)) => {
                self.closed(&tail::failed(stream.name(), partition, error))
            }
            Poll::Ready(Read::Full) | Poll::Pending => {
                if self.comment.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                b": still here\n\n".to_vec()
            }
        };
        self.comment = Box::pin(sleep_until(Instant::now() + limits::COMMENT_INTERVAL));
        Poll::Ready(Some(out))
    }
}

/// JSON as lines of data: a client puts a line feed between them, which JSON reads as a space.
fn put_lines(out: &mut Vec<u8>, json: &[u8]) {
    for (at, line) in json.split(|byte| matches!(byte, b'\n' | b'\r')).enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\ndata: ");
        }
        out.extend_from_slice(line);
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_events(cx).map(|events| events.map(|events| Ok(events.into())))
    }
}
