//! A member of a consumer group over a socket.

use std::{fmt::Write as _, net::SocketAddr};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{frames, socket::Socket};

/// Credit that a member has while it reads, and after how many messages it is given again.
const CREDIT: u64 = 20_000;
const AGAIN: u64 = 5_000;
/// Messages of one commit.
const COMMIT: u64 = 10_000;

/// A partition of a member.
#[derive(Clone, Debug, Deserialize)]
pub struct Held {
    topic: String,
    /// The number of the partition.
    pub partition: u32,
    epoch: i64,
    #[serde(default)]
    offset: u64,
}

#[derive(Deserialize)]
struct Control {
    op: String,
    #[serde(default)]
    assignments: Vec<Held>,
    #[serde(default)]
    commit_errors: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
struct Messages<'a> {
    topic: &'a str,
    partition: u32,
    epoch: i64,
    #[serde(borrow)]
    messages: Vec<Item<'a>>,
}

/// A message as frames carry it, in typed fields.
#[derive(Deserialize)]
struct Item<'a> {
    offset: u64,
    timestamp: &'a str,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// A member that has joined.
pub struct GroupSocket {
    socket: Socket,
    /// Everything that it has, as it was told last.
    pub held: Vec<Held>,
    is_giving_up: bool,
}

impl GroupSocket {
    /// Joins `group` without credit, so that nothing comes yet.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn join(address: SocketAddr, group: &str, topic: &str) -> Result<Self> {
        let mut socket = Socket::open(address).await?;
        let subscribe = format!(
            "{{\"op\":\"subscribe\",\"id\":1,\"sub\":\"g\",\"topics\":[\"{topic}\"],\
             \"group\":\"{group}\",\"start\":\"earliest\",\"credit\":0}}"
        );
        socket.ask(&subscribe).await?;
        Ok(Self { socket, held: Vec::new(), is_giving_up: false })
    }

    /// Whether it has one partition that it keeps.
    pub fn is_settled(&self) -> bool {
        self.held.len() == 1 && !self.is_giving_up
    }

    /// Takes the next frame before there are messages, and gives up what it is told to.
    ///
    /// # Errors
    /// When it is refused something.
    pub async fn follow(&mut self) -> Result<()> {
        let frame = self.socket.next().await?;
        let told: Control = serde_json::from_slice(frame).context("an odd frame")?;
        match told.op.as_str() {
            "assigned" => self.held = told.assignments,
            "revoke" => {
                self.is_giving_up = true;
                let entries = entries(&told.assignments, |_| None);
                let release = format!(
                    "{{\"op\":\"release\",\"id\":2,\"sub\":\"g\",\"assignments\":[{entries}]}}"
                );
                self.socket.send(&frames::text(&release)).await?;
            }
            "revoked" => self.is_giving_up = false,
            "ok" => {}
            _ => bail!("{}", String::from_utf8_lossy(frame)),
        }
        Ok(())
    }

    /// Reads its one partition up to `end` and commits it. Every message is parsed, and in order.
    ///
    /// # Errors
    /// When a message is missing, or a commit is refused.
    pub async fn drain(&mut self, end: u64) -> Result<u64> {
        let [held] = self.held.as_slice() else { bail!("it has no one partition") };
        let (held, first) = (held.clone(), held.offset);
        let (mut next, mut used, mut committed, mut under_way) = (first, 0, first, 0);
        self.socket.send(&credit(CREDIT)).await?;
        while next < end || under_way > 0 {
            let frame = self.socket.next().await?;
            if !frame.starts_with(b"{\"op\":\"messages\"") {
                let told: Control = serde_json::from_slice(frame).context("an odd frame")?;
                let is_mine = |has: &Held| has.partition == held.partition;
                if told.op == "assigned" && told.assignments.iter().all(is_mine) {
                    continue;
                }
                if told.op != "ok" || told.commit_errors.is_some_and(|errors| !errors.is_empty()) {
                    bail!("{}", String::from_utf8_lossy(frame));
                }
                under_way -= 1;
                continue;
            }
            let count = read(frame, &held, next)?;
            (next, used) = (next + count, used + count);
            if used >= AGAIN {
                self.socket.send(&credit(used)).await?;
                used = 0;
            }
            if next - committed >= COMMIT || next == end && committed < end {
                committed = next;
                let entries = entries(std::slice::from_ref(&held), |_| Some(next));
                let commit =
                    format!("{{\"op\":\"commit\",\"id\":3,\"sub\":\"g\",\"offsets\":[{entries}]}}");
                self.socket.send(&frames::text(&commit)).await?;
                under_way += 1;
            }
        }
        Ok(next - first)
    }
}

/// How many messages a frame brought.
fn read(frame: &[u8], held: &Held, next: u64) -> Result<u64> {
    let came: Messages<'_> = serde_json::from_slice(frame).context("an odd frame")?;
    let is_held =
        came.partition == held.partition && came.epoch == held.epoch && came.topic == held.topic;
    let in_order = came.messages.iter().zip(next..).all(|(message, offset)| {
        message.offset == offset && message.value.get().len() > 2 && !message.timestamp.is_empty()
    });
    if !is_held || !in_order {
        bail!("a frame is not in order at {next} of {}", held.partition);
    }
    Ok(came.messages.len() as u64)
}

fn credit(messages: u64) -> Vec<u8> {
    frames::text(&format!("{{\"op\":\"credit\",\"sub\":\"g\",\"messages\":{messages}}}"))
}

fn entries(held: &[Held], offset: impl Fn(&Held) -> Option<u64>) -> String {
    let mut text = String::new();
    for each in held {
        let Held { topic, partition, epoch, .. } = each;
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(
            text,
            "{comma}{{\"topic\":\"{topic}\",\"partition\":{partition},\"epoch\":{epoch}"
        );
        if let Some(offset) = offset(each) {
            let _ = write!(text, ",\"offset\":{offset}");
        }
        text.push('}');
    }
    text
}
