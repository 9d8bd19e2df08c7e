//! `tail --group`: one member of a consumer group on a socket. What was printed is committed as
//! soon as the commit before it is answered.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, IsTerminal, Write},
    time::Duration,
};

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::{
    feed::{self, CREDIT_BYTES, Credit, Messages, SUB, at},
    partitions::{Assignment, Partitions},
    print::Printer,
};
use crate::{
    cli::{
        CliError,
        args::TailArgs,
        client::{Call, Client},
        group, interrupt,
        socket::{Broken, Frame, Retries, Socket, parse},
        topic,
    },
    lifecycle::Lifecycle,
    model::Name,
};

const SUBSCRIBE_ID: i64 = 1;
const COMMIT_ID: i64 = 2;
const RELEASE_ID: i64 = 3;
const LEAVE_ID: i64 = 4;
/// How long a member that goes waits for its answers.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Joined {
    member_id: String,
    generation: i64,
}

#[derive(Deserialize)]
struct Entries {
    assignments: Vec<Assignment>,
}

/// Prints what the group gives this member until it ends or is ended.
pub async fn run(args: &TailArgs, group: &Name) -> Result<(), CliError> {
    let start = match args.from.as_deref().map(str::trim) {
        None | Some("earliest") => "earliest",
        Some("latest") => "latest",
        Some(other) => {
            return Err(CliError::Usage(format!(
                "--from {other}: a group begins at earliest or latest; 'postrider group seek' \
                 moves one that stands"
            )));
        }
    };
    let client = Client::new(&args.server)?;
    topic::get(&client, &args.topic).await?;
    let life = interrupt::watched();
    let mut member = Member::new(client, group, &args.topic, start, !args.no_follow);
    let mut printer =
        Printer::new(BufWriter::new(io::stdout()), args.output, args.limit.unwrap_or(u64::MAX));
    if !args.no_follow && io::stderr().is_terminal() {
        let line = format!("reading {} for the group {group}; Ctrl-C ends", args.topic);
        let _ = writeln!(io::stderr(), "{line}");
    }
    let ended = member.run(&life, &mut printer).await;
    printer.finish()?;
    let left = member.leave().await;
    ended.and(left)
}

struct Member<'a> {
    client: Client,
    group: &'a Name,
    topic: &'a Name,
    start: &'static str,
    follow: bool,
    /// Its id and generation, once it has joined.
    joined: Option<(String, i64)>,
    partitions: Partitions,
    is_assigned: bool,
    is_committing: bool,
    ends: Option<BTreeMap<u32, i64>>,
    socket: Option<Socket>,
    retries: Retries,
}

impl<'a> Member<'a> {
    fn new(
        client: Client,
        group: &'a Name,
        topic: &'a Name,
        start: &'static str,
        follow: bool,
    ) -> Self {
        Self {
            client,
            group,
            topic,
            start,
            follow,
            joined: None,
            partitions: Partitions::of(topic.as_str()),
            is_assigned: false,
            is_committing: false,
            ends: None,
            socket: None,
            retries: Retries::default(),
        }
    }

    async fn run<W: Write>(
        &mut self,
        life: &Lifecycle,
        printer: &mut Printer<W>,
    ) -> Result<(), CliError> {
        loop {
            let read = tokio::select! {
                read = self.read(printer) => read,
                () = life.draining() => return Ok(()),
            };
            match read {
                Ok(true) => return Ok(()),
                // The node stops, and wanted to be left now.
                Ok(false) => self.socket = None,
                Err(Broken::Final(error)) => {
                    self.socket = None;
                    return Err(error);
                }
                Err(Broken::Again(error)) => {
                    self.socket = None;
                    tokio::select! {
                        waited = self.retries.after(error) => waited?,
                        () = life.draining() => return Ok(()),
                    }
                }
            }
        }
    }

    /// Reads over one socket; true: all is printed.
    async fn read<W: Write>(&mut self, printer: &mut Printer<W>) -> Result<bool, Broken> {
        let mut socket = Socket::open(&self.client).await.map_err(Broken::Again)?;
        if !self.follow && self.ends.is_none() {
            self.ends = Some(feed::ends(&mut socket, self.topic.as_str()).await?);
        }
        // The next generation begins at the committed offsets: what was printed is not to be
        // printed again.
        self.commit_by_request().await.map_err(Broken::Again)?;
        let (mut credit, first) = Credit::begin(printer.room());
        let mut ask = json!({"op": "subscribe", "id": SUBSCRIBE_ID, "sub": SUB,
            "topics": [self.topic.as_str()], "group": self.group.as_str(), "start": self.start,
            "credit": first, "credit_bytes": CREDIT_BYTES});
        if let Some((id, generation)) = &self.joined {
            (ask["member_id"], ask["generation"]) = (json!(id), json!(generation + 1));
        }
        self.socket = Some(socket);
        self.send(ask.to_string()).await?;
        (self.is_assigned, self.is_committing) = (false, false);
        let mut leave_at = None;
        loop {
            let Some(socket) = &mut self.socket else { return Ok(false) };
            let text = tokio::select! {
                text = socket.next() => text?,
                () = at(leave_at) => return Ok(false),
            };
            let frame = Frame::read(&text)?;
            match (frame.op, frame.sub) {
                ("messages", Some(SUB)) => {
                    let messages: Messages<'_> = parse(&text)?;
                    let count = printer.room().min(messages.len() as u64) as usize;
                    printer.page(messages.whole().iter().map(String::as_str))?;
                    if let Some(end) = messages.end(count)? {
                        self.partitions.printed(messages.partition, messages.epoch, end);
                    }
                    if let Some(more) = credit.printed(count, text.len()) {
                        self.send(more).await?;
                    }
                    self.commit().await?;
                }
                ("draining", _) => leave_at = Some(Instant::now() + frame.reconnect_after()),
                _ => self.told(&frame, &text).await?,
            }
            if printer.is_done() || self.is_at_end() {
                return Ok(true);
            }
        }
    }

