//! How a subcommand can fail, and what the shell is told.

use std::io;

use super::problem::Problem;

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
    /// The server refused it.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// No connection came about, so nothing was sent.
    #[error(
        "nothing answers at {url} ({detail}); is 'postrider serve' running there? --url or \
         POSTRIDER_URL names another place"
    )]
    Unreachable {
        /// The server's address.
        url: String,
        /// What the connection said.
        detail: String,
    },
    /// The request was sent and its answer never came; what it did is not known.
    #[error("the connection to {url} was lost before the answer ({detail})")]
    Lost {
        /// The server's address.
        url: String,
        /// What the connection said.
        detail: String,
    },
    /// An error and what else the user should know.
    #[error("{source}\n  {note}")]
    Noted {
        /// The error.
        source: Box<CliError>,
        /// For a person.
        note: String,
    },
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
            Self::Problem(problem) if problem.code == "not_found" => exit::NOT_FOUND,
            Self::Problem(problem) if problem.code == "not_yet_supported" => exit::USAGE,
            Self::Unreachable { .. } | Self::Lost { .. } => exit::UNREACHABLE,
            Self::Noted { source, .. } => source.exit_code(),
            Self::Problem(_) | Self::Failed(_) | Self::Output(_) => exit::FAILED,
        }
    }

    /// Whether it is sure that a request that failed so changed nothing.
    pub fn had_no_effect(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.had_no_effect(),
            Self::Noted { source, .. } => source.had_no_effect(),
            Self::Usage(_) | Self::NotYetSupported(_) | Self::Unreachable { .. } => true,
            Self::Lost { .. } | Self::Failed(_) | Self::Output(_) => false,
        }
    }

    /// Whether there is anything to tell the user.
    pub fn is_silent(&self) -> bool {
        self.exit_code() == exit::OK
    }
}
