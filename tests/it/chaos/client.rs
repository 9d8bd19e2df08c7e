//! A client that writes down what it did and what it saw.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU32},
    time::Duration,
};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{
    message::{Form, Kind, Message, Parcel, known},
    wire::{Connection, Request, Response},
};
use crate::history::{Attempt, Fate, From, Nanos, Publish, Read, Recorder, Seen, TopicId};

/// After this an answer is not waited for any more: nobody knows.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// Where the nodes listen now. A node that is started again has another port.
pub type Addresses = Arc<RwLock<Vec<SocketAddr>>>;

/// A topic that loads use.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its number in the history.
    pub id: TopicId,
    /// How many partitions it has at least.
    pub partitions: AtomicU32,
}

#[derive(Deserialize)]
struct Answered {
    results: Vec<Standing>,
}

#[derive(Deserialize)]
struct Standing {
    partition: u32,
    offset: i64,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    effect: String,
    #[serde(default)]
    low_watermark: Option<i64>,
    #[serde(default)]
    high_watermark: Option<i64>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    messages: Vec<Found<'a>>,
    next_offset: i64,
    low_watermark: i64,
    high_watermark: i64,
}

#[derive(Deserialize)]
struct Found<'a> {
    offset: i64,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
}

impl Found<'_> {
    fn fingerprint(&self) -> u64 {
        let (kind, text) = match (self.value, &self.value_text, &self.value_base64) {
            (Some(value), _, _) => (Kind::Json, value.get()),
            (_, Some(text), _) => (Kind::Text, &**text),
            (_, _, Some(text)) => (Kind::Base64, &**text),
            (None, None, None) => (Kind::Text, ""),
        };
        known(self.key.as_deref(), kind, text)
    }
}

/// Where a client goes on after a read.
#[derive(Clone, Copy, Debug)]
pub struct Stand {
    /// Where the next page begins: the low watermark, when a read was out of range.
    pub next: i64,
    /// The high watermark.
    pub high: i64,
}

/// A client with one connection, to one node at a time.
pub struct Client {
    addresses: Addresses,
    recorder: Recorder,
    open: Option<(usize, Connection)>,
}

/// How an exchange went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nothing was sent.
    Unsent,
    /// Something was sent, and no whole answer came.
    Unanswered,
}

impl Client {
    /// A client of these nodes.
    pub fn new(addresses: &Addresses, recorder: &Recorder) -> Self {
        Self { addresses: Arc::clone(addresses), recorder: recorder.clone(), open: None }
    }

    /// Asks node number `node`.
    pub async fn ask(&mut self, node: usize, request: &Request<'_>) -> Result<Response, Lost> {
        if self.open.as_ref().is_none_or(|(at, _)| *at != node) {
            let address = self.addresses.read().unwrap_or_else(PoisonError::into_inner)[node];
            let opening = timeout(ANSWER_WAIT, Connection::open(address)).await;
            let connection = opening.ok().and_then(Result::ok).ok_or(Lost::Unsent)?;
            self.open = Some((node, connection));
        }
        let (_, mut connection) = self.open.take().expect("it was opened");
        match timeout(ANSWER_WAIT, connection.exchange(request)).await {
            Ok(Ok(response)) => {
                self.open = Some((node, connection));
                Ok(response)
            }
            Ok(Err(_)) => Err(Lost::Unanswered),
            Err(_) => {
                let Request { method, target, .. } = request;
                self.recorder
                    .note(&format!("no answer in time from node {node}: {method} {target}"));
                Err(Lost::Unanswered)
            }
        }
    }

    /// Publishes, and writes it down. Returns whether all of it was acknowledged.
    pub async fn publish(
        &mut self,
        node: usize,
        topic: &Topic,
        messages: &[Message],
        form: Form,
    ) -> bool {
        let parcel = Parcel::new(&topic.name, messages, form);
        let invoked = self.recorder.now();
        let answer = self.ask(node, &parcel.request()).await;
        let completed = self.recorder.now();
        let fates = match answer {
            Err(Lost::Unsent) => return false,
            Err(Lost::Unanswered) => vec![Fate::Info; messages.len()],
            Ok(response) => {
                self.note(&response);
                fates(&response, messages.len(), form)
            }
        };
        let all = fates.iter().all(|fate| matches!(fate, Fate::Ok { .. }));
        let payloads = messages.iter().map(Message::fingerprint);
        self.recorder.publish(Publish {
            topic: topic.id,
            invoked,
            completed,
            atomic: form != Form::Lines,
            messages: payloads.zip(fates).collect(),
        });
        all
    }

