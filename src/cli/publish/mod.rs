//! `publish`: a file a line a message, or one message.
//!
//! Batches go one after the other, each when the one before is confirmed: so messages of one key
//! stand in the log as they stand in the file, whatever fails in between.

mod encode;
mod lines;
mod progress;

use std::{io::IsTerminal, os::fd::AsFd, time::Duration};

use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use self::{
    encode::{Batch, Form, KeyRule},
    lines::{Batcher, Line},
    progress::Progress,
};
use super::{
    CliError,
    args::{Output, PublishArgs},
    client::{Call, Client, Patience},
    interrupt, output,
    problem::Problem,
    topic,
};
use crate::lifecycle::Lifecycle;

/// How long lines of a slow pipe wait for others to share a batch with.
const LINGER: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 64 * 1024;

/// Publishes what `args` say.
pub async fn run(args: &PublishArgs) -> Result<(), CliError> {
    if let Some(value) = &args.value {
        return publish_one(args, value).await;
    }
    if args.server.token_stdin && args.file.is_none() {
        let hint = "--token-stdin needs --file or --value: standard input cannot be both";
        return Err(CliError::Usage(hint.to_owned()));
    }
    let form = match (&args.key_regex, args.json) {
        (_, true) => Form::Json,
        (None, false) => Form::Text(None),
        (Some(pattern), false) => Form::Text(Some(
            KeyRule::new(pattern).map_err(|error| CliError::Usage(error.to_string()))?,
        )),
    };
    let (mut source, size) = open(args).await?;
    let mut publisher = Publisher {
        client: Client::new(&args.server)?,
        path: format!("{}/messages", topic::path(&args.topic)),
        form,
        progress: Progress::begin(size),
        durability: None,
        life: interrupt::watched(),
    };
    let result = publisher.publish(&mut source).await;
    let (progress, topic) = (&publisher.progress, args.topic.as_str());
    progress.clear();
    if let Err(error) = result {
        return Err(CliError::Noted { source: Box::new(error), note: progress.summary(topic) });
    }
    match args.output.output {
        Output::Table => output::print(&progress.summary(topic)),
        Output::Json => {
            output::print_json(&progress.summary_json(topic, publisher.durability.as_deref()))
        }
    }
}

type Source = Box<dyn AsyncRead + Send + Unpin>;

async fn open(args: &PublishArgs) -> Result<(Source, Option<u64>), CliError> {
    let Some(path) = args.file.as_ref().filter(|path| path.as_os_str() != "-") else {
        if std::io::stdin().is_terminal() {
            eprintln!("a message a line; Ctrl-D ends");
        }
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        let stdin = stdin.map_err(|error| CliError::Failed(format!("standard input: {error}")))?;
        return Ok((Box::new(tokio::fs::File::from_std(stdin.into())), None));
    };
    let failed = |error| CliError::Failed(format!("{} cannot be read: {error}", path.display()));
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let about = file.metadata().await.map_err(failed)?;
    Ok((Box::new(file), Some(about.len()).filter(|_| about.is_file())))
}

#[derive(Deserialize)]
struct Published {
    results: Vec<Placed>,
    #[serde(default)]
    durability: Option<String>,
}

#[derive(Deserialize)]
struct Placed {
    partition: u32,
    offset: u64,
}

async fn publish_one(args: &PublishArgs, value: &str) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let body = encode::single(value, args.key.as_deref(), &args.headers);
    let call = Call::post(format!("{}/messages", topic::path(&args.topic)), body);
    let published: Published = client.send(&call).await.map_err(in_doubt)?.json()?;
    let placed = published.results.first().ok_or_else(|| {
        CliError::Failed("the server did not tell where the message went".to_owned())
    })?;
    match args.output.output {
        Output::Table => output::print(&format!(
            "published to {}, partition {}, offset {}",
            args.topic, placed.partition, placed.offset
        )),
        Output::Json => output::print_json(&json!({
            "topic": args.topic.as_str(),
            "partition": placed.partition,
            "offset": placed.offset,
            "durability": published.durability,
        })),
    }
}

fn in_doubt(error: CliError) -> CliError {
    if error.had_no_effect() {
        return error;
    }
    let note = "the message may or may not have been published".to_owned();
    CliError::Noted { source: Box::new(error), note }
}

