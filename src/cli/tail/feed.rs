//! What `tail` reads from a socket, with a group and without: messages, the credit for more, and
//! where the partitions end.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::time::{Instant, sleep_until, timeout};

use crate::cli::{
    CliError,
    socket::{Broken, Frame, Socket, parse},
};

/// Messages that the server may send before it is told that some were printed.
const CREDIT: u64 = 2_000;
/// Bytes that it may send: one of the largest messages at least, all of it control characters, six
/// bytes of JSON each. The socket itself holds back what is not read.
pub const CREDIT_BYTES: u64 = 128 * 1024 * 1024;
/// Bytes after which it is told.
const TOLD_BYTES: u64 = 2 * 1024 * 1024;
/// The name of the one subscription.
pub const SUB: &str = "tail";
/// The name of one that only asks where partitions end.
const ENDS: &str = "ends";
const ENDS_ID: i64 = -1;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A `messages` frame.
#[derive(Debug, Deserialize)]
pub struct Messages<'a> {
    topic: &'a str,
    /// Whose they are.
    pub partition: u32,
    /// Under which epoch, in a group.
    #[serde(default)]
    pub epoch: i64,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Place {
    offset: i64,
}

impl Messages<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Each as a read over HTTP writes it, with its topic and partition.
    pub fn whole(&self) -> Vec<String> {
        let lead = format!("{{\"topic\":\"{}\",\"partition\":{},", self.topic, self.partition);
        let whole = |item: &&RawValue| {
            // An item is an object, never an empty one.
            format!("{lead}{}", item.get().trim_start_matches('{'))
        };
        self.messages.iter().map(whole).collect()
    }

    /// The offset behind the first `count` of them; none where there are none.
    pub fn end(&self, count: usize) -> Result<Option<i64>, CliError> {
        let last = self.messages[..count.min(self.messages.len())].last();
        last.map(|last| parse::<Place>(last.get()).map(|place| place.offset + 1)).transpose()
    }
}

/// The credit of one subscription: never more than is to be printed.
#[derive(Debug)]
pub struct Credit {
    /// What may be given beyond what was.
    left: u64,
    used: u64,
    used_bytes: u64,
}

impl Credit {
    /// Of a subscription of which `room` messages are to be printed; and what it begins with.
    pub fn begin(room: u64) -> (Self, u64) {
        let first = room.min(CREDIT);
        (Self { left: room - first, used: 0, used_bytes: 0 }, first)
    }

    /// Counts what was printed; the frame that gives it back, when it is time.
    pub fn printed(&mut self, messages: usize, bytes: usize) -> Option<String> {
        self.used += messages as u64;
        self.used_bytes += bytes as u64;
        if self.used < CREDIT / 2 && self.used_bytes < TOLD_BYTES {
            return None;
        }
        let more = self.used.min(self.left);
        (self.left, self.used, self.used_bytes) = (self.left - more, 0, 0);
        Some(json!({"op": "credit", "sub": SUB, "messages": more}).to_string())
    }
}

#[derive(Deserialize)]
struct Positions {
    positions: BTreeMap<String, BTreeMap<u32, i64>>,
}

/// Where every partition of a topic ends now.
pub async fn ends(socket: &mut Socket, topic: &str) -> Result<BTreeMap<u32, i64>, Broken> {
    let ask = json!({"op": "subscribe", "id": ENDS_ID, "sub": ENDS, "topic": topic,
        "from": "latest", "credit": 0});
    socket.send(ask.to_string()).await?;
    let until = Instant::now() + ANSWER_TIMEOUT;
    loop {
        let wait = until.saturating_duration_since(Instant::now());
        let Ok(next) = timeout(wait, socket.next()).await else {
            return Err(socket.is_silent().into());
        };
        let text = next?;
        let frame = Frame::read(&text)?;
        match (frame.op, frame.id) {
            ("ok", Some(ENDS_ID)) => {
                let mut told: Positions = parse(&text)?;
                let done = json!({"op": "unsubscribe", "sub": ENDS});
                socket.send(done.to_string()).await?;
                return Ok(told.positions.remove(topic).unwrap_or_default());
            }
            ("error", Some(ENDS_ID)) => return Err(frame.problem().into()),
            _ => {}
        }
    }
}

/// Whether nothing is left before `ends`.
pub fn is_at_end(next: &BTreeMap<u32, i64>, ends: &BTreeMap<u32, i64>) -> bool {
    next.iter().all(|(partition, next)| ends.get(partition).is_none_or(|end| next >= end))
}

/// Completes at a time, if there is one.
pub async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Tells of messages that retention took.
pub fn tell_gap(partition: u32, from: i64, to: i64) {
    tell(&format!("partition {partition}: offsets {from} to {} are gone by retention", to - 1));
}

/// Tells something beside the messages.
pub fn tell(what: &str) {
    let _ = writeln!(io::stderr(), "postrider: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_whole_again() {
        let text = r#"{"op":"messages","sub":"tail","topic":"t","partition":3,
            "messages":[{"offset":7,"value":{"a":1}},{"offset":8,"value_text":"{"}]}"#;
        let messages: Messages<'_> = parse(text).expect("a frame");
        assert_eq!(
            messages.whole()[1],
            r#"{"topic":"t","partition":3,"offset":8,"value_text":"{"}"#
        );
        assert_eq!(
            messages.whole()[0],
            r#"{"topic":"t","partition":3,"offset":7,"value":{"a":1}}"#
        );
        let end = |count| messages.end(count).expect("offsets");
        assert_eq!([end(0), end(1), end(2), end(3)], [None, Some(8), Some(9), Some(9)]);
    }

    #[test]
    fn credit_never_goes_beyond_what_is_to_be_printed() {
        for room in [0, 1, CREDIT - 1, CREDIT, CREDIT + 1, 10 * CREDIT] {
            let (mut credit, mut given) = Credit::begin(room);
            let mut printed = 0;
            while printed < given {
                printed += 1;
                let Some(frame) = credit.printed(1, 100) else { continue };
                let frame: serde_json::Value = serde_json::from_str(&frame).expect("JSON");
                given += frame["messages"].as_u64().expect("a number");
            }
            assert_eq!((printed, given), (room, room));
        }
    }

    #[test]
    fn large_messages_are_given_back_by_their_bytes() {
        let (mut credit, _) = Credit::begin(u64::MAX);
        assert!(credit.printed(1, 1_000).is_none());
        assert!(credit.printed(1, TOLD_BYTES as usize).is_some());
    }
}
