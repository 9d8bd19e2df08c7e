//! A session by itself, over channels: no network, no database.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{Sink, Stream};
use postrider::{
    api::ws::Session,
    app::Node,
    auth::Principal,
    lifecycle::Lifecycle,
    model::{Clock, ids::DEFAULT_TENANT},
    store::connect::Target,
};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::soon;

/// The session's end: what the client sends comes out of it, what the session sends goes in.
struct Wire {
    incoming: UnboundedReceiver<Message>,
    outgoing: UnboundedSender<Message>,
    is_stuck: Arc<AtomicBool>,
    read: Arc<AtomicUsize>,
}

impl Stream for Wire {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.incoming.poll_recv(cx);
        if let Poll::Ready(Some(_)) = &polled {
            self.read.fetch_add(1, Ordering::Relaxed);
        }
        polled.map(|message| message.map(Ok))
    }
}

impl Wire {
    fn poll(&self) -> Poll<Result<(), Error>> {
        // Nobody wakes it: a client that takes nothing stays as it is.
        if self.is_stuck.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl Sink<Message> for Wire {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll()
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.outgoing.send(message).map_err(|_| Error::ConnectionClosed)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll()
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll()
    }
}

/// The client's end.
struct Client {
    to: UnboundedSender<Message>,
    from: UnboundedReceiver<Message>,
    is_stuck: Arc<AtomicBool>,
    /// Messages that the session has read.
    read: Arc<AtomicUsize>,
    life: Lifecycle,
    session: JoinHandle<()>,
}

impl Client {
    /// A client of a session on a node whose database is nowhere.
    fn new() -> Self {
        let life = Lifecycle::new();
        let target = Target::parse("postgres://nobody@127.0.0.1:1/nothing").expect("a URL");
        let node = Node::new(target, Clock::default(), &life);
        let (to, incoming) = unbounded_channel();
        let (outgoing, from) = unbounded_channel();
        let (is_stuck, read): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let wire =
            Wire { incoming, outgoing, is_stuck: Arc::clone(&is_stuck), read: Arc::clone(&read) };
        let principal = Principal { tenant: DEFAULT_TENANT };
        let session = Session::new(wire, node.state().clone(), principal, "test", None);
        let session = Lifecycle::new().spawn(Box::new(session).run());
        Self { to, from, is_stuck, read, life, session }
    }

    fn send(&self, frame: Value) {
        self.to.send(Message::text(frame.to_string())).expect("a session");
    }

    async fn next(&mut self) -> Message {
        soon("a message", self.from.recv()).await.expect("a session")
    }

    async fn frame(&mut self) -> Value {
        let message = self.next().await;
        serde_json::from_str(message.to_text().expect("text")).expect("JSON")
    }

    /// Waits for the close frame and lets the session go: its code.
    async fn closed(mut self) -> u16 {
        let code = loop {
            if let Message::Close(Some(frame)) = self.next().await {
                break frame.code.into();
            }
        };
        drop(self.to);
        soon("the session's end", self.session).await.expect("no panic");
        self.life.abort();
        code
    }
}

#[tokio::test]
async fn a_session_answers_what_needs_no_database() {
    let mut client = Client::new();
    client.send(json!({"op": "ping", "id": "a"}));
    assert_eq!(client.frame().await, json!({"op": "pong", "id": "a"}));
    client.send(json!({"op": "odd", "id": 1}));
    let told = client.frame().await;
    assert_eq!((&told["id"], &told["error"]["code"]), (&json!(1), &json!("invalid")), "{told}");
    client.send(json!({"op": "credit", "sub": "x"}));
    assert_eq!(client.frame().await["error"]["code"], "not_found");
    client.to.send(Message::binary(vec![1])).expect("a session");
    assert_eq!(client.closed().await, 4100);
}

#[tokio::test]
async fn a_session_ends_when_its_client_goes() {
    let client = Client::new();
    drop(client.to);
    soon("the session's end", client.session).await.expect("no panic");
}

#[tokio::test]
async fn a_session_tells_that_it_drains_and_still_answers() {
    let mut client = Client::new();
    client.life.stop();
    let told = client.frame().await;
    assert_eq!(told["op"], "draining");
    let after = told["reconnect_after"].as_str().and_then(|after| after.strip_suffix("ms"));
    assert!(after.and_then(|ms| ms.parse().ok()).is_some_and(|ms: u32| ms < 8_000), "{told}");
    client.send(json!({"op": "ping"}));
    assert_eq!(client.frame().await["op"], "pong");
    client.send(json!({"op": "subscribe", "id": 2, "sub": "a", "topic": "orders"}));
    assert_eq!(client.frame().await["error"]["code"], "draining");
    assert_eq!(client.closed().await, 4000);
}

#[tokio::test]
async fn answers_that_are_not_taken_keep_the_session_from_reading() {
    let mut client = Client::new();
    client.is_stuck.store(true, Ordering::Relaxed);
    let count = 20_000;
    let id = "x".repeat(200);
    for at in 0..count {
        client.send(json!({"op": "ping", "id": format!("{at} {id}")}));
    }
    let mut before = usize::MAX;
    crate::support::eventually("it reads no more", async || {
        tokio::task::yield_now().await;
        let read = client.read.load(Ordering::Relaxed);
        (std::mem::replace(&mut before, read) == read && read > 0).then_some(())
    })
    .await;
    // 256 KiB of answers, and the frames of one turn.
    assert!(before < 1_300, "{before} frames were read");
    client.is_stuck.store(false, Ordering::Relaxed);
    // The session looks again when something comes.
    client.life.stop();
    for at in 0..count {
        let mut told = client.frame().await;
        if told["op"] == "draining" {
            told = client.frame().await;
        }
        assert_eq!(told["id"], format!("{at} {id}"));
    }
    assert_eq!(client.closed().await, 4000);
}
