//! Batches on their way to the server: several under way on one socket, each under its sequence of
//! one producer, so that they take effect once and in order however often they are sent.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, sleep, sleep_until},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

use super::{
    encode::Batch,
    failure::{Failure, Fate},
    pending::{Pending, Placed, Published, State},
    progress::Progress,
};
use crate::{
    cli::{
        CliError,
        client::Client,
        problem::Problem,
        socket::{Ended, Frame, Retries, Socket, parse},
    },
    lifecycle::Lifecycle,
    model::Name,
};

/// Batches under way. Before one is confirmed there is only one: what is wrong with the first is
/// mostly wrong with all.
const UNDER_WAY_MAX: usize = 16;
/// How long a socket may answer nothing of what is under way.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// One producer's way to a topic.
#[derive(Debug)]
pub struct Pipeline {
    client: Client,
    topic: Name,
    producer: Uuid,
    life: Lifecycle,
    socket: Option<Socket>,
    pending: VecDeque<Pending>,
    next_sequence: i64,
    /// When something was answered last, or the first was sent.
    heard: Instant,
    retries: Retries,
    /// The node stops: nothing more is sent to it, and once all is answered this is waited for.
    leaves_after: Option<Duration>,
    is_interrupted: bool,
    /// What could not be read.
    unread: Option<CliError>,
    failure: Option<Failure>,
    progress: Progress,
    has_confirmed: bool,
    durability: Option<String>,
    first_placed: Option<Placed>,
}

/// What happens next.
enum Next {
    Batch(Option<Result<Batch, CliError>>),
    Frame(Result<Utf8Bytes, Ended>),
    Interrupted,
    Aborted,
}

impl Pipeline {
    /// Nothing is sent yet.
    pub fn new(client: Client, topic: &Name, life: Lifecycle, progress: Progress) -> Self {
        Self {
            client,
            topic: topic.clone(),
            producer: uuid::Builder::from_random_bytes(rand::random()).into_uuid(),
            life,
            socket: None,
            pending: VecDeque::new(),
            next_sequence: 0,
            heard: Instant::now(),
            retries: Retries::default(),
            leaves_after: None,
            is_interrupted: false,
            unread: None,
            failure: None,
            progress,
            has_confirmed: false,
            durability: None,
            first_placed: None,
        }
    }

    /// What has been published.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What the acknowledgements mean, as the server says it.
    pub fn durability(&self) -> Option<&str> {
        self.durability.as_deref()
    }

    /// Where the first message went.
    pub fn first_placed(&self) -> Option<Placed> {
        self.first_placed
    }