struct Publisher {
    client: Client,
    path: String,
    form: Form,
    progress: Progress,
    durability: Option<String>,
    life: Lifecycle,
}

impl Publisher {
    async fn publish(&mut self, source: &mut Source) -> Result<(), CliError> {
        let mut batcher = Batcher::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = {
                let waits = if batcher.has_lines() { LINGER } else { Duration::MAX };
                tokio::select! {
                    read = timeout(waits, source.read(&mut buffer)) => read,
                    () = self.life.draining() => return Err(self.interrupted()),
                }
            };
            match read {
                Err(_slow) => self.send(&batcher.flush().unwrap_or_default()).await?,
                Ok(Err(error)) => {
                    return Err(CliError::Failed(format!("reading failed: {error}")));
                }
                Ok(Ok(0)) => break,
                Ok(Ok(count)) => {
                    let full = batcher.push(&buffer[..count]);
                    for lines in full.map_err(|error| CliError::Failed(error.to_string()))? {
                        self.send(&lines).await?;
                    }
                }
            }
        }
        for lines in batcher.finish() {
            self.send(&lines).await?;
        }
        Ok(())
    }

    /// Sends one batch and waits until it is confirmed.
    async fn send(&mut self, lines: &[Line]) -> Result<(), CliError> {
        if self.life.is_draining() {
            return Err(self.interrupted());
        }
        let batch = encode::batch(lines, &self.form);
        let batch = batch.map_err(|error| CliError::Failed(error.to_string()))?;
        let Some(batch) = batch else { return Ok(()) };
        let (Some(first), Some(last)) = (batch.numbers.first(), batch.numbers.last()) else {
            return Ok(());
        };
        // Before anything is confirmed, a server that is not there is told at once.
        let patience = match self.progress.last_line() {
            0 => Patience::Command,
            _ => Patience::Stream,
        };
        let call = Call::post(&*self.path, batch.body.clone()).patience(patience);
        let answer = tokio::select! {
            answer = self.client.send(&call) => answer,
            () = self.life.aborted() => Err(CliError::Failed("interrupted twice".to_owned())),
        };
        let answer = answer.map_err(|error| about_lines(error, &batch))?;
        let published: Published = answer.json()?;
        if published.results.len() != batch.numbers.len() {
            return Err(CliError::Failed(format!(
                "lines {first} to {last}: the server confirmed {} of {} messages",
                published.results.len(),
                batch.numbers.len()
            )));
        }
        self.durability = published.durability;
        self.progress.add(batch.numbers.len(), batch.bytes, *last);
        Ok(())
    }

    fn interrupted(&self) -> CliError {
        match self.progress.last_line() {
            0 => CliError::Failed("interrupted before the first line".to_owned()),
            last => CliError::Failed(format!("interrupted after line {last}")),
        }
    }
}

/// Says which lines an error is about, and what is known of them.
fn about_lines(error: CliError, batch: &Batch) -> CliError {
    let (first, last) = (batch.numbers[0], batch.numbers[batch.numbers.len() - 1]);
    let lines = match first == last {
        true => format!("line {first}"),
        false => format!("lines {first} to {last}"),
    };
    let known = match error.had_no_effect() {
        true => "nothing of this batch was published",
        false => "this batch may or may not have been published, as a whole",
    };
    let mut note = format!("{lines}: {known}");
    if let (CliError::Problem(problem), true) = (&error, first < last) {
        for number in wrong_lines(problem, batch) {
            note.push_str(&format!("\n  see line {number}"));
        }
    }
    CliError::Noted { source: Box::new(error), note }
}

/// The lines behind pointers such as `/messages/3/value_text`.
fn wrong_lines<'a>(problem: &'a Problem, batch: &'a Batch) -> impl Iterator<Item = u64> + 'a {
    let index = |pointer: &str| -> Option<usize> {
        pointer.strip_prefix("/messages/")?.split('/').next()?.parse().ok()
    };
    let pointers = problem.errors.iter().map(|error| &*error.pointer);
    pointers.filter_map(index).filter_map(|at| batch.numbers.get(at).copied())
}
