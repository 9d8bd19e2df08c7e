//! The flags of `group`.

use clap::{Args, Subcommand};

use super::{OutputArgs, ServerArgs};
use crate::model::Name;

/// Examples of `group describe`.
pub const GROUP_DESCRIBE_EXAMPLES: &str = "\
LAG is in messages; BEHIND is for how long the first message that is not committed has been there.

Examples:
  postrider group describe billing
  postrider group describe billing -o json";

/// Examples of `group seek`.
pub const GROUP_SEEK_EXAMPLES: &str = "\
Works while the group runs: its members go on from the new offsets, and what they have not
committed yet is not committed any more. --dry-run says what would be and changes nothing.

Examples:
  postrider group seek billing --to earliest
  postrider group seek billing --to latest --topic 'audit.*' --dry-run
  postrider group seek billing --to 2026-11-24T10:00:00Z
  postrider group seek billing --offset orders/0=41 --offset orders/1=7";

/// What can be done with consumer groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List all groups
    List(GroupListArgs),
    /// Show the members of a group and how far it is behind
    #[command(after_help = GROUP_DESCRIBE_EXAMPLES)]
    Describe(GroupNameArgs),
    /// Let a group go on from elsewhere
    #[command(after_help = GROUP_SEEK_EXAMPLES)]
    Seek(GroupSeekArgs),
    /// Deliver nothing to a group until it is resumed
    Pause(GroupNameArgs),
    /// Let a paused group go on
    Resume(GroupNameArgs),
    /// Delete a group with its offsets
    Delete(GroupDeleteArgs),
}

/// The flags of `group list`.
#[derive(Args, Clone, Debug)]
pub struct GroupListArgs {
    /// Only groups whose names begin so
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// The form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The flags of commands about one group.
#[derive(Args, Clone, Debug)]
pub struct GroupNameArgs {
    /// The group
    #[arg(value_name = "GROUP", value_parser = Name::parse)]
    pub name: Name,
    /// The form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The flags of `group seek`.
#[derive(Args, Clone, Debug)]
pub struct GroupSeekArgs {
    /// The group
    #[arg(value_name = "GROUP", value_parser = Name::parse)]
    pub name: Name,
    /// Where to: earliest, latest or a time
    #[arg(long, value_name = "WHERE", required_unless_present = "offsets")]
    pub to: Option<String>,
    /// An offset of one partition; may be given more than once
    #[arg(long = "offset", value_name = "TOPIC/N=OFFSET", conflicts_with_all = ["to", "topics"])]
    #[arg(value_parser = offset)]
    pub offsets: Vec<(String, u32, i64)>,
    /// Only this topic or pattern; may be given more than once
    #[arg(long = "topic", value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Say what would be, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The flags of `group delete`.
#[derive(Args, Clone, Debug)]
pub struct GroupDeleteArgs {
    /// The group
    #[arg(value_name = "GROUP", value_parser = Name::parse)]
    pub name: Name,
    /// Do not ask; needed where nobody can be asked
    #[arg(short = 'y', long)]
    pub yes: bool,
    /// The form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

fn offset(text: &str) -> Result<(String, u32, i64), String> {
    let parts = text.split_once('=').and_then(|(place, offset)| {
        let (topic, partition) = place.rsplit_once('/')?;
        let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
        (!topic.is_empty()).then(|| (topic.to_owned(), partition, offset))
    });
    parts.ok_or_else(|| "an offset is TOPIC/PARTITION=OFFSET, such as orders/0=41".to_owned())
}
