//! `tail`: the messages of a topic as they come, over a socket; one partition alone, and only it,
//! by long polls.

mod feed;
mod follow;
mod member;
mod partitions;
mod print;
mod reader;

use std::io::{self, BufWriter, IsTerminal, Write};

use tokio::sync::mpsc;

use self::{
    follow::Follower,
    print::Printer,
    reader::{Event, Reader},
};
use super::{CliError, args::TailArgs, client::Client, interrupt, topic};
use crate::{lifecycle::Lifecycle, model::clock::parse_rfc3339_ms};

const PAGE_MESSAGES: u64 = 500;
/// Pages that wait to be printed.
const PAGES_MAX: usize = 4;

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
    let life = interrupt::watched();
    let out = BufWriter::new(io::stdout());
    let mut printer = Printer::new(out, args.output, args.limit.unwrap_or(u64::MAX));
    if !args.no_follow && io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "reading {}; Ctrl-C ends", args.topic);
    }
    let ended = match args.partition {
        Some(partition) => read(args, client, partition, from, &life, &mut printer).await,
        None => {
            let mut follower = Follower::new(client, &args.topic, from, !args.no_follow);
            follower.run(&life, &mut printer).await
        }
    };
    printer.finish()?;
    ended
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

/// Prints one partition.
async fn read<W: Write>(
    args: &TailArgs,
    client: Client,
    partition: u32,
    from: String,
    life: &Lifecycle,
    printer: &mut Printer<W>,
) -> Result<(), CliError> {
    let (events, mut received) = mpsc::channel(PAGES_MAX);
    let reader = Reader {
        client,
        topic: topic::path(&args.topic),
        partition,
        follow: !args.no_follow,
        page: args.limit.unwrap_or(PAGE_MESSAGES).min(PAGE_MESSAGES),
        events,
    };
    life.spawn(reader.run(from));
    while !printer.is_done() {
        let event = tokio::select! {
            event = received.recv() => event,
            () = life.draining() => return Ok(()),
        };
        match event {
            Some(Event::Page(messages)) => {
                printer.page(messages.iter().map(|message| message.get()))?;
            }
            Some(Event::Gap { partition, from, to }) => {
                feed::tell_gap(partition, from.cast_signed(), to.cast_signed());
            }
            Some(Event::Ended(ended)) => return ended,
            None => return Ok(()),
        }
    }
    Ok(())
}
