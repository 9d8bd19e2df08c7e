//! `tail` without a group: one subscription, which goes on where it stood on every new socket.

use std::{collections::BTreeMap, io::Write};

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    feed::{self, CREDIT_BYTES, Credit, Messages, SUB, at, tell, tell_gap},
    print::Printer,
};
use crate::{
    cli::{
        CliError,
        client::Client,
        socket::{Broken, Frame, Retries, Socket, parse},
    },
    lifecycle::Lifecycle,
    model::Name,
};

const SUBSCRIBE_ID: i64 = 1;
/// Why a subscription ends that goes on after what was lost.
const LOSSES: [&str; 3] = ["offset_out_of_range", "log_truncated", "topic_recreated"];

/// A topic as it is read.
#[derive(Debug)]
pub struct Follower<'a> {
    client: Client,
    topic: &'a Name,
    /// Where to begin, as the server reads it.
    from: String,
    follow: bool,
    /// The history that the positions belong to; none before the beginning is fixed.
    log: Option<String>,
    /// By partition the next offset to be printed.
    next: BTreeMap<u32, i64>,
    /// Where to stop, once that is known.
    ends: Option<BTreeMap<u32, i64>>,
    retries: Retries,
}

#[derive(Deserialize)]
struct Begun {
    log: String,
    positions: BTreeMap<String, BTreeMap<u32, i64>>,
    recovered: bool,
    #[serde(default)]
    reason: String,
}

impl<'a> Follower<'a> {
    /// Nothing is read yet. Without `follow` it stops where the topic ended when it began.
    pub fn new(client: Client, topic: &'a Name, from: String, follow: bool) -> Self {
        let (log, next, ends, retries) = (None, BTreeMap::new(), None, Retries::default());
        Self { client, topic, from, follow, log, next, ends, retries }
    }

    /// Prints until the end, the limit, or Ctrl-C.
    pub async fn run<W: Write>(
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
                Ok(false) => {}
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Again(error)) => tokio::select! {
                    waited = self.retries.after(error) => waited?,
                    () = life.draining() => return Ok(()),
                },
            }
        }
    }

    /// Reads over one socket; true: all is printed.
    async fn read<W: Write>(&mut self, printer: &mut Printer<W>) -> Result<bool, Broken> {
        let mut socket = Socket::open(&self.client).await.map_err(Broken::Again)?;
        if !self.follow && self.ends.is_none() {
            self.ends = Some(feed::ends(&mut socket, self.topic.as_str()).await?);
        }
        let mut credit = self.subscribe(&mut socket, printer.room()).await?;
        let mut leave_at = None;
        loop {
            let text = tokio::select! {
                text = socket.next() => text?,
                () = at(leave_at) => {
                    socket.close().await;
                    return Ok(false);
                }
            };
            let frame = Frame::read(&text)?;
            match (frame.op, frame.sub) {
                ("ok", Some(SUB)) => self.begin(parse(&text)?)?,
                ("messages", Some(SUB)) => {
                    let messages: Messages<'_> = parse(&text)?;
                    printer.page(messages.whole().iter().map(String::as_str))?;
                    if let Some(end) = messages.end(messages.len())? {
                        self.next.insert(messages.partition, end);
                    }
                    if let Some(more) = credit.printed(messages.len(), text.len()) {
                        socket.send(more).await?;
                    }
                }
                ("closed", Some(SUB)) if LOSSES.contains(&&*frame.problem().code) => {
                    credit = self.subscribe(&mut socket, printer.room()).await?;
                }
                ("closed", Some(SUB)) => return Err(frame.problem().into()),
                ("error", _) => return Err(frame.problem().into()),
                ("draining", _) => leave_at = Some(Instant::now() + frame.reconnect_after()),
                _ => {}
            }
            let has_begun = self.log.is_some();
            let ends = self.ends.as_ref().filter(|_| has_begun);
            if printer.is_done() || ends.is_some_and(|ends| feed::is_at_end(&self.next, ends)) {
                socket.close().await;
                return Ok(true);
            }
        }
    }

    async fn subscribe(&self, socket: &mut Socket, room: u64) -> Result<Credit, Broken> {
        let (credit, first) = Credit::begin(room);
        let mut ask = json!({"op": "subscribe", "id": SUBSCRIBE_ID, "sub": SUB,
            "topic": self.topic.as_str(), "from": self.from, "credit": first,
            "credit_bytes": CREDIT_BYTES});
        if let Some(log) = &self.log {
            ask["log"] = json!(log);
            ask["from"] = json!(self.next);
        }
        socket.send(ask.to_string()).await?;
        Ok(credit)
    }

    /// Takes over where the server says it goes on, and tells what was lost before that.
    fn begin(&mut self, begun: Begun) -> Result<(), CliError> {
        let Begun { log, mut positions, recovered, reason } = begun;
        let next = positions.remove(self.topic.as_str()).unwrap_or_default();
        self.retries.worked();
        if !recovered {
            self.tell_loss(&reason, &next)?;
        }
        (self.log, self.next) = (Some(log), next);
        Ok(())
    }

    fn tell_loss(&self, reason: &str, next: &BTreeMap<u32, i64>) -> Result<(), CliError> {
        let topic = self.topic;
        let moved = next.iter().filter_map(|(partition, to)| {
            let from = self.next.get(partition)?;
            (from != to).then_some((*partition, *from, *to))
        });
        match reason {
            "topic_recreated" if !self.follow => {
                return Err(CliError::Failed(format!(
                    "{topic} was deleted and made again while it was read"
                )));
            }
            "topic_recreated" => {
                tell(&format!("{topic} was deleted and made again: reading it from its beginning"));
            }
            "offset_out_of_range" => {
                moved.for_each(|(partition, from, to)| tell_gap(partition, from, to));
            }
            _ => moved.for_each(|(partition, from, to)| {
                tell(&format!(
                    "partition {partition}: a failover cut the log before offset {from}: reading \
                     on from {to}"
                ));
            }),
        }
        Ok(())
    }
}
