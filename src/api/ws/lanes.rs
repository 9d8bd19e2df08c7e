//! Publishes of one socket. Those to one topic stand in a lane: they are submitted and take effect
//! in the order they came, however many are under way. When their topic turns out to be another
//! than it was, the lane is emptied first and what was sent back goes again, in the same order.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use serde::de::IgnoredAny;
use serde_json::from_str;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    answers::{self, Id},
    close::Close,
    frames::{Head, PublishFrame, read_id},
    outbox::Outbox,
    turns::{Turn, Turns},
};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
        extract::{Object, json_problem},
        http::{
            publish::{
                Published,
                request::{Asked, Failed, Sorted, Waiting, depends_on_topic, publish_problem},
            },
            topics::{lookup_problem, name},
        },
    },
    catalog::{CatalogError, Topic},
    model::{Name, TenantId, limits},
    publish::{Acking, PublishError},
};

/// How often a publish is submitted anew after its topic moved, grew or was made again.
const TRIES: u32 = 4;

/// A publish that is not answered yet.
struct Request {
    /// Rises with each publish of the socket.
    number: u64,
    id: Id,
    frame: Utf8Bytes,
    tries: u32,
    /// Whether its topic was read anew for it.
    is_fresh: bool,
}

/// A publish that is under way.
struct UnderWay {
    request: Request,
    /// The producer's, where it has one.
    turn: Option<Turn>,
    waiting: Waiting,
    acking: Acking,
}

type Lookup = BoxFuture<'static, Result<Arc<Topic>, CatalogError>>;

/// All publishes to one topic.
struct Lane {
    name: Name,
    under_way: VecDeque<UnderWay>,
    /// The topic as those under way saw it.
    topic: Option<Arc<Topic>>,
    /// What was sent back, to go again before what waits.
    again: VecDeque<Request>,
    waiting: VecDeque<Request>,
    lookup: Option<Lookup>,
    turns: Turns,
}

/// Publishes of one socket.
pub(super) struct Lanes {
    state: AppState,
    tenant: TenantId,
    request_id: Arc<str>,
    lanes: Vec<Lane>,
    next_number: u64,
    requests: usize,
    bytes: usize,
}

/// Lanes that are kept though they are empty: their producers' turns are remembered there.
const LANES_KEPT: usize = 64;
/// Lanes at most: those with a publish that is not answered, and those that wait for a failed one.
const LANES_MAX: usize = 2 * limits::SOCKET_REQUESTS_MAX;

impl Lanes {
    pub(super) fn new(state: AppState, tenant: TenantId, request_id: Arc<str>) -> Self {
        let lanes = Vec::new();
        Self { state, tenant, request_id, lanes, next_number: 0, requests: 0, bytes: 0 }
    }

    /// Whether no more are taken until some are answered.
    pub(super) fn is_full(&self) -> bool {
        self.requests >= limits::SOCKET_REQUESTS_MAX
            || self.bytes >= limits::SOCKET_REQUESTS_BYTES_MAX
    }

