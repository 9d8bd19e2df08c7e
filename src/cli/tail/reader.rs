//! One partition, read page by page over HTTP: a subscription of a socket has all of a topic.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::mpsc::Sender,
    time::{Instant, sleep},
};

use crate::cli::{
    CliError,
    client::{Call, Client, Patience},
};

/// How long a read waits at the server for a message.
const LONG_POLL: Duration = Duration::from_secs(20);
/// An empty answer sooner than this came from a server that did not wait.
const EMPTY_TOO_SOON: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(250);

/// What a reader has to tell.
#[derive(Debug)]
pub enum Event {
    /// Messages of one partition, in their order.
    Page(Vec<Box<RawValue>>),
    /// Retention was faster than the reader.
    Gap {
        /// Of which partition.
        partition: u32,
        /// The first message that is gone.
        from: u64,
        /// The first that is there.
        to: u64,
    },
    /// A reader has ended.
    Ended(Result<(), CliError>),
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Box<RawValue>>,
    next_offset: u64,
    high_watermark: u64,
}

/// Reads one partition.
#[derive(Debug)]
pub struct Reader {
    /// The way to the server.
    pub client: Client,
    /// The topic's resource.
    pub topic: String,
    /// Which partition.
    pub partition: u32,
    /// Whether to go on where it ends.
    pub follow: bool,
    /// Messages of one page.
    pub page: u64,
    /// Where its events go.
    pub events: Sender<Event>,
}

impl Reader {
    /// Reads from `from` on, and tells when it ended.
    pub async fn run(self, from: String) {
        let ended = self.read(from).await;
        // Nobody listens any more when the command has ended for another reason.
        let _ = self.events.send(Event::Ended(ended)).await;
    }

    async fn read(&self, from: String) -> Result<(), CliError> {
        // The first read does not wait: it fixes where this reader stands, so that no later
        // failure can move `latest`.
        let mut page: Page = self.client.send(&self.call(from)).await?.json()?;
        let end = page.high_watermark;
        loop {
            let (next, count) = (page.next_offset, page.messages.len());
            if count > 0 && self.events.send(Event::Page(page.messages)).await.is_err() {
                return Ok(());
            }
            if !self.follow && (next >= end || count == 0) {
                return Ok(());
            }
            page = match self.follow {
                true => self.next(next).await?,
                false => self.client.send(&self.call(next.to_string())).await?.json()?,
            };
        }
    }

    async fn next(&self, mut next: u64) -> Result<Page, CliError> {
        loop {
            let began = Instant::now();
            let call = self.call(next.to_string()).wait(LONG_POLL).patience(Patience::Stream);
            let page: Page = match self.client.send(&call).await {
                Ok(answer) => answer.json()?,
                Err(error) => {
                    let low = low_watermark_above(&error, next).ok_or(error)?;
                    let gap = Event::Gap { partition: self.partition, from: next, to: low };
                    let _ = self.events.send(gap).await;
                    next = low;
                    continue;
                }
            };
            if page.messages.is_empty() && began.elapsed() < EMPTY_TOO_SOON {
                sleep(PAUSE).await;
            }
            return Ok(page);
        }
    }

    fn call(&self, from: String) -> Call {
        Call::get(format!("{}/partitions/{}/messages", self.topic, self.partition))
            .query("from", from)
            .query("limit", self.page.to_string())
    }
}

/// The low watermark that an error tells, where reading can go on from it.
fn low_watermark_above(error: &CliError, next: u64) -> Option<u64> {
    let CliError::Problem(problem) = error else { return None };
    let low = problem.number("low_watermark").filter(|low| *low > next);
    low.filter(|_| problem.code == "offset_out_of_range")
}
