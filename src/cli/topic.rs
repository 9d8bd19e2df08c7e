//! `topic create|list|describe|delete`.

use std::io::{self, IsTerminal, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    CliError,
    args::{CreateArgs, DeleteArgs, DescribeArgs, ListArgs, Output, TopicCommand},
    client::{Call, Client},
    output,
};
use crate::{lifecycle::Lifecycle, model::Name};

/// Partitions that `describe` asks for at the same time.
const ASKED_AT_ONCE: usize = 16;

/// Runs a command about topics.
pub async fn run(command: TopicCommand) -> Result<(), CliError> {
    match command {
        TopicCommand::Create(args) => create(&args).await,
        TopicCommand::List(args) => list(&args).await,
        TopicCommand::Describe(args) => describe(&args).await,
        TopicCommand::Delete(args) => delete(&args).await,
    }
}

/// The resource of a topic. A name holds nothing that a path would have to escape.
pub(super) fn path(topic: &Name) -> String {
    format!("/v1/topics/{topic}")
}

/// A topic's settings as the server wrote them.
pub(super) async fn get(client: &Client, topic: &Name) -> Result<Map<String, Value>, CliError> {
    client.send(&Call::get(path(topic))).await?.json()
}

/// How many partitions a topic has.
pub(super) fn partitions(topic: &Map<String, Value>) -> Result<u32, CliError> {
    let count = topic.get("partitions").and_then(Value::as_u64);
    count.and_then(|count| u32::try_from(count).ok()).ok_or_else(|| {
        CliError::Failed("the server's answer does not tell the topic's partitions".to_owned())
    })
}

async fn create(args: &CreateArgs) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let body = Value::Object(settings(args)).to_string();
    let answer = client.send(&Call::put(path(&args.name), body)).await?;
    let created = answer.status == 201;
    let topic: Map<String, Value> = answer.json()?;
    match args.output.output {
        Output::Json => output::print_json(&json!({"created": created, "topic": topic})),
        Output::Table if created => output::print(&format!(
            "created topic {} ({} partitions, messages kept {})",
            args.name,
            word(&topic, "partitions"),
            word(&topic, "retention"),
        )),
        Output::Table => {
            output::print(&format!("topic {} already stands like that: unchanged", args.name))
        }
    }
}

fn settings(args: &CreateArgs) -> Map<String, Value> {
    let given = [
        ("partitions", args.partitions.map(Value::from)),
        ("retention", args.retention.clone().map(Value::from)),
        ("retention_bytes", args.retention_bytes.map(Value::from)),
        ("compression", args.compression.clone().map(Value::from)),
        ("keyless", args.keyless.clone().map(Value::from)),
        ("max_message_bytes", args.max_message_bytes.map(Value::from)),
        ("durability", args.durability.clone().map(Value::from)),
    ];
    let named = |(name, value): (&str, Option<Value>)| Some((name.to_owned(), value?));
    given.into_iter().filter_map(named).collect()
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Map<String, Value>>,
    #[serde(default)]
    next_page_token: Option<String>,
}

/// Everything that a list has, page by page.
pub(super) async fn all(
    client: &Client,
    path: &str,
    prefix: Option<&str>,
) -> Result<Vec<Map<String, Value>>, CliError> {
    let mut items = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let mut call = Call::get(path).query("page_size", "1000");
        if let Some(prefix) = prefix {
            call = call.query("prefix", prefix);
        }
        if let Some(token) = &token {
            call = call.query("page_token", token);
        }
        let page: Page = client.send(&call).await?.json()?;
        items.extend(page.items);
        if page.next_page_token.is_some() && page.next_page_token == token {
            return Err(CliError::Failed("the server's list does not end".to_owned()));
        }
        token = page.next_page_token;
        if token.is_none() {
            return Ok(items);
        }
    }
}

async fn list(args: &ListArgs) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let topics = all(&client, "/v1/topics", args.prefix.as_deref()).await?;
    match args.output.output {
        Output::Json => output::print_json(&topics),
        Output::Table => {
            const COLUMNS: [&str; 5] =
                ["name", "partitions", "retention", "compression", "durability"];
            let row = |topic| COLUMNS.iter().map(|column| word(topic, column)).collect();
            let rows: Vec<Vec<String>> = topics.iter().map(row).collect();
            output::print_table(&COLUMNS.map(str::to_uppercase).each_ref().map(|c| &**c), &rows)
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Watermarks {
    #[serde(default)]
    partition: u32,
    low_watermark: u64,
    high_watermark: u64,
}

async fn describe(args: &DescribeArgs) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let mut topic = get(&client, &args.name).await?;
    let watermarks = watermarks(&client, &args.name, partitions(&topic)?).await?;
    if args.output.output == Output::Json {
        topic.insert("watermarks".to_owned(), json!(watermarks));
        return output::print_json(&topic);
    }
    let settings: Vec<Vec<String>> =
        topic.keys().map(|name| vec![name.clone(), word(&topic, name)]).collect();
    output::print_table(&["SETTING", "VALUE"], &settings)?;
    output::print("")?;
    let row = |of: &Watermarks| {
        let kept = of.high_watermark.saturating_sub(of.low_watermark);
        [u64::from(of.partition), of.low_watermark, of.high_watermark, kept]
            .map(|number| number.to_string())
            .to_vec()
    };
    let rows: Vec<Vec<String>> = watermarks.iter().map(row).collect();
    output::print_table(&["PARTITION", "LOW", "HIGH", "MESSAGES"], &rows)
}

async fn watermarks(
    client: &Client,
    topic: &Name,
    partitions: u32,
) -> Result<Vec<Watermarks>, CliError> {
    let tasks = Lifecycle::new();
    let all: Vec<u32> = (0..partitions).collect();
    let mut watermarks = Vec::with_capacity(all.len());
    for some in all.chunks(ASKED_AT_ONCE) {
        let asked: Vec<_> = some
            .iter()
            .map(|&partition| {
                let client = client.clone();
                let path = format!("{}/partitions/{partition}/messages", path(topic));
                let call = Call::get(path).query("from", "latest").query("limit", "1");
                tasks.spawn(async move {
                    let read: Watermarks = client.send(&call).await?.json()?;
                    Ok::<_, CliError>(Watermarks { partition, ..read })
                })
            })
            .collect();
        for answer in asked {
            let ended = answer.await.map_err(|error| CliError::Failed(error.to_string()))?;
            watermarks.push(ended?);
        }
    }
    Ok(watermarks)
}

async fn delete(args: &DeleteArgs) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    if !args.yes {
        if !io::stdin().is_terminal() {
            let hint = "nobody can be asked here: give --yes to delete the topic";
            return Err(CliError::Usage(hint.to_owned()));
        }
        get(&client, &args.name).await?;
        if !confirmed(&format!("Delete topic {} with all its messages?", args.name))? {
            return Err(CliError::Failed("nothing was deleted".to_owned()));
        }
    }
    client.send(&Call::delete(path(&args.name))).await?;
    match args.output.output {
        Output::Json => output::print_json(&json!({"deleted": args.name.as_str()})),
        Output::Table => output::print(&format!("deleted topic {}", args.name)),
    }
}

/// Asks whoever sits at the terminal.
pub(super) fn confirmed(question: &str) -> Result<bool, CliError> {
    let mut err = io::stderr().lock();
    let asked = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    asked
        .and_then(|()| io::stdin().read_line(&mut answer))
        .map_err(|error| CliError::Failed(format!("the answer cannot be read: {error}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// A setting for a cell; what has no value is a dash.
pub(super) fn word(of: &Map<String, Value>, name: &str) -> String {
    match of.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