    /// Takes a publish. What is wrong with it is put into `out` at once.
    ///
    /// # Errors
    /// It is no JSON object.
    pub(super) fn publish(&mut self, frame: Utf8Bytes, out: &mut Outbox) -> Result<(), Close> {
        let parsed: Object<PublishFrame<'_>> = match from_str(&frame) {
            Ok(parsed) => parsed,
            Err(_) => {
                // Its id is looked for by itself: what is wrong elsewhere is answered with it.
                let head = from_str::<Object<Head<'_>>>(&frame);
                if head.is_err() && from_str::<Object<IgnoredAny>>(&frame).is_err() {
                    return Err(Close::NoObject);
                }
                let id = head.ok().and_then(|Object(head)| read_id(head.id).ok());
                let problem = json_problem::<Object<PublishFrame<'_>>>(frame.as_bytes());
                self.tell(&id.unwrap_or_default(), &problem, out);
                return Ok(());
            }
        };
        let Object(parsed) = parsed;
        match read_id(parsed.id) {
            Ok(id) => self.take(&frame, parsed, id, out),
            Err(problem) => self.tell("", &problem, out),
        }
        Ok(())
    }

    fn take(&mut self, frame: &Utf8Bytes, parsed: PublishFrame<'_>, id: Id, out: &mut Outbox) {
        if let Some(problem) = parsed.refused() {
            return self.tell(&id, &problem, out);
        }
        let topic = parsed.topic.as_ref().map_or("", |topic| &topic.0);
        let at = match self.lane(topic) {
            Ok(at) => at,
            Err(problem) => return self.tell(&id, &problem, out),
        };
        self.requests += 1;
        self.bytes += frame.len();
        let (number, frame) = (self.next_number, frame.clone());
        let request = Request { number, id, frame, tries: 0, is_fresh: false };
        self.next_number += 1;
        let lane = &mut self.lanes[at];
        let known = self.state.catalog.cached(self.tenant, &lane.name);
        match known.filter(|known| lane.may_submit(known)) {
            // Parsed once only, on the way that nearly all go.
            Some(topic) => {
                let parts = Parts { state: &self.state, tenant: self.tenant };
                let submitted = lane.submit(&parts, &topic, &request, parsed.publish());
                self.submitted(at, request, submitted, out);
            }
            None => lane.waiting.push_back(request),
        }
    }

    fn lane(&mut self, topic: &str) -> Result<usize, Problem> {
        if let Some(at) = self.lanes.iter().position(|lane| lane.name.as_str() == topic) {
            return Ok(at);
        }
        let name = name(topic).map_err(|problem| problem.at("/topic"))?;
        if self.lanes.len() >= LANES_KEPT {
            self.lanes.retain(|lane| !lane.is_idle() || lane.turns.is_owed());
        }
        if self.lanes.len() >= LANES_MAX {
            let detail = format!("publishes to {LANES_MAX} topics wait for one that failed");
            return Err(Problem::new(ErrorCode::Overloaded, detail));
        }
        self.lanes.push(Lane {
            name,
            under_way: VecDeque::new(),
            topic: None,
            again: VecDeque::new(),
            waiting: VecDeque::new(),
            lookup: None,
            turns: Turns::default(),
        });
        Ok(self.lanes.len() - 1)
    }

    fn tell(&self, id: &str, problem: &Problem, out: &mut Outbox) {
        out.push_json(answers::error(id, None, problem, &self.request_id));
    }

    fn submitted(
        &mut self,
        at: usize,
        request: Request,
        submitted: Result<Submitted, Failed>,
        out: &mut Outbox,
    ) {
        let lane = &mut self.lanes[at];
        match submitted {
            Ok(Submitted { waiting, acking, turn }) => {
                lane.under_way.push_back(UnderWay { request, turn, waiting, acking });
            }
            Err(failed) => self.failed(at, request, failed, out),
        }
    }

    /// A publish failed: it goes again, or is answered.
    fn failed(&mut self, at: usize, mut request: Request, failed: Failed, out: &mut Outbox) {
        let lane = &mut self.lanes[at];
        let problem = match failed {
            Failed::Request(problem) if depends_on_topic(&problem) && !request.is_fresh => {
                request.is_fresh = true;
                return self.again(at, request);
            }
            Failed::Request(problem) => problem,
            Failed::Publish(PublishError::Moved(_) | PublishError::Gone(_), _)
                if request.tries < TRIES =>
            {
                request.tries += 1;
                return self.again(at, request);
            }
            Failed::Publish(error, is_repeatable) => {
                publish_problem(&error, &lane.name).repeatable(is_repeatable)
            }
        };
        self.answered(&request);
        self.tell(&request.id, &problem, out);
    }

    fn again(&mut self, at: usize, request: Request) {
        let lane = &mut self.lanes[at];
        self.state.catalog.forget(self.tenant, &lane.name);
        lane.topic = None;
        // One that is refused at once is back before those that are under way.
        let at = lane.again.partition_point(|one| one.number < request.number);
        lane.again.insert(at, request);
    }

    fn answered(&mut self, request: &Request) {
        self.requests -= 1;
        self.bytes -= request.frame.len();
    }

    /// Answers what is done into `out`, and goes on with what waits.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) {
        if self.requests == 0 {
            return;
        }
        for at in 0..self.lanes.len() {
            self.poll_acks(at, cx, out);
            while self.lanes[at].wants_lookup() {
                self.poll_waiting(at, cx, out);
                // What was sent back at once has to be looked up again now: nobody would wake it.
                if self.lanes[at].lookup.is_some() {
                    break;
                }
            }
        }
    }

    fn poll_acks(&mut self, at: usize, cx: &mut Context<'_>, out: &mut Outbox) {
        while let Some(first) = self.lanes[at].under_way.front_mut() {
            let Poll::Ready(acked) = Future::poll(std::pin::Pin::new(&mut first.acking), cx) else {
                return;
            };
            let Some(UnderWay { request, turn, waiting, .. }) =
                self.lanes[at].under_way.pop_front()
            else {
                return;
            };
            if let (Some(turn), Err(error)) = (&turn, &acked) {
                self.lanes[at].turns.ended(turn, error);
            }
            match waiting.answered(acked) {
                Ok(published) => {
                    self.answered(&request);
                    out.push_json(acknowledged(&request.id, &published));
                }
                Err(failed) => self.failed(at, request, failed, out),
            }
        }
    }

    /// Looks the topic up and submits what waits, once nothing is under way that saw another.
    fn poll_waiting(&mut self, at: usize, cx: &mut Context<'_>, out: &mut Outbox) {
        let (state, tenant) = (self.state.clone(), self.tenant);
        let lane = &mut self.lanes[at];
        let lookup = lane.lookup.get_or_insert_with(|| {
            let (catalog, name) = (state.catalog.clone(), lane.name.clone());
            Box::pin(async move { catalog.topic(tenant, &name).await })
        });
        let Poll::Ready(found) = lookup.as_mut().poll(cx) else { return };
        lane.lookup = None;
        let mut requests = std::mem::take(&mut lane.again);
        requests.append(&mut lane.waiting);
        let topic = match found {
            Ok(topic) => topic,
            Err(error) => {
                let problem = lookup_problem(error, &lane.name);
                for request in requests {
                    self.lanes[at].turns.lost(&request.frame, &problem);
                    self.answered(&request);
                    self.tell(&request.id, &problem, out);
                }
                return;
            }
        };
        while let Some(request) = requests.pop_front() {
            let parts = Parts { state: &state, tenant };
            let Ok(Object(frame)) = from_str::<Object<PublishFrame<'_>>>(&request.frame) else {
                continue;
            };
            let parsed = frame.publish();
            let submitted = self.lanes[at].submit(&parts, &topic, &request, parsed);
            self.submitted(at, request, submitted, out);
            if !self.lanes[at].again.is_empty() {
                // This one needs the topic anew: the others stay behind it.
                self.lanes[at].again.append(&mut requests);
                return;
            }
        }
        // Woken by their answers from here on.
        self.poll_acks(at, cx, out);
    }
}

