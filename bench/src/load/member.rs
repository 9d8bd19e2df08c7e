//! A member of a consumer group over one connection: it joins, polls with its cursor, commits with
//! each poll what the one before it brought, and gives up what it is told to.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use super::{client::Connection, payload};

/// Longer than any poll waits.
const ANSWER: Duration = Duration::from_secs(60);
/// A request that is refused with 503, as when too many members join at once, is sent again.
const TRIES: usize = 30;
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Joined {
    member_id: String,
    cursor: String,
    assignments: Vec<Assignment>,
}

/// A partition of a member.
#[derive(Clone, Debug, Deserialize)]
pub struct Assignment {
    topic: String,
    /// The number of the partition.
    pub partition: u32,
    /// The epoch.
    pub epoch: i64,
    #[serde(default)]
    offset: u64,
}

#[derive(Deserialize)]
struct Polled<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    cursor: String,
    assignments: Vec<Assignment>,
    revoke: Vec<Assignment>,
    #[serde(borrow)]
    commit_errors: Vec<&'a RawValue>,
}

/// A message as readers get it, in typed fields.
#[derive(Deserialize)]
pub struct Message<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The number of the partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// When it was appended.
    pub timestamp: &'a str,
    /// The value.
    #[serde(borrow)]
    pub value: &'a RawValue,
}

/// A member and where it stands.
pub struct Member {
    connection: Connection,
    address: SocketAddr,
    path: String,
    cursor: String,
    /// Everything that it has, as it was told last.
    pub assignments: Vec<Assignment>,
    /// What of that it is to give up.
    pub revoke: Vec<Assignment>,
    /// Behind the last message of each partition.
    ends: BTreeMap<u32, u64>,
}

impl Member {
    /// Joins `group` with a body such as `{"topics":["t"]}`.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn join(address: SocketAddr, group: &str, body: &str) -> Result<Self> {
        let mut connection = Connection::open(address).await.context("connecting")?;
        let path = format!("/v1/groups/{group}/members");
        let request = payload::post(address, &path, body);
        let answer =
            timeout(ANSWER, connection.exchange(&request)).await.context("no answer")??;
        if answer.status != 201 {
            bail!("{path}: {} {}", answer.status, String::from_utf8_lossy(answer.body));
        }
        let joined: Joined = serde_json::from_slice(answer.body)?;
        let path = format!("{path}/{}/poll", joined.member_id);
        let (cursor, assignments) = (joined.cursor, joined.assignments);
        let (revoke, ends) = (Vec::new(), BTreeMap::new());
        Ok(Self { connection, address, path, cursor, assignments, revoke, ends })
    }

    /// The same member over a connection that is opened here.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn reopen(self) -> Result<Self> {
        let connection = Connection::open(self.address).await.context("connecting")?;
        Ok(Self { connection, ..self })
    }

    /// Polls for up to `max` messages and waits as long as `wait` says, with commits and what is
    /// to be given up. Returns how many messages came, every one of them parsed and in order.
    ///
    /// # Errors
    /// When it is refused, a commit is, or messages are out of order.
    pub async fn poll(&mut self, max: usize, wait: &str) -> Result<u64> {
        let ends = std::mem::take(&mut self.ends);
        let commits: Vec<(u32, u64)> = ends.into_iter().collect();
        self.poll_with(max, wait, &commits).await
    }

    /// A poll that commits these offsets of partitions.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub async fn poll_with(
        &mut self,
        max: usize,
        wait: &str,
        commits: &[(u32, u64)],
    ) -> Result<u64> {
        let request = payload::post(self.address, &self.path, &self.body(max, wait, commits));
        let answer = answered(&mut self.connection, &request).await.context("a poll")?;
        let polled: Polled<'_> = serde_json::from_slice(answer).context("an odd answer")?;
        if let Some(error) = polled.commit_errors.first() {
            bail!("a commit was refused: {error}");
        }
        let mut ends: BTreeMap<u32, u64> =
            polled.assignments.iter().map(|held| (held.partition, held.offset)).collect();
        let started = ends.clone();
        for message in &polled.messages {
            let end = ends.get_mut(&message.partition).context("a message of nothing it has")?;
            let is_whole = message.value.get().len() > 2
                && !message.timestamp.is_empty()
                && !message.topic.is_empty();
            if message.offset != *end || !is_whole {
                bail!("offset {} of {} came at {end}", message.offset, message.partition);
            }
            *end += 1;
        }
        ends.retain(|partition, end| started[partition] != *end);
        let count = polled.messages.len() as u64;
        (self.ends, self.cursor) = (ends, polled.cursor);
        (self.assignments, self.revoke) = (polled.assignments, polled.revoke);
        Ok(count)
    }

    fn body(&self, max: usize, wait: &str, commits: &[(u32, u64)]) -> String {
        let mut body =
            format!("{{\"max\":{max},\"wait\":\"{wait}\",\"cursor\":\"{}\"", self.cursor);
        body.push_str(",\"commit\":[");
        let mut comma = "";
        for (partition, offset) in commits {
            let held = self.assignments.iter().find(|held| held.partition == *partition);
            let Some(Assignment { topic, epoch, .. }) = held else { continue };
            let _ = write!(
                body,
                "{comma}{{\"topic\":\"{topic}\",\"partition\":{partition},\"offset\":{offset},\
                 \"epoch\":{epoch}}}"
            );
            comma = ",";
        }
        body.push_str("],\"revoked\":[");
        comma = "";
        for Assignment { topic, partition, epoch, .. } in &self.revoke {
            let _ = write!(
                body,
                "{comma}{{\"topic\":\"{topic}\",\"partition\":{partition},\"epoch\":{epoch}}}"
            );
            comma = ",";
        }
        body.push_str("]}");
        body
    }
}

/// The body of an answer that says yes.
async fn answered<'c>(connection: &'c mut Connection, request: &[u8]) -> Result<&'c [u8]> {
    let mut tries = 1;
    loop {
        let exchange = timeout(ANSWER, connection.exchange(request));
        let (status, body) = match exchange.await.context("no answer")?? {
            // Copied, since the buffer is the next try's as well.
            answer if !answer.is_success() => (answer.status, answer.body.to_vec()),
            _ => return Ok(connection.body()),
        };
        if status != 503 || tries == TRIES {
            bail!("{status} {}", String::from_utf8_lossy(&body));
        }
        tries += 1;
        sleep(PAUSE).await;
    }
}
