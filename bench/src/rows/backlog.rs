//! One reader goes through a backlog of a million messages in pages of ten thousand, beside an
//! axum server that has the same pages ready-made. The same client reads both and parses every
//! message into typed fields.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use crate::{
    Bench,
    load::{
        client::Connection,
        generator::{self, Timing, Worker},
        payload::{self, Shape},
    },
    report::{Bar, Line, number},
    rounds::{self, Party},
    servers::{echo::Echo, node::Node},
};

const TOPIC: &str = "backlog";
pub(super) const MESSAGES: usize = 1_000_000;
/// Messages in a request while the backlog is made.
const BATCH: usize = 1_000;
const WRITERS: usize = 4;
pub(super) const PAGE: usize = 10_000;
const OURS: usize = 0;
const READY_MADE: usize = 1;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    next_offset: u64,
    high_watermark: u64,
    low_watermark: u64,
}

#[derive(Deserialize)]
struct Message<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp: &'a str,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Measures it.
///
/// # Errors
/// When a server fails, or a page is not what was published.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let node = bench.node("backlog").await?;
    node.create(TOPIC, 1).await?;
    fill(&node, TOPIC, 1).await?;
    let pages = fetch(&node).await?;
    let ready_made = Echo::start(&bench.folder, &pages).await?;
    let bytes: usize = pages.iter().map(Bytes::len).sum();
    drop(pages);
    let plan = bench.options.plan();
    let timing = Timing { threads: 1, ..plan.timing };
    let samples = rounds::interleave(plan, &bench.echo, 2, None, async |side| {
        let (address, parties, path) = match side {
            READY_MADE => {
                (ready_made.address, vec![Party::Server(ready_made.pid())], ready_made_path as Path)
            }
            _ => (node.address, node.parties()?, our_path as Path),
        };
        let load = generator::drive(timing, 1, move |_| Reader::open(address, path));
        Ok(rounds::observe(&parties, load).await?.0)
    })
    .await?;
    let each = bytes / MESSAGES;
    bench.report.line(Line {
        what: "reading a backlog of 1,000,000, one reader: messages/s".into(),
        ours: format!("{}/s", number(samples.figure(OURS))),
        floor: String::new(),
        figure: samples.figure(OURS),
        bar: Bar::AtLeast(500_000.0),
        note: format!("pages of {PAGE}, {each} bytes of JSON a message; every one parsed"),
        void: samples.void.clone(),
    });
    bench.line(
        "reading a backlog of 1,000,000, one reader",
        &samples,
        ("ready-made", READY_MADE),
        Bar::AtLeast(0.5),
    );
    bench.saw(&node);
    Ok(())
}

/// Publishes [`MESSAGES`] messages.
pub(super) async fn fill(node: &Node, topic: &str, partitions: usize) -> Result<()> {
    let requests = Arc::new(payload::publishes(node.address, topic, Shape::Batch(BATCH)));
    let next = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (requests, next, address) = (requests.clone(), next.clone(), node.address);
        writers.spawn(async move {
            let mut connection = Connection::open(address).await?;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= MESSAGES / BATCH {
                    return Ok(());
                }
                let answer = connection.exchange(&requests[index % requests.len()]).await?;
                if !answer.is_success() {
                    bail!("making the backlog: {}", answer.status);
                }
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    node.verify(topic, partitions, MESSAGES as u64).await?;
    Ok(())
}

async fn fetch(node: &Node) -> Result<Vec<Bytes>> {
    let mut connection = Connection::open(node.address).await?;
    let mut pages = Vec::new();
    for page in 0..MESSAGES / PAGE {
        let request = payload::request(node.address, "GET", &our_path(page * PAGE), "");
        let answer = connection.exchange(&request).await?;
        let body = Bytes::copy_from_slice(answer.body);
        parse(answer.status, &body, page * PAGE)?;
        pages.push(body);
    }
    Ok(pages)
}

type Path = fn(usize) -> String;

fn our_path(from: usize) -> String {
    format!("/v1/topics/{TOPIC}/partitions/0/messages?from={from}&limit={PAGE}")
}

fn ready_made_path(from: usize) -> String {
    format!("/pages/{}", from / PAGE)
}

struct Reader {
    connection: Connection,
    address: SocketAddr,
    path: Path,
    from: usize,
}

impl Reader {
    async fn open(address: SocketAddr, path: Path) -> Result<Self> {
        Ok(Self { connection: Connection::open(address).await?, address, path, from: 0 })
    }
}

impl Worker for Reader {
    async fn once(&mut self) -> Result<u64> {
        let request = payload::request(self.address, "GET", &(self.path)(self.from), "");
        let answer = self.connection.exchange(&request).await.context("a page")?;
        let count = parse(answer.status, answer.body, self.from)?;
        self.from = (self.from + PAGE) % MESSAGES;
        Ok(count as u64)
    }
}

/// Parses a page into typed messages and checks that it is the right one, whole.
fn parse(status: u16, body: &[u8], from: usize) -> Result<usize> {
    if status != 200 {
        bail!("a page was answered {status}: {}", String::from_utf8_lossy(body));
    }
    let page: Page<'_> = serde_json::from_slice(body).context("a page that cannot be parsed")?;
    let right = page.messages.iter().zip(from as u64..).all(|(message, offset)| {
        message.offset == offset
            && message.partition == 0
            && message.topic == TOPIC
            && !message.timestamp.is_empty()
            && message.value.get().len() == payload::VALUE_BYTES + 2
    });
    let whole = page.messages.len() == PAGE && page.next_offset == (from + PAGE) as u64;
    if !right || !whole || page.low_watermark != 0 || page.high_watermark != MESSAGES as u64 {
        bail!("a page of {} messages from {from} is not what was published", page.messages.len());
    }
    Ok(page.messages.len())
}
