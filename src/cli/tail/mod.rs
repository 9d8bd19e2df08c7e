//! `tail`: the messages of a topic as they come, a long poll for each partition.

mod member;
mod print;
mod reader;

use std::{
    io::{self, BufWriter, IsTerminal, Write},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::mpsc::{self, Sender},
    time::sleep,
};

use self::{
    print::Printer,
    reader::{Event, Reader},
};
use super::{CliError, args::TailArgs, client::Client, interrupt, topic};
use crate::{
    lifecycle::Lifecycle,
    model::{Name, clock::parse_rfc3339_ms},
};

const PAGE_MESSAGES: u64 = 500;
/// Pages that wait to be printed.
const PAGES_MAX: usize = 4;
/// How often the topic is asked whether it has grown.
const WATCHED_EVERY: Duration = Duration::from_secs(3);
/// Files and connections beyond those of the partitions.
const FILES_BESIDES: u64 = 64;

/// Prints what `args` say until it ends or is ended.
pub async fn run(args: &TailArgs) -> Result<(), CliError> {
    if let Some(group) = &args.group {
        return member::run(args, group).await;
    }
    let from = start(args)?;
    let client = Client::new(&args.server)?;
    let partitions = topic::partitions(&topic::get(&client, &args.topic).await?)?;
    if from.parse::<u64>().is_ok() && args.partition.is_none() && partitions > 1 {
        return Err(CliError::Usage(format!(
            "--from {from} is an offset, and {} has {partitions} partitions: name one by \
             --partition",
            args.topic
        )));
    }
    allow_connections(u64::from(partitions));
    let (events, received) = mpsc::channel(PAGES_MAX);
    let life = interrupt::watched();
    let tail = Tail { args, client, events, life, from, partitions, reading: 0 };
    let out = BufWriter::new(io::stdout());
    let mut printer = Printer::new(out, args.output, args.limit.unwrap_or(u64::MAX));
    tail.run(received, &mut printer).await
}

/// Where to begin, as the server reads it.
fn start(args: &TailArgs) -> Result<String, CliError> {
    let from = match args.from.as_deref() {
        None if args.no_follow => "earliest",
        None => "latest",
        Some(from) => from.trim(),
    };
    let is_offset = from.bytes().all(|byte| byte.is_ascii_digit()) && from.parse::<u64>().is_ok();
    let is_known = matches!(from, "earliest" | "latest") || is_offset;
    if !is_known && parse_rfc3339_ms(from).is_none() {
        return Err(CliError::Usage(format!(
            "--from {from} is neither earliest, latest, an offset nor a time such as \
             2026-11-24T10:00:00Z"
        )));
    }
    Ok(from.to_owned())
}

struct Tail<'a> {
    args: &'a TailArgs,
    client: Client,
    events: Sender<Event>,
    life: Lifecycle,
    from: String,
    partitions: u32,
    reading: usize,
}

impl Tail<'_> {
    async fn run<W: Write>(
        mut self,
        mut received: mpsc::Receiver<Event>,
        printer: &mut Printer<W>,
    ) -> Result<(), CliError> {
        match self.args.partition {
            Some(partition) => self.read(partition, self.from.clone()),
            None => (0..self.partitions).for_each(|each| self.read(each, self.from.clone())),
        }
        if !self.args.no_follow && self.args.partition.is_none() {
            let (client, topic) = (self.client.clone(), self.args.topic.clone());
            self.life.spawn(watch(client, topic, self.partitions, self.events.clone()));
        }
        if !self.args.no_follow && io::stderr().is_terminal() {
            let _ = writeln!(io::stderr(), "reading {}; Ctrl-C ends", self.args.topic);
        }
        let ended = self.print(&mut received, printer).await;
        printer.finish()?;
        ended
    }

    async fn print<W: Write>(
        &mut self,
        received: &mut mpsc::Receiver<Event>,
        printer: &mut Printer<W>,
    ) -> Result<(), CliError> {
        while self.reading > 0 && !printer.is_done() {
            let event = tokio::select! {
                event = received.recv() => event,
                () = self.life.draining() => return Ok(()),
            };
            match event {
                Some(Event::Page(messages)) => printer.page(&messages)?,
                Some(Event::Gap { partition, from, to }) => {
                    let _ = writeln!(
                        io::stderr(),
                        "postrider: partition {partition}: offsets {from} to {} are gone by \
                         retention",
                        to - 1
                    );
                }
                Some(Event::Grown(partitions)) => {
                    // What a new partition holds came after this command began.
                    let new = self.partitions..partitions;
                    self.partitions = partitions;
                    new.for_each(|partition| self.read(partition, "0".to_owned()));
                }
                Some(Event::Ended(ended)) => {
                    ended?;
                    self.reading -= 1;
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn read(&mut self, partition: u32, from: String) {
        let reader = Reader {
            client: self.client.clone(),
            topic: topic::path(&self.args.topic),
            partition,
            follow: !self.args.no_follow,
            page: self.args.limit.unwrap_or(PAGE_MESSAGES).min(PAGE_MESSAGES),
            events: self.events.clone(),
        };
        self.reading += 1;
        self.life.spawn(reader.run(from));
    }
}

/// Tells when the topic has grown. What else may be wrong with it, its readers meet themselves.
async fn watch(client: Client, topic: Name, mut known: u32, events: Sender<Event>) {
    loop {
        sleep(WATCHED_EVERY).await;
        let asked = topic::get(&client, &topic).await.and_then(|topic| topic::partitions(&topic));
        let Ok(partitions) = asked else { continue };
        if partitions > known {
            known = partitions;
            if events.send(Event::Grown(partitions)).await.is_err() {
                return;
            }
        }
    }
}

/// Each partition has a connection of its own; a topic may have more than the usual limit of
/// files. Where raising is refused, connecting will fail and say so.
fn allow_connections(partitions: u64) {
    let needed = partitions + FILES_BESIDES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = limit.maximum.map_or(needed, |maximum| needed.min(maximum));
        let _ =
            setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum });
    }
}