    /// Sends what is to be carried out once, and writes the try down. What it was told; `None`
    /// where it was not sent.
    pub async fn attempt(
        &mut self,
        node: usize,
        topic: &Topic,
        claim: u64,
        (parcel, messages): (&Parcel, &[Message]),
    ) -> Option<Vec<Fate>> {
        let fates = match self.ask(node, &parcel.request()).await {
            Err(Lost::Unsent) => return None,
            Err(Lost::Unanswered) => vec![Fate::Info; messages.len()],
            Ok(response) => {
                self.note(&response);
                fates(&response, messages.len(), Form::Batch)
            }
        };
        let told = messages.iter().map(Message::fingerprint).zip(fates.iter().copied());
        let (topic, messages) = (topic.id, told.collect());
        self.recorder.attempt(Attempt { topic, claim, messages });
        Some(fates)
    }

    /// Writes a request down that was sent until its fate was known.
    pub fn ended(&self, topic: &Topic, invoked: Nanos, messages: &[Message], fates: &[Fate]) {
        let payloads = messages.iter().map(Message::fingerprint);
        self.recorder.publish(Publish {
            topic: topic.id,
            invoked,
            completed: self.recorder.now(),
            atomic: true,
            messages: payloads.zip(fates.iter().copied()).collect(),
        });
    }

    /// The time of the history.
    pub fn now(&self) -> Nanos {
        self.recorder.now()
    }

    fn note(&self, response: &Response) {
        if response.status != 200 {
            let problem = serde_json::from_slice::<Problem>(&response.body);
            let code = problem.map_or_else(|_| "no problem".to_owned(), |problem| problem.code);
            self.recorder.note(&format!("{} {code}", response.status));
        }
    }

    /// Reads a page, and writes it down.
    pub async fn read(&mut self, node: usize, topic: &Topic, asked: Asked) -> Option<Stand> {
        let Asked { partition, from, limit, wait_ms, is_final } = asked;
        let place = match from {
            From::Earliest => "earliest".to_owned(),
            From::Latest => "latest".to_owned(),
            From::Offset(offset) => offset.to_string(),
        };
        let target = format!(
            "/v1/topics/{}/partitions/{partition}/messages?from={place}&limit={limit}\
             &wait={wait_ms}ms",
            topic.name
        );
        let started = self.recorder.now();
        let answer = self.ask(node, &Request::get(&target)).await;
        let ended = self.recorder.now();
        let seen = answer.map_or(Seen::Nothing, |response| {
            self.note(&response);
            seen(&response)
        });
        let stand = match &seen {
            Seen::Page { next, high, .. } => Some(Stand { next: *next, high: *high }),
            Seen::OutOfRange { low, high } => Some(Stand { next: *low, high: *high }),
            Seen::Nothing => None,
        };
        let topic = topic.id;
        self.recorder.read(Read { topic, partition, from, limit, started, ended, seen, is_final });
        stand
    }
}

/// A page to ask for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The number of the partition.
    pub partition: u32,
    /// Where to begin.
    pub from: From,
    /// How many messages at the most.
    pub limit: u32,
    /// How long to wait for a first one.
    pub wait_ms: u64,
    /// Whether it belongs to the full read at the end.
    pub is_final: bool,
}

fn fates(response: &Response, count: usize, form: Form) -> Vec<Fate> {
    if response.status != 200 {
        return vec![refused(&response.body); count];
    }
    let at = |standing: Standing| {
        let Standing { partition, offset } = standing;
        Fate::Ok { partition, offset }
    };
    if form != Form::Lines {
        let answered: Answered = serde_json::from_slice(&response.body).expect("results");
        assert_eq!(answered.results.len(), count, "one result a message");
        return answered.results.into_iter().map(at).collect();
    }
    let mut fates = Vec::with_capacity(count);
    for line in response.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<Standing>(line) {
            Ok(standing) => fates.push(at(standing)),
            Err(_) => fates.resize(count, refused(line)),
        }
    }
    // Lines that are not answered at all are not refused either.
    fates.resize(count, Fate::Info);
    fates
}

/// What a problem says of the effect: only the word `none` is definite.
fn refused(body: &[u8]) -> Fate {
    #[derive(Deserialize)]
    struct Line {
        error: Problem,
    }
    let problem = serde_json::from_slice::<Problem>(body)
        .or_else(|_| serde_json::from_slice::<Line>(body).map(|line| line.error));
    match problem {
        Ok(problem) if problem.effect == "none" => Fate::Fail,
        Ok(_) | Err(_) => Fate::Info,
    }
}

fn seen(response: &Response) -> Seen {
    if response.status == 200 {
        let page: Page<'_> = serde_json::from_slice(&response.body).expect("a page");
        let messages = page.messages.iter().map(|found| (found.offset, found.fingerprint()));
        return Seen::Page {
            messages: messages.collect(),
            next: page.next_offset,
            low: page.low_watermark,
            high: page.high_watermark,
        };
    }
    let problem = serde_json::from_slice::<Problem>(&response.body).ok();
    match problem.and_then(|problem| Some((problem.low_watermark?, problem.high_watermark?))) {
        Some((low, high)) => Seen::OutOfRange { low, high },
        None => Seen::Nothing,
    }
}