    /// Publishes what comes until nothing more does and all of it is confirmed. After a failure
    /// nothing more is sent, and what is under way is waited for.
    pub async fn run(
        &mut self,
        mut batches: Receiver<Result<Batch, CliError>>,
    ) -> Result<(), CliError> {
        let mut is_open = true;
        while is_open || !self.pending.is_empty() {
            if let Err(error) = self.step(&mut batches, &mut is_open).await {
                self.give_up(error);
            }
            self.settle();
            is_open &= self.failure.is_none();
        }
        if let Some(socket) = self.socket.take() {
            socket.close().await;
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure.into_error());
        }
        match (self.unread.take(), self.is_interrupted) {
            (Some(error), _) => Err(error),
            (None, true) => Err(self.interrupted()),
            (None, false) => Ok(()),
        }
    }

    async fn step(
        &mut self,
        batches: &mut Receiver<Result<Batch, CliError>>,
        is_open: &mut bool,
    ) -> Result<(), CliError> {
        self.send().await?;
        match self.next(batches, *is_open).await {
            Next::Batch(Some(Ok(batch))) => self.add(batch),
            Next::Batch(Some(Err(error))) => {
                *is_open = false;
                self.unread = Some(error);
            }
            Next::Batch(None) => *is_open = false,
            Next::Frame(Ok(text)) => self.told(&text).await?,
            Next::Frame(Err(ended)) => self.lost(ended).await?,
            Next::Interrupted => (self.is_interrupted, *is_open) = (true, false),
            Next::Aborted => return Err(CliError::Failed("interrupted twice".to_owned())),
        }
        Ok(())
    }

    async fn next(
        &mut self,
        batches: &mut Receiver<Result<Batch, CliError>>,
        is_open: bool,
    ) -> Next {
        let most = if self.has_confirmed { UNDER_WAY_MAX } else { 1 };
        let has_room = is_open && self.pending.len() < most;
        let (has_sent, silent_at) = (self.has_sent(), self.heard + ANSWER_TIMEOUT);
        let frame = async {
            match &mut self.socket {
                Some(socket) => tokio::select! {
                    frame = socket.next() => frame,
                    () = sleep_until(silent_at), if has_sent => Err(socket.is_silent()),
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            batch = batches.recv(), if has_room => Next::Batch(batch),
            frame = frame => Next::Frame(frame),
            () = self.life.draining(), if is_open => Next::Interrupted,
            () = self.life.aborted() => Next::Aborted,
        }
    }

    fn add(&mut self, batch: Batch) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let frame = format!(
            "{{\"op\":\"publish\",\"id\":{sequence},\"topic\":\"{}\",\"producer\":{{\"id\":\"{}\",\
             \"sequence\":{sequence}}},\"messages\":{}}}",
            self.topic, self.producer, batch.messages
        );
        let state = State::Waiting;
        self.pending.push_back(Pending { sequence, frame, batch, state, in_doubt: false });
    }

    fn has(&self, is: impl Fn(&State) -> bool) -> bool {
        self.pending.iter().any(|pending| is(&pending.state))
    }

    fn has_sent(&self) -> bool {
        self.has(|state| matches!(state, State::Sent))
    }

    /// Sends what waits, in order, over a socket that is opened where there is none.
    async fn send(&mut self) -> Result<(), CliError> {
        let waits = |state: &State| matches!(state, State::Waiting);
        let is_held = |state: &State| matches!(state, State::Again);
        while self.leaves_after.is_none() && self.has(waits) && !self.has(is_held) {
            let has_sent = self.has_sent();
            let Some(socket) = &mut self.socket else {
                match Socket::open(&self.client).await {
                    Ok(socket) => self.socket = Some(socket),
                    Err(error) => self.wait_after(error).await?,
                }
                continue;
            };
            let first = self.pending.iter_mut().find(|pending| waits(&pending.state));
            let Some(first) = first else { return Ok(()) };
            if !has_sent {
                self.heard = Instant::now();
            }
            (first.state, first.in_doubt) = (State::Sent, true);
            if let Err(ended) = socket.send(first.frame.as_str()).await {
                return self.lost(ended).await;
            }
        }
        Ok(())
    }

    async fn told(&mut self, text: &str) -> Result<(), CliError> {
        self.heard = Instant::now();
        let frame = Frame::read(text)?;
        match (frame.op, frame.id) {
            ("draining", _) => self.leaves_after = Some(frame.reconnect_after()),
            ("ok", Some(sequence)) => self.confirmed(sequence, parse(text)?)?,
            ("error", Some(sequence)) => self.refused(sequence, frame.problem()).await?,
            ("error", None) => return Err(CliError::Problem(Box::new(frame.problem()))),
            _ => {}
        }
        if let Some(after) = self.leaves_after.filter(|_| !self.has_sent()) {
            self.leave(after).await?;
        }
        Ok(())
    }

    fn confirmed(&mut self, sequence: i64, published: Published) -> Result<(), CliError> {
        let Some(pending) = self.pending.iter_mut().find(|pending| pending.sequence == sequence)
        else {
            return Ok(());
        };
        let (told, count) = (published.results.len(), pending.batch.count);
        if told != count {
            return Err(CliError::Failed(format!(
                "the server confirmed {told} of {count} messages"
            )));
        }
        (pending.state, pending.in_doubt) = (State::Confirmed, false);
        if self.first_placed.is_none() {
            self.first_placed = published.results.first().copied();
        }
        self.durability = published.durability;
        self.has_confirmed = true;
        self.retries.worked();
        Ok(())
    }

    async fn refused(&mut self, sequence: i64, problem: Problem) -> Result<(), CliError> {
        let Some(pending) = self.pending.iter_mut().find(|pending| pending.sequence == sequence)
        else {
            return Ok(());
        };
        pending.in_doubt = !problem.had_no_effect();
        if !problem.is_worth_repeating() {
            pending.state = State::Refused(Box::new(problem));
            return Ok(());
        }
        pending.state = State::Again;
        if self.has_sent() || self.failure.is_some() {
            return Ok(());
        }
        self.wait_after(CliError::Problem(Box::new(problem))).await?;
        self.send_again();
        Ok(())
    }

    fn send_again(&mut self) {
        for pending in &mut self.pending {
            // Also what is confirmed: the server takes a producer's sequences only in turn.
            if matches!(pending.state, State::Sent | State::Again | State::Confirmed) {
                pending.state = State::Waiting;
            }
        }
    }

    async fn lost(&mut self, ended: Ended) -> Result<(), CliError> {
        if self.failure.is_some() {
            self.drop_socket();
            return Ok(());
        }
        let error = ended.into_error()?;
        (self.socket, self.leaves_after) = (None, None);
        self.send_again();
        match self.pending.is_empty() {
            // The next batch finds out whether there is a server.
            true => Ok(()),
            false => self.wait_after(error).await,
        }
    }

    /// Goes from a node that stops and has answered everything.
    async fn leave(&mut self, after: Duration) -> Result<(), CliError> {
        if let Some(socket) = self.socket.take() {
            socket.close().await;
        }
        self.leaves_after = None;
        self.send_again();
        tokio::select! {
            () = sleep(after) => Ok(()),
            () = self.life.aborted() => Err(CliError::Failed("interrupted twice".to_owned())),
        }
    }

    async fn wait_after(&mut self, error: CliError) -> Result<(), CliError> {
        tokio::select! {
            waited = self.retries.after(error) => waited,
            () = self.life.aborted() => Err(CliError::Failed("interrupted twice".to_owned())),
        }
    }

    /// Counts what is confirmed, in order, and notes what is not to be.
    fn settle(&mut self) {
        while let Some(front) = self.pending.front() {
            let is_over = self.failure.is_some() || self.is_interrupted && !front.in_doubt;
            match front.state {
                State::Waiting | State::Again if !is_over => return,
                State::Sent => return,
                State::Waiting | State::Again | State::Confirmed | State::Refused(_) => {}
            }
            let Some(Pending { batch, state, in_doubt, .. }) = self.pending.pop_front() else {
                return;
            };
            match (state, &mut self.failure) {
                (State::Confirmed, failure) => {
                    let last = batch.numbers.last().copied().unwrap_or(0);
                    self.progress.add(batch.count, batch.bytes, last);
                    if let Some(failure) = failure {
                        failure.note(&batch, Fate::Published);
                    }
                }
                (State::Refused(problem), failure) => {
                    let error = CliError::Problem(problem);
                    let failure = failure.get_or_insert_with(|| Failure::new(error));
                    failure.note(&batch, Fate::of(in_doubt));
                }
                (_, Some(failure)) if in_doubt => failure.note(&batch, Fate::Unknown),
                _ => {}
            }
        }
    }

    /// Nothing more is sent or waited for.
    fn give_up(&mut self, error: CliError) {
        let failure = self.failure.get_or_insert_with(|| Failure::new(error));
        if let Some(first) = self.pending.front()
            && !matches!(first.state, State::Confirmed | State::Refused(_))
        {
            failure.note(&first.batch, Fate::of(first.in_doubt));
            self.pending.pop_front();
        }
        self.drop_socket();
    }

    /// What is under way is not waited for any more.
    fn drop_socket(&mut self) {
        self.socket = None;
        for pending in &mut self.pending {
            if matches!(pending.state, State::Sent) {
                pending.state = State::Waiting;
            }
        }
    }

    fn interrupted(&self) -> CliError {
        match self.progress.last_line() {
            0 => CliError::Failed("interrupted before the first line".to_owned()),
            last => CliError::Failed(format!("interrupted after line {last}")),
        }
    }
}
