//! `tail --group`: one member of a consumer group, poll after poll. What was printed is committed
//! with the next poll, or when it ends.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, IsTerminal, Write},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use super::{PAGE_MESSAGES, print::Printer};
use crate::{
    cli::{
        CliError,
        args::TailArgs,
        client::{Call, Client, Patience},
        group, interrupt, topic,
    },
    lifecycle::Lifecycle,
    model::Name,
};

/// How long a poll waits at the server for a message.
const LONG_POLL: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Joined {
    member_id: String,
    cursor: String,
}

#[derive(Deserialize)]
struct Polled {
    messages: Vec<Box<RawValue>>,
    cursor: String,
    assignments: Vec<Assignment>,
    revoke: Vec<Assignment>,
}

#[derive(Deserialize)]
struct Assignment {
    topic: String,
    partition: u32,
    epoch: i64,
    #[serde(default)]
    offset: i64,
    #[serde(default)]
    gap: i64,
}

/// Where a message stands.
#[derive(Deserialize)]
struct Place<'m> {
    topic: &'m str,
    partition: u32,
    offset: i64,
}

#[derive(Serialize)]
struct Commit {
    topic: String,
    partition: u32,
    offset: i64,
    epoch: i64,
}

/// Prints what the group gives this member until it ends or is ended.
pub async fn run(args: &TailArgs, group: &Name) -> Result<(), CliError> {
    let start = match args.from.as_deref().map(str::trim) {
        None | Some("earliest") => "earliest",
        Some("latest") => "latest",
        Some(other) => {
            return Err(CliError::Usage(format!(
                "--from {other}: a group begins at earliest or latest; 'postrider group seek' \
                 moves one that stands"
            )));
        }
    };
    let client = Client::new(&args.server)?;
    topic::get(&client, &args.topic).await?;
    let life = interrupt::watched();
    let mut member =
        Member { client, group: group::path(group), topic: &args.topic, start, id: None };
    let mut printer =
        Printer::new(BufWriter::new(io::stdout()), args.output, args.limit.unwrap_or(u64::MAX));
    if !args.no_follow && io::stderr().is_terminal() {
        let line = format!("reading {} for the group {group}; Ctrl-C ends", args.topic);
        let _ = writeln!(io::stderr(), "{line}");
    }
    let mut printed = Printed::default();
    let ended = member.read(args, &life, &mut printer, &mut printed).await;
    printer.finish()?;
    let left = member.leave(&printed).await;
    ended.and(left)
}

/// What was printed and is not committed yet.
#[derive(Default)]
struct Printed(BTreeMap<(String, u32), (i64, i64)>);

impl Printed {
    fn commits(&self) -> Vec<Commit> {
        let commit = |((topic, partition), (epoch, offset)): (&(String, u32), &(i64, i64))| {
            let (topic, partition) = (topic.clone(), *partition);
            Commit { topic, partition, offset: *offset, epoch: *epoch }
        };
        self.0.iter().map(commit).collect()
    }

    fn note(&mut self, messages: &[Box<RawValue>], has: &[Assignment]) -> Result<(), CliError> {
        for message in messages {
            let place: Place<'_> = serde_json::from_str(message.get()).map_err(|error| {
                CliError::Failed(format!("a message was not understood: {error}"))
            })?;
            let is_of =
                |held: &&Assignment| held.topic == place.topic && held.partition == place.partition;
            let Some(held) = has.iter().find(is_of) else { continue };
            let key = (place.topic.to_owned(), place.partition);
            self.0.insert(key, (held.epoch, place.offset + 1));
        }
        Ok(())
    }
}

struct Member<'a> {
    client: Client,
    group: String,
    topic: &'a Name,
    start: &'static str,
    id: Option<String>,
}

impl Member<'_> {
    async fn join(&mut self) -> Result<String, CliError> {
        let mut body = json!({"topics": [self.topic.as_str()], "start": self.start});
        if let Some(id) = &self.id {
            body["member_id"] = json!(id);
        }
        let call = Call::post(format!("{}/members", self.group), body.to_string());
        let joined: Joined = self.client.send(&call).await?.json()?;
        self.id = Some(joined.member_id);
        Ok(joined.cursor)
    }

    fn path(&self) -> String {
        format!("{}/members/{}", self.group, self.id.as_deref().unwrap_or_default())
    }

    async fn read<W: Write>(
        &mut self,
        args: &TailArgs,
        life: &Lifecycle,
        printer: &mut Printer<W>,
        printed: &mut Printed,
    ) -> Result<(), CliError> {
        let mut cursor = self.join().await?;
        let mut given: Vec<Assignment> = Vec::new();
        while !printer.is_done() {
            let wait = if args.no_follow { Duration::ZERO } else { LONG_POLL };
            let max = args.limit.unwrap_or(PAGE_MESSAGES).min(PAGE_MESSAGES);
            let body = json!({
                "cursor": cursor, "max": max, "wait": format!("{}s", wait.as_secs()),
                "commit": printed.commits(), "revoked": revoked(&given),
            });
            // A poll reads from its cursor and commits what may stand already.
            let call = Call::post(format!("{}/poll", self.path()), body.to_string());
            let call = call.waiting(wait).patience(Patience::Stream).harmless();
            let answered = tokio::select! {
                answered = self.client.send(&call) => answered,
                () = life.draining() => return Ok(()),
            };
            let polled: Polled = match answered {
                Ok(answer) => answer.json()?,
                Err(error) if is_expired(&error) => {
                    // Somebody else may have read what was printed and not committed.
                    printed.0.clear();
                    given.clear();
                    cursor = self.join().await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            printed.0.clear();
            tell_gaps(&polled.assignments);
            let shown = printer.room().min(polled.messages.len() as u64) as usize;
            printer.page(&polled.messages)?;
            printed.note(&polled.messages[..shown], &polled.assignments)?;
            if args.no_follow && polled.messages.is_empty() && polled.revoke.is_empty() {
                return Ok(());
            }
            (cursor, given) = (polled.cursor, polled.revoke);
        }
        Ok(())
    }

    /// Commits what was printed, and goes.
    async fn leave(&self, printed: &Printed) -> Result<(), CliError> {
        if self.id.is_none() {
            return Ok(());
        }
        let commits = printed.commits();
        if !commits.is_empty() {
            let body = json!({"offsets": commits}).to_string();
            self.client
                .send(&Call::post(format!("{}/offsets", self.group), body).harmless())
                .await?;
        }
        match self.client.send(&Call::delete(self.path())).await {
            Err(error) if is_expired(&error) => Ok(()),
            done => done.map(drop),
        }
    }
}

fn revoked(given: &[Assignment]) -> Vec<serde_json::Value> {
    let entry = |held: &Assignment| {
        let Assignment { topic, partition, epoch, .. } = held;
        json!({"topic": topic, "partition": partition, "epoch": epoch})
    };
    given.iter().map(entry).collect()
}

fn is_expired(error: &CliError) -> bool {
    matches!(error, CliError::Problem(problem) if problem.code == "unknown_member")
}

fn tell_gaps(has: &[Assignment]) {
    for Assignment { partition, offset, gap, .. } in has.iter().filter(|held| held.gap > 0) {
        let (from, to) = (offset - gap, offset - 1);
        let _ = writeln!(
            io::stderr(),
            "postrider: partition {partition}: offsets {from} to {to} are gone by retention"
        );
    }
}
