//! One socket from its first frame to its last. It is generic over what carries the frames, so
//! that tests need no network. Everything happens in one task: what a client sends is read only
//! while there is room for the answers, and messages are put out only while little waits.

mod clock;
mod delivery;
mod join;
mod names;
mod requests;
mod subscriptions;

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    Sink, Stream,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_tungstenite::tungstenite::{Error, Message, error::CapacityError, error::ProtocolError};

use self::{
    clock::Clock,
    subscriptions::{Done, Subscription},
};
use super::{close::Close, lanes::Lanes, member::Told, outbox::Outbox};
use crate::{
    api::{AppState, accept::Unfinished},
    auth::Principal,
    deliver::stream::{Ear, Mailbox},
    model::limits,
    telemetry::metrics::STREAMS,
};

/// How long a close frame may take to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Frames handled in a row before others have their turn.
const FRAMES_IN_A_ROW: usize = 32;

/// Why a session ends.
enum End {
    /// The node closes it.
    Close(Close),
    /// The client is gone.
    Gone,
}

/// Whether there are frames to be read.
enum Reads {
    /// The task is woken when one comes.
    Nothing,
    More,
    /// They are left where they are for now.
    Held,
}

/// A socket's work.
pub struct Session<S> {
    socket: S,
    state: AppState,
    principal: Principal,
    request_id: Arc<str>,
    unfinished: Option<Arc<Unfinished>>,
    out: Outbox,
    lanes: Lanes,
    mailbox: Arc<Mailbox>,
    /// By number; a number is never given again, since news of it may be under way.
    subscriptions: Vec<Subscription>,
    next_number: u32,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    told: Option<(mpsc::Sender<(u32, Told)>, mpsc::Receiver<(u32, Told)>)>,
    /// Told when topics may have come that a pattern means.
    names: Option<Arc<Ear>>,
    heard: Instant,
    clock: Clock,
    draining: Option<Instant>,
    /// Messages wait for room among what is to be written.
    has_more: bool,
    /// Commands that members are at.
    commands: usize,
    /// Which subscription has the first turn.
    turn: usize,
}

