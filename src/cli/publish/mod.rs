//! `publish`: a file a line a message, or one message, over a socket.

mod encode;
mod failure;
mod lines;
mod pending;
mod pipeline;
mod progress;

use std::{io::IsTerminal, os::fd::AsFd, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc::{self, Sender},
    time::timeout,
};

use self::{
    encode::{Batch, Form, KeyRule},
    lines::{Batcher, Line},
    pipeline::Pipeline,
    progress::Progress,
};
use super::{
    CliError,
    args::{Output, PublishArgs},
    client::Client,
    interrupt, output,
};
use crate::lifecycle::Lifecycle;

/// How long lines of a slow pipe wait for others to share a batch with.
const LINGER: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 64 * 1024;
/// Batches that are read and wait to be sent.
const BATCHES_AHEAD: usize = 2;

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
    let (source, size) = open(args).await?;
    let life = interrupt::watched();
    let (batches, read) = mpsc::channel(BATCHES_AHEAD);
    let client = Client::new(&args.server)?;
    let mut pipeline = Pipeline::new(client, &args.topic, life.clone(), Progress::begin(size));
    life.spawn(async move {
        let ended = read_all(source, &form, &batches).await;
        // Nobody listens any more when publishing has ended for another reason.
        if let Err(error) = ended {
            let _ = batches.send(Err(error)).await;
        }
    });
    let result = pipeline.run(read).await;
    let (progress, topic) = (pipeline.progress(), args.topic.as_str());
    progress.clear();
    if let Err(error) = result {
        return Err(CliError::Noted { source: Box::new(error), note: progress.summary(topic) });
    }
    match args.output.output {
        Output::Table => output::print(&progress.summary(topic)),
        Output::Json => output::print_json(&progress.summary_json(topic, pipeline.durability())),
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

async fn publish_one(args: &PublishArgs, value: &str) -> Result<(), CliError> {
    let (batches, read) = mpsc::channel(1);
    let batch = encode::single(value, args.key.as_deref(), &args.headers);
    // There is room for it.
    let _ = batches.send(Ok(batch)).await;
    drop(batches);
    let client = Client::new(&args.server)?;
    // Nothing watches for Ctrl-C: it ends the program.
    let life = Lifecycle::new();
    let mut pipeline = Pipeline::new(client, &args.topic, life, Progress::begin(None));
    pipeline.run(read).await?;
    let placed = pipeline.first_placed().ok_or_else(|| {
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
            "durability": pipeline.durability(),
        })),
    }
}

/// Reads to the end and sends batch after batch, for as long as somebody takes them.
async fn read_all(
    mut source: Source,
    form: &Form,
    batches: &Sender<Result<Batch, CliError>>,
) -> Result<(), CliError> {
    let (mut batcher, mut buffer) = (Batcher::default(), vec![0; READ_BYTES]);
    loop {
        let waits = if batcher.has_lines() { LINGER } else { Duration::MAX };
        let (full, is_end) = match timeout(waits, source.read(&mut buffer)).await {
            Err(_slow) => (batcher.flush().into_iter().collect(), false),
            Ok(Err(error)) => return Err(CliError::Failed(format!("reading failed: {error}"))),
            Ok(Ok(0)) => (batcher.finish(), true),
            Ok(Ok(count)) => {
                let full = batcher.push(&buffer[..count]);
                (full.map_err(|error| CliError::Failed(error.to_string()))?, false)
            }
        };
        for lines in full {
            let batch = batch(&lines, form)?;
            let is_taken = match batch {
                Some(batch) => batches.send(Ok(batch)).await.is_ok(),
                None => true,
            };
            if !is_taken {
                return Ok(());
            }
        }
        if is_end {
            return Ok(());
        }
    }
}

fn batch(lines: &[Line], form: &Form) -> Result<Option<Batch>, CliError> {
    encode::batch(lines, form).map_err(|error| CliError::Failed(error.to_string()))
}
