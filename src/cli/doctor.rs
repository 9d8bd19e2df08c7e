//! `doctor`: what is well and what is not.

use serde::Serialize;
use serde_json::{Map, Value};
use time::{PrimitiveDateTime, macros::format_description};

use super::{
    CliError,
    args::{DoctorArgs, Output},
    client::{Call, Client, Patience},
    output,
};
use crate::{
    config::{DatabaseSettings, FileArgs, LogArgs},
    model::Clock,
};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and somebody should look.
    Warn,
    /// It does not work.
    Fail,
}

impl Status {
    fn word(self) -> String {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
        .to_owned()
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked, in a word or two: `oldest transaction`.
    pub check: String,
    /// How it ended.
    pub status: Status,
    /// What was seen, for a person.
    pub detail: String,
    /// The same in numbers, for programs: `-o json` shows them.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
}

impl Finding {
    /// A finding about `check`.
    pub fn new(check: &str, status: Status, detail: impl Into<String>) -> Self {
        Self { check: check.to_owned(), status, detail: detail.into(), facts: Map::new() }
    }

    /// Adds a number, or whatever programs look for.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

/// Which database to check, if any is named.
pub fn database(args: &DoctorArgs) -> Result<Option<DatabaseSettings>, CliError> {
    let (settings, _) =
        DatabaseSettings::resolve(&args.database, &LogArgs::default(), &FileArgs::default())?;
    Ok(Some(settings).filter(|settings| settings.url.is_some() || settings.data_dir_given))
}

/// Checks the server and prints what was found there and in the database.
pub async fn run(
    args: &DoctorArgs,
    database: Option<anyhow::Result<Vec<Finding>>>,
) -> Result<(), CliError> {
    let mut findings = server(&Client::new(&args.server)?).await;
    let is_database_checked = database.is_some();
    match database {
        None => {}
        Some(Ok(found)) => findings.extend(found),
        Some(Err(error)) => {
            findings.push(Finding::new("database", Status::Fail, format!("{error:#}")));
        }
    }
    match args.output.output {
        Output::Json => output::print_json(&findings)?,
        Output::Table => {
            let row = |finding: &Finding| {
                vec![finding.status.word(), finding.check.clone(), finding.detail.clone()]
            };
            let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
            output::print_table(&["STATUS", "CHECK", "DETAIL"], &rows)?;
            if !is_database_checked {
                output::print("\nnot checked: the database (give --database-url or --data-dir)")?;
            }
        }
    }
    match findings.iter().filter(|finding| finding.status == Status::Fail).count() {
        0 => Ok(()),
        failed => Err(CliError::Failed(format!("{failed} of {} checks failed", findings.len()))),
    }
}

async fn server(client: &Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    match client.send(&once("/healthz")).await {
        Ok(answer) => {
            let detail = format!("{} answers", client.address());
            findings.push(Finding::new("server", Status::Ok, detail));
            findings.push(clock(answer.date.as_deref(), Clock::default().now_ms()));
        }
        Err(error) => {
            findings.push(Finding::new("server", Status::Fail, error.to_string()));
            return findings;
        }
    }
    findings.push(match client.send(&once("/readyz")).await {
        Ok(_) => Finding::new("ready", Status::Ok, "it takes messages"),
        Err(error) => Finding::new("ready", Status::Fail, error.to_string()),
    });
    let document = client.send(&once("/openapi.json")).await.and_then(|answer| answer.json());
    findings.push(match document {
        Ok(document) => version(&document),
        Err(error) => Finding::new("version", Status::Warn, error.to_string()),
    });
    findings
}

/// A doctor tells what is, so it does not try again until it is well.
fn once(path: &str) -> Call {
    Call::get(path).patience(Patience::None)
}

fn version(document: &Value) -> Finding {
    const OWN: &str = env!("CARGO_PKG_VERSION");
    match document.pointer("/info/version").and_then(Value::as_str) {
        Some(OWN) => Finding::new("version", Status::Ok, OWN),
        Some(other) => {
            let detail = format!("the server is {other}, this program {OWN}");
            Finding::new("version", Status::Warn, detail)
        }
        None => Finding::new("version", Status::Warn, "the server does not tell its version"),
    }
}

/// Compares the server's `Date` with this machine's time. The header counts whole seconds and
/// takes a while to arrive, so that less than two seconds is no difference.
fn clock(date: Option<&str>, now_ms: i64) -> Finding {
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let read = date.and_then(|date| PrimitiveDateTime::parse(date, form).ok());
    let Some(server_s) = read.map(|date| date.assume_utc().unix_timestamp()) else {
        return Finding::new("clock", Status::Warn, "the server does not tell its time");
    };
    let ahead_ms = server_s * 1_000 - now_ms;
    if (-2_999..=2_000).contains(&ahead_ms) {
        return Finding::new("clock", Status::Ok, "the server's agrees with this machine's");
    }
    let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let seconds = (ahead_ms.abs() + 500) / 1_000;
    let detail = format!("the server's is about {seconds} s {side} this machine's");
    Finding::new("clock", Status::Warn, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_as_finely_as_the_header_allows() {
        let date = "Tue, 24 Nov 2026 10:38:00 GMT";
        let then_ms = 1_795_516_680_000;
        assert_eq!(crate::model::clock::format_ms(then_ms), "2026-11-24T10:38:00.000Z");
        for (shift_ms, status, said) in [
            (0, Status::Ok, "agrees"),
            (1_900, Status::Ok, "agrees"),
            (-1_900, Status::Ok, "agrees"),
            (60_000, Status::Warn, "60 s behind"),
            (-5_000, Status::Warn, "5 s ahead"),
        ] {
            let found = clock(Some(date), then_ms + shift_ms);
            assert_eq!(found.status, status, "{shift_ms}");
            assert!(found.detail.contains(said), "{}", found.detail);
        }
        assert_eq!(clock(None, then_ms).status, Status::Warn);
        assert_eq!(clock(Some("yesterday"), then_ms).status, Status::Warn);
    }
}
