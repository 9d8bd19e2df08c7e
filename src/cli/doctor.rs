//! `doctor`: what is well and what is not.

use serde::Serialize;

use super::{CliError, args::DoctorArgs};
use crate::config::{DatabaseSettings, FileArgs, LogArgs};

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

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked, in a word or two: `oldest transaction`.
    pub check: String,
    /// How it ended.
    pub status: Status,
    /// What was seen, for a person.
    pub detail: String,
}

impl Finding {
    /// A finding about `check`.
    pub fn new(check: &str, status: Status, detail: impl Into<String>) -> Self {
        Self { check: check.to_owned(), status, detail: detail.into() }
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
    _args: &DoctorArgs,
    _database: Option<anyhow::Result<Vec<Finding>>>,
) -> Result<(), CliError> {
    Ok(())
}
