//! A publish on one node answers a long poll that is parked on another.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rand::Rng as _;
use tokio::time::{sleep, timeout};

use crate::{
    Bench,
    load::{client::Connection, histogram::Histogram, payload},
    report::{Bar, Line, number},
    servers::node::Node,
};

const TOPIC: &str = "wake";
/// How long a poll is given to be parked, and the spread of what follows: the second node looks
/// every 250 ms, and the publish must fall anywhere between two looks.
const PARKED: Duration = Duration::from_millis(100);
const SPREAD_MS: u64 = 300;
const ANSWER: Duration = Duration::from_secs(15);

/// Measures it at least fifty times.
///
/// # Errors
/// When a node fails, or a poll is answered without the message.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let first = bench.node("wake").await?;
    let log = bench.folder.join("wake-second.log");
    let second = Node::beside(&bench.options.postrider, &first.database()?, &log).await?;
    first.create(TOPIC, 1).await?;
    let mut publisher = Connection::open(first.address).await?;
    let mut times = Histogram::default();
    let tries = if bench.options.is_quick() { 10 } else { 60 };
    for offset in 0..tries {
        times.record(one(&first, &second, &mut publisher, offset).await?);
    }
    bench.report.line(Line {
        what: "publish on one node, long poll on another: longest".into(),
        ours: format!("{} ms", number(times.max_micros() / 1_000.0)),
        floor: String::new(),
        figure: times.max_micros() / 1_000.0,
        bar: Bar::AtMost(400.0),
        note: format!(
            "{} tries, from sending the publish to the poll's answer: p50 {} ms, p90 {} ms",
            times.len(),
            number(times.micros(0.5) / 1_000.0),
            number(times.micros(0.9) / 1_000.0),
        ),
        void: String::new(),
    });
    bench.saw(&first);
    bench.saw(&second);
    Ok(())
}

async fn one(
    first: &Node,
    second: &Node,
    publisher: &mut Connection,
    offset: u64,
) -> Result<Duration> {
    let path = format!("/v1/topics/{TOPIC}/partitions/0/messages?from={offset}&wait=10s");
    let request = payload::request(second.address, "GET", &path, "");
    let mut poller = Connection::open(second.address).await?;
    let poll = async {
        let answer = timeout(ANSWER, poller.exchange(&request)).await.context("the poll")??;
        let at = Instant::now();
        let body = String::from_utf8_lossy(answer.body).into_owned();
        if !answer.is_success()
            || !body.contains(&format!("\"offset\":{offset},"))
                && !body.contains(&format!("\"offset\":{offset}}}"))
        {
            bail!("the poll was answered {}: {body}", answer.status);
        }
        Ok(at)
    };
    let publish = async {
        sleep(PARKED + Duration::from_millis(rand::rng().random_range(0..SPREAD_MS))).await;
        let request = payload::publish_one(first.address, TOPIC);
        let sent = Instant::now();
        let answer =
            timeout(ANSWER, publisher.exchange(&request)).await.context("publishing")??;
        if !answer.is_success() {
            bail!("publishing: {}", answer.status);
        }
        Ok(sent)
    };
    let (at, sent) = tokio::try_join!(poll, publish)?;
    at.checked_duration_since(sent).context("answered before the publish was sent")
}