impl<S> Session<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    /// A session over `socket`. `unfinished` counts what it has received of unfinished messages.
    pub fn new(
        socket: S,
        state: AppState,
        principal: Principal,
        request_id: &str,
        unfinished: Option<Arc<Unfinished>>,
    ) -> Self {
        let request_id: Arc<str> = Arc::from(request_id);
        let lanes = Lanes::new(state.clone(), principal.tenant, Arc::clone(&request_id));
        let now = Instant::now();
        Self {
            socket,
            state,
            principal,
            request_id,
            unfinished,
            out: Outbox::default(),
            lanes,
            mailbox: Mailbox::new(),
            subscriptions: Vec::new(),
            next_number: 0,
            work: FuturesUnordered::new(),
            told: None,
            names: None,
            heard: now,
            clock: Clock::default(),
            draining: None,
            has_more: false,
            commands: 0,
            turn: 0,
        }
    }

    /// Serves the client until either side ends it. It comes boxed: a future holds what it is given
    /// more than once.
    pub async fn run(mut self: Box<Self>) {
        STREAMS.sockets.increment(1.0);
        let lifecycle = self.state.lifecycle.clone();
        let mut draining = std::pin::pin!(lifecycle.draining());
        let end = std::future::poll_fn(|cx| {
            if self.draining.is_none() && draining.as_mut().poll(cx).is_ready() {
                self.drain();
            }
            self.poll(cx)
        })
        .await;
        if let End::Close(close) = end {
            Box::pin(self.close(close)).await;
        }
        STREAMS.sockets.decrement(1.0);
    }

    /// Tells the client why, if it still listens.
    async fn close(&mut self, close: Close) {
        self.out.push(Message::Close(Some(close.frame())));
        let (out, socket) = (&mut self.out, &mut self.socket);
        let closing = async {
            std::future::poll_fn(|cx| out.poll_send(socket, cx)).await?;
            // Until the client has answered: a reset could overtake what was just sent.
            while let Some(Ok(_)) = socket.next().await {}
            Ok::<_, Error>(())
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match self.poll_round(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// One look at everything. True: look again, there is more. Frames come first: what they begin
    /// has to be polled once, or nobody would be woken by it.
    fn poll_round(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let reads = self.poll_reads(cx)?;
        for key in self.mailbox.take(cx) {
            self.heard_of(key);
        }
        self.lanes.poll(cx, &mut self.out);
        while let Poll::Ready(Some(done)) = self.work.poll_next_unpin(cx) {
            self.done(done);
        }
        self.poll_told(cx)?;
        self.poll_tails(cx);
        let is_sent = match self.out.poll_send(&mut self.socket, cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => return Err(End::Gone),
            Poll::Pending => false,
        };
        if self.out.is_taking() {
            // Pings wait behind what it takes, however long that is.
            self.beat();
        }
        self.look_at_clock(cx)?;
        let may_read = match reads {
            Reads::Nothing => false,
            Reads::More => true,
            Reads::Held => !self.holds_back(),
        };
        // What had no room may have it now.
        Ok(may_read || (is_sent && std::mem::take(&mut self.has_more)))
    }

    /// Whether nothing more is read until something is answered or taken.
    fn holds_back(&self) -> bool {
        self.out.is_full()
            || self.lanes.is_full()
            || self.work.len() + self.commands >= limits::SOCKET_REQUESTS_MAX
    }

    fn poll_reads(&mut self, cx: &mut Context<'_>) -> Result<Reads, End> {
        for _ in 0..FRAMES_IN_A_ROW {
            if self.holds_back() {
                return Ok(Reads::Held);
            }
            match self.socket.poll_next_unpin(cx) {
                Poll::Pending => return Ok(Reads::Nothing),
                Poll::Ready(None) => return Err(End::Gone),
                Poll::Ready(Some(Ok(message))) => self.received(message)?,
                Poll::Ready(Some(Err(error))) => return Err(end_of(&error)),
            }
        }
        Ok(Reads::More)
    }

    fn received(&mut self, message: Message) -> Result<(), End> {
        if let Some(unfinished) = &self.unfinished {
            match &message {
                Message::Text(_) | Message::Binary(_) => unfinished.finish(),
                control => unfinished.pass(control.len()),
            }
        }
        self.beat();
        match message {
            Message::Text(text) => self.request(text),
            Message::Binary(_) => Err(End::Close(Close::NoObject)),
            Message::Ping(_) | Message::Pong(_) => {
                if self.clock.is_flood(self.heard) {
                    return Err(End::Close(Close::Flood));
                }
                if message.is_ping() {
                    // The answer waits in the library until something is written.
                    self.out.needs_flush();
                }
                Ok(())
            }
            // The library answers it; what comes next is the end.
            Message::Close(_) => {
                self.out.needs_flush();
                Ok(())
            }
            Message::Frame(_) => Ok(()),
        }
    }

    fn poll_told(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            if !self.out.has_room() {
                self.has_more = true;
                return Ok(());
            }
            let Some((_, told)) = &mut self.told else { return Ok(()) };
            let Poll::Ready(Some((number, told))) = told.poll_recv(cx) else { return Ok(()) };
            self.member_told(number, told)?;
        }
    }
}

/// How the session ends when reading fails.
fn end_of(error: &Error) -> End {
    End::Close(match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Close::TooBig,
        Error::Utf8(_) => Close::NotUtf8,
        Error::Io(error) if error.kind() == std::io::ErrorKind::OutOfMemory => Close::Overloaded,
        Error::Io(error) if error.kind() == std::io::ErrorKind::FileTooLarge => Close::TooBig,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return End::Gone,
        Error::Protocol(_) => Close::Protocol,
        _ => return End::Gone,
    })
}
