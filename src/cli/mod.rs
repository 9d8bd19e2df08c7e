//! The subcommands: what a terminal or a script says to a running Postrider.
//!
//! `serve`, `migrate` and `openapi` are only named here; the program's `main` hands them on.

pub mod args;
pub mod doctor;
pub mod error;
pub mod output;

use clap::{Parser, Subcommand};

use crate::config::ServeArgs;
pub use error::CliError;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or not supported yet, 3 not found,
            4 nothing answered at the server's address";

const EXAMPLES: &str = "\
Examples:
  postrider serve                                    # everything in ./postrider-data
  postrider topic create orders --partitions 8
  postrider publish orders --key ada --value 'hello'
  postrider tail orders --from earliest
  postrider doctor";

/// The program's arguments.
#[derive(Debug, Parser)]
#[command(
    name = "postrider",
    version,
    about = "A message queue service over HTTP and WebSocket, on PostgreSQL",
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service
    #[command(after_help = args::SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Bring the database's schema up to this program's version
    #[command(after_help = args::MIGRATE_EXAMPLES)]
    Migrate(args::MigrateArgs),
    /// Create, list, describe and delete topics
    #[command(subcommand)]
    Topic(args::TopicCommand),
    /// Publish lines of a file or of standard input, or one message
    #[command(after_help = args::PUBLISH_EXAMPLES)]
    Publish(args::PublishArgs),
    /// Print the messages of a topic as they come
    #[command(after_help = args::TAIL_EXAMPLES)]
    Tail(args::TailArgs),
    /// Check a running Postrider and its database
    #[command(after_help = args::DOCTOR_EXAMPLES)]
    Doctor(args::DoctorArgs),
    /// Print the OpenAPI document of the REST interface
    Openapi,
    /// Queues (not supported yet)
    #[command(disable_help_flag = true)]
    Queue(args::LaterArgs),
    /// Consumer groups (not supported yet)
    #[command(disable_help_flag = true)]
    Group(args::LaterArgs),
    /// Make access tokens (not supported yet)
    #[command(disable_help_flag = true)]
    Token(args::LaterArgs),
}

/// Runs a subcommand that talks to a server. `database` is what `app` found out about the
/// database for `doctor`.
pub async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Queue(_) => Err(CliError::NotYetSupported("the command 'queue'".to_owned())),
        Command::Group(_) => Err(CliError::NotYetSupported("the command 'group'".to_owned())),
        Command::Token(_) => Err(CliError::NotYetSupported("the command 'token'".to_owned())),
        _ => Err(CliError::NotYetSupported("this command".to_owned())),
    }
}
