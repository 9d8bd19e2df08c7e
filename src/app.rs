//! Places held for the functions that the lead's `app` brings.

use anyhow::bail;

use crate::{
    cli::doctor::Finding,
    config::{DatabaseSettings, LogSettings, Settings},
};

const COMES: &str = "comes when the lead's src/app.rs is merged";

/// Runs the service until it is told to stop.
pub async fn serve(_settings: Settings) -> anyhow::Result<()> {
    bail!("serve {COMES}")
}

/// Brings the schema up to this program's version.
pub async fn migrate(_database: DatabaseSettings, _log: LogSettings) -> anyhow::Result<()> {
    bail!("migrate {COMES}")
}

/// Checks the database.
pub async fn doctor(_database: DatabaseSettings) -> anyhow::Result<Vec<Finding>> {
    bail!("the check of the database {COMES}")
}

/// The OpenAPI document as JSON.
pub fn openapi() -> anyhow::Result<String> {
    bail!("openapi {COMES}")
}
