//! `group list|describe|seek|pause|resume|delete`.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::{
    CliError,
    args::{GroupCommand, GroupDeleteArgs, GroupListArgs, GroupNameArgs, GroupSeekArgs, Output},
    client::{Call, Client},
    output,
    topic::{all, confirmed, word},
};
use crate::model::{Name, duration};

/// Runs a command about consumer groups.
pub async fn run(command: GroupCommand) -> Result<(), CliError> {
    match command {
        GroupCommand::List(args) => list(&args).await,
        GroupCommand::Describe(args) => describe(&args).await,
        GroupCommand::Seek(args) => seek(&args).await,
        GroupCommand::Pause(args) => set_paused(&args, "pause").await,
        GroupCommand::Resume(args) => set_paused(&args, "resume").await,
        GroupCommand::Delete(args) => delete(&args).await,
    }
}

/// The resource of a group. A name holds nothing that a path would have to escape.
pub(super) fn path(group: &Name) -> String {
    format!("/v1/groups/{group}")
}

async fn list(args: &GroupListArgs) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let groups = all(&client, "/v1/groups", args.prefix.as_deref()).await?;
    match args.output.output {
        Output::Json => output::print_json(&groups),
        Output::Table => {
            let row = |group: &Map<String, Value>| {
                vec![word(group, "name"), state(group), word(group, "member_count")]
            };
            let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
            output::print_table(&["NAME", "STATE", "MEMBERS"], &rows)
        }
    }
}

fn state(group: &Map<String, Value>) -> String {
    match group.get("paused") {
        Some(Value::Bool(true)) => format!("{}, paused", word(group, "state")),
        _ => word(group, "state"),
    }
}

async fn describe(args: &GroupNameArgs) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let group: Map<String, Value> = client.send(&Call::get(path(&args.name))).await?.json()?;
    if args.output.output == Output::Json {
        return output::print_json(&group);
    }
    let lines =
        [("name", word(&group, "name")), ("state", state(&group)), ("lag", word(&group, "lag"))];
    let lines: Vec<Vec<String>> =
        lines.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    output::print_table(&["GROUP", "VALUE"], &lines)?;
    output::print("")?;
    const MEMBER: [&str; 4] = ["member_id", "partition_count", "session_timeout", "silent_ms"];
    let member = |member: &Map<String, Value>| {
        let mut row = MEMBER.map(|column| word(member, column)).to_vec();
        let topics = member.get("topics").and_then(Value::as_array).into_iter().flatten();
        row.push(topics.filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
        row
    };
    let rows: Vec<Vec<String>> = entries(&group, "members").map(member).collect();
    output::print_table(&["MEMBER", "PARTITIONS", "TIMEOUT", "SILENT_MS", "TOPICS"], &rows)?;
    output::print("")?;
    let partition = |of: &Map<String, Value>| {
        let behind = of.get("lag_ms").and_then(Value::as_u64).unwrap_or_default();
        vec![
            format!("{}/{}", word(of, "topic"), word(of, "partition")),
            word(of, "committed_offset"),
            word(of, "high_watermark"),
            word(of, "lag"),
            duration::format(Duration::from_millis(behind)),
            word(of, "member_id"),
        ]
    };
    let rows: Vec<Vec<String>> = entries(&group, "partitions").map(partition).collect();
    output::print_table(&["PARTITION", "COMMITTED", "END", "LAG", "BEHIND", "MEMBER"], &rows)
}

fn entries<'g>(
    group: &'g Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'g Map<String, Value>> {
    group.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

async fn seek(args: &GroupSeekArgs) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let to = match args.to.as_deref() {
        Some(end @ ("earliest" | "latest")) => json!(end),
        Some(time) => json!({"timestamp": time}),
        None => {
            let offset = |(topic, partition, offset): &(String, u32, i64)| {
                let place = (topic, partition);
                json!({"topic": place.0, "partition": place.1, "offset": offset})
            };
            json!({"offsets": args.offsets.iter().map(offset).collect::<Vec<Value>>()})
        }
    };
    let mut body = json!({"to": to, "dry_run": args.dry_run});
    if !args.topics.is_empty() {
        body["topics"] = json!(args.topics);
    }
    let call = Call::post(format!("{}/seek", path(&args.name)), body.to_string());
    let done: Map<String, Value> = client.send(&call).await?.json()?;
    if args.output.output == Output::Json {
        return output::print_json(&done);
    }
    let partition = |of: &Map<String, Value>| {
        let place = format!("{}/{}", word(of, "topic"), word(of, "partition"));
        vec![place, word(of, "committed_offset"), word(of, "offset")]
    };
    let rows: Vec<Vec<String>> = entries(&done, "partitions").map(partition).collect();
    let to = if args.dry_run { "WOULD BE" } else { "IS" };
    output::print_table(&["PARTITION", "WAS", to], &rows)
}

async fn set_paused(args: &GroupNameArgs, verb: &str) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let call = Call::post(format!("{}/{verb}", path(&args.name)), "").harmless();
    client.send(&call).await?;
    match args.output.output {
        Output::Json => {
            output::print_json(&json!({"group": args.name.as_str(), "paused": verb == "pause"}))
        }
        Output::Table => output::print(&format!("{verb}d group {}", args.name)),
    }
}

async fn delete(args: &GroupDeleteArgs) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    if !args.yes {
        if !io::stdin().is_terminal() {
            let hint = "nobody can be asked here: give --yes to delete the group";
            return Err(CliError::Usage(hint.to_owned()));
        }
        client.send(&Call::get(path(&args.name))).await?;
        if !confirmed(&format!("Delete group {} with its offsets?", args.name))? {
            return Err(CliError::Failed("nothing was deleted".to_owned()));
        }
    }
    client.send(&Call::delete(path(&args.name))).await?;
    match args.output.output {
        Output::Json => output::print_json(&json!({"deleted": args.name.as_str()})),
        Output::Table => output::print(&format!("deleted group {}", args.name)),
    }
}
