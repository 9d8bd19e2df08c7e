//! The subcommands: what a terminal or a script says to a running Postrider.
//!
//! `serve`, `migrate` and `openapi` are only named here; the program's `main` hands them on.

pub mod args;
pub mod client;
pub mod doctor;
pub mod error;
pub mod group;
pub mod interrupt;
pub mod output;
pub mod problem;
pub mod publish;
pub mod socket;
pub mod tail;
pub mod topic;

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
    /// What talks to a server.
    #[command(flatten)]
    Client(ClientCommand),
    /// Check a running Postrider and its database
    #[command(after_help = args::DOCTOR_EXAMPLES)]
    Doctor(args::DoctorArgs),
    /// Print the OpenAPI document of the REST interface
    Openapi,
}

/// The commands that talk to a running Postrider.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Create, list, describe and delete topics
    #[command(subcommand)]
    Topic(args::TopicCommand),
    /// Publish lines of a file or of standard input, or one message
    #[command(after_help = args::PUBLISH_EXAMPLES)]
    Publish(args::PublishArgs),
    /// Print the messages of a topic as they come
    #[command(after_help = args::TAIL_EXAMPLES)]
    Tail(args::TailArgs),
    /// Queues (not supported yet)
    #[command(disable_help_flag = true)]
    Queue(args::LaterArgs),
    /// List, describe, move, pause and delete consumer groups
    #[command(subcommand)]
    Group(args::GroupCommand),
    /// Make access tokens (not supported yet)
    #[command(disable_help_flag = true)]
    Token(args::LaterArgs),
}

/// Runs a subcommand that talks to a server.
pub async fn run(command: ClientCommand) -> Result<(), CliError> {
    match command {
        ClientCommand::Topic(command) => topic::run(command).await,
        ClientCommand::Publish(args) => publish::run(&args).await,
        ClientCommand::Tail(args) => tail::run(&args).await,
        ClientCommand::Queue(_) => later("queue"),
        ClientCommand::Group(command) => group::run(command).await,
        ClientCommand::Token(_) => later("token"),
    }
}

fn later(command: &str) -> Result<(), CliError> {
    Err(CliError::NotYetSupported(format!("the command '{command}'")))
}
