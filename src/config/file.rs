//! The configuration file: TOML, a table per concern, unknown names refused.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::secret::Secret;

/// What a file says; everything is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileSettings {
    pub http: HttpTable,
    pub database: DatabaseTable,
    pub log: LogTable,
    pub node: NodeTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HttpTable {
    pub listen: Option<String>,
    pub insecure: Option<bool>,
    pub trusted_proxies: Vec<String>,
    pub allow_origin: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DatabaseTable {
    pub url: Option<Secret>,
    pub data_dir: Option<PathBuf>,
    pub pg_bin_dir: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogTable {
    pub format: Option<String>,
    pub filter: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NodeTable {
    pub name: Option<String>,
    pub no_notify: Option<bool>,
}

impl FileSettings {
    /// Reads `path`; no path is an empty file. The error is one line for the user.
    pub fn read(path: Option<&Path>) -> Result<Self, String> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads TOML.
    pub fn parse(text: &str) -> Result<Self, String> {
        config::Config::builder()
            .add_source(config::File::from_str(text, config::FileFormat::Toml))
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| error.to_string())
    }
}