    fn is_at_end(&self) -> bool {
        self.is_assigned && self.ends.as_ref().is_some_and(|ends| self.partitions.is_at_end(ends))
    }

    async fn send(&mut self, frame: String) -> Result<(), Broken> {
        match &mut self.socket {
            Some(socket) => Ok(socket.send(frame).await?),
            None => Ok(()),
        }
    }

    /// Frames that are no messages.
    async fn told(&mut self, frame: &Frame<'_>, text: &str) -> Result<(), Broken> {
        match (frame.op, frame.id) {
            ("ok", Some(SUBSCRIBE_ID)) => {
                let joined: Joined = parse(text)?;
                self.joined = Some((joined.member_id, joined.generation));
                self.retries.worked();
            }
            ("ok" | "error", Some(COMMIT_ID)) => {
                self.commit_answered(frame);
                if frame.op == "ok" {
                    self.commit().await?;
                }
            }
            ("error", Some(RELEASE_ID)) => {}
            ("error", _) => return Err(frame.problem().into()),
            ("assigned", _) => {
                self.partitions.assigned(parse::<Entries>(text)?.assignments);
                self.is_assigned = true;
            }
            ("revoke", _) => {
                let given = parse::<Entries>(text)?.assignments;
                let offsets = self.partitions.give_up(&given);
                let release = json!({"op": "release", "id": RELEASE_ID, "sub": SUB,
                    "assignments": given, "offsets": offsets});
                self.send(release.to_string()).await?;
            }
            // It was silent for too long, perhaps stopped: it joins again.
            ("closed", _) if frame.problem().code == "unknown_member" => {
                self.partitions.clear();
                let (url, detail) = (self.client.address().to_owned(), "its session ended".into());
                return Err(Broken::Again(CliError::Lost { url, detail }));
            }
            ("closed", _) => return Err(frame.problem().into()),
            _ => {}
        }
        Ok(())
    }

    /// Commits what was printed, unless a commit is under way: its answer begins the next.
    async fn commit(&mut self) -> Result<(), Broken> {
        let offsets = self.partitions.unsent();
        if self.is_committing || offsets.is_empty() {
            return Ok(());
        }
        self.partitions.sent();
        self.is_committing = true;
        let commit = json!({"op": "commit", "id": COMMIT_ID, "sub": SUB, "offsets": offsets});
        self.send(commit.to_string()).await
    }

    fn commit_answered(&mut self, frame: &Frame<'_>) {
        self.is_committing = false;
        // An entry that was refused for good is somebody else's by now.
        let is_done = frame.op == "ok" || !frame.problem().is_worth_repeating();
        self.partitions.answered(is_done);
    }

    /// Commits over HTTP what a lost socket may not have committed.
    async fn commit_by_request(&mut self) -> Result<(), CliError> {
        let offsets = self.partitions.uncommitted();
        if offsets.is_empty() {
            return Ok(());
        }
        let body = json!({"offsets": offsets}).to_string();
        let call = Call::post(format!("{}/offsets", group::path(self.group)), body).harmless();
        match self.client.send(&call).await {
            Err(CliError::Problem(problem)) if !problem.is_worth_repeating() => {}
            done => drop(done?),
        }
        self.partitions.sent();
        self.partitions.answered(true);
        Ok(())
    }

    /// Commits what was printed, and goes.
    async fn leave(&mut self) -> Result<(), CliError> {
        if self.socket.is_some() && self.leave_socket().await.is_ok() {
            return Ok(());
        }
        let Some((id, _)) = self.joined.clone() else { return Ok(()) };
        self.commit_by_request().await?;
        let path = format!("{}/members/{id}", group::path(self.group));
        match self.client.send(&Call::delete(path)).await {
            Err(CliError::Problem(problem)) if problem.code == "unknown_member" => Ok(()),
            done => done.map(drop),
        }
    }

    async fn leave_socket(&mut self) -> Result<(), Broken> {
        let until = Instant::now() + LEAVE_TIMEOUT;
        let mut has_asked = false;
        loop {
            self.commit().await?;
            if !self.is_committing && !has_asked {
                let leave = json!({"op": "unsubscribe", "id": LEAVE_ID, "sub": SUB}).to_string();
                self.send(leave).await?;
                has_asked = true;
            }
            let Some(socket) = &mut self.socket else { return Ok(()) };
            let Ok(next) = timeout_at(until, socket.next()).await else {
                return Err(socket.is_silent().into());
            };
            let text = next?;
            let frame = Frame::read(&text)?;
            match (frame.op, frame.id) {
                ("ok" | "error", Some(COMMIT_ID)) => self.commit_answered(&frame),
                ("ok", Some(LEAVE_ID)) => break,
                ("error", _) | ("closed", _) => return Err(frame.problem().into()),
                _ => {}
            }
        }
        if let Some(socket) = self.socket.take() {
            socket.close().await;
        }
        Ok(())
    }
}
