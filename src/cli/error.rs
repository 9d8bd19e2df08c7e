//! How a subcommand can fail, and what the shell is told.

use std::io;

/// The exit codes; scripts branch on them, so they stay as they are.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// It failed.
    pub const FAILED: u8 = 1;
    /// Called wrongly, or named and not built yet. Clap's own errors use it too.
    pub const USAGE: u8 = 2;
    /// What was named does not exist.
    pub const NOT_FOUND: u8 = 3;
    /// Nothing answered at the server's address.
    pub const UNREACHABLE: u8 = 4;
}

/// Why a subcommand failed. `Display` is what the user reads after `postrider: `.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// A command or flag that comes with a later version.
    #[error("not_yet_supported: {0} is not supported yet")]
    NotYetSupported(String),
    /// It failed on this side.
    #[error("{0}")]
    Failed(String),
    /// Standard output is gone or full.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl From<crate::config::InvalidConfig> for CliError {
    fn from(error: crate::config::InvalidConfig) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

impl CliError {
    /// The code to exit with. A reader that closed the pipe has what it wanted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::NotYetSupported(_) => exit::USAGE,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
            Self::Failed(_) | Self::Output(_) => exit::FAILED,
        }
    }

    /// Whether there is anything to tell the user.
    pub fn is_silent(&self) -> bool {
        self.exit_code() == exit::OK
    }
}