struct Parts<'a> {
    state: &'a AppState,
    tenant: TenantId,
}

struct Submitted {
    waiting: Waiting,
    acking: Acking,
    turn: Option<Turn>,
}

impl Lane {
    fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.again.is_empty() && self.waiting.is_empty()
    }

    /// Whether a publish may go at once to the topic as it is known now.
    fn may_submit(&self, known: &Arc<Topic>) -> bool {
        let is_same = self.topic.as_ref().is_some_and(|topic| Arc::ptr_eq(topic, known));
        self.again.is_empty() && self.waiting.is_empty() && (is_same || self.under_way.is_empty())
    }

    fn wants_lookup(&self) -> bool {
        self.under_way.is_empty() && !(self.again.is_empty() && self.waiting.is_empty())
    }

    fn submit(
        &mut self,
        parts: &Parts<'_>,
        topic: &Arc<Topic>,
        request: &Request,
        parsed: crate::api::message::PublishIn<'_>,
    ) -> Result<Submitted, Failed> {
        let bytes = request.frame.len();
        let asked = Asked { tenant: parts.tenant, name: &self.name, bytes, key: None };
        let producer = parsed.producer()?;
        let turn = producer.map(|producer| self.turns.enter(&producer)).transpose()?;
        let sorted = Sorted::new(parts.state, topic, asked, &|topic: &Topic, keyless| {
            crate::api::http::publish::request::records_of(&parsed, bytes, topic, keyless)
        });
        let submitted = sorted
            .map_err(Failed::from)
            .and_then(|sorted| sorted.submit(parts.state, turn.as_ref().map(Turn::link)));
        match submitted {
            Ok((waiting, acking)) => {
                self.topic = Some(Arc::clone(topic));
                Ok(Submitted { waiting, acking, turn })
            }
            Err(failed) => {
                if let (Some(turn), Failed::Publish(error, _)) = (&turn, &failed) {
                    self.turns.ended(turn, error);
                }
                Err(failed)
            }
        }
    }
}

fn acknowledged(id: &str, published: &Published) -> Vec<u8> {
    let mut out = answers::begin_ok(id);
    out.push(b',');
    published.write(&mut out);
    out.push(b'}');
    out
}
