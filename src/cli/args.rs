//! The flags of the subcommands, as `--help` explains them.

mod group;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    config::{DatabaseArgs, FileArgs, LogArgs},
    model::{Name, duration},
};

pub use group::{
    GROUP_DESCRIBE_EXAMPLES, GROUP_SEEK_EXAMPLES, GroupCommand, GroupDeleteArgs, GroupListArgs,
    GroupNameArgs, GroupSeekArgs,
};

/// Examples of `serve`.
pub const SERVE_EXAMPLES: &str = "\
Without a database URL, PostgreSQL is run in the data directory. The URL may name several hosts,
separated by commas: the primary among them is found. Beyond loopback, whoever can reach the port
can read and write everything; so that is refused unless --insecure is given too.

Examples:
  postrider serve
  postrider serve --data-dir /var/lib/postrider --log-format json
  DATABASE_URL=postgres://postrider:secret@db/postrider postrider serve
  postrider serve --listen 0.0.0.0:8080 --insecure   # in a private network only

A file for --config, with every setting that it knows:
  [http]
  listen = \"127.0.0.1:8080\"
  insecure = false
  trusted_proxies = [\"10.0.0.0/8\"]
  allow_origin = [\"https://app.example.com\"]
  [database]
  url = \"postgres://postrider:secret@db:5432/postrider\"
  data_dir = \"/var/lib/postrider\"
  pg_bin_dir = \"/usr/lib/postgresql/15/bin\"
  [log]
  format = \"text\"
  filter = \"info\"
  [node]
  name = \"one\"
  no_notify = false

Flags win over environment variables, those over the file, that over the defaults.";

/// Examples of `migrate`.
pub const MIGRATE_EXAMPLES: &str = "\
`serve` does this itself when it starts.

Examples:
  postrider migrate --database-url postgres://postrider:secret@db/postrider
  postrider migrate --data-dir ./postrider-data";

/// Examples of `topic create`.
pub const CREATE_EXAMPLES: &str = "\
Settings that are not given take the server's defaults. The same call again changes nothing; a
topic that stands with other settings is an error that names the difference.

Examples:
  postrider topic create orders
  postrider topic create orders --partitions 16 --retention 30d --compression zstd";

/// Examples of `publish`.
pub const PUBLISH_EXAMPLES: &str = "\
A message is a line without its newline. A carriage return before the newline stays, an empty line
is a message with an empty value, and a last line counts without newline too. Lines that are not
UTF-8 go as bytes. Up to 1,000 lines or 1 MiB are committed together, and up to 16 such batches are
under way, in order: messages of one key stand in the order of the file, and what is sent again
after a lost connection is published once. If a batch fails, nothing more is sent, and the error
tells which lines are published and which are in doubt.

Examples:
  postrider publish access --file access.log --key-regex '^(\\S+)'
  tail -F app.log | postrider publish logs
  postrider publish orders --key ada --value 'hello' --header source=shop
  echo '{\"key\":\"ada\",\"value\":{\"n\":1}}' | postrider publish orders --json";

/// Examples of `tail`.
pub const TAIL_EXAMPLES: &str = "\
Begins at the latest message, or at the earliest with --no-follow. An offset needs --partition where
the topic has more than one; a time is RFC 3339. Messages of one partition come in their order;
partitions are mixed as they answer. Ctrl-C ends.

With --group it reads as a member of that consumer group: it shares the topic with the other
members, begins where the group is (a new group at the earliest message, or at the latest with
--from latest), commits what it printed, and leaves when it ends.

Outputs:
  table    time, partition/offset, key and value; control characters are escaped
  json     one array of messages as the server wrote them
  ndjson   a message a line
  value    only the values, a line each, bytes as they are; tombstones are left out

Examples:
  postrider tail orders
  postrider tail orders --from earliest --no-follow -o ndjson > orders.ndjson
  postrider tail orders --from 2026-11-24T10:00:00Z --limit 100
  postrider tail orders --partition 2 --from 4711
  postrider tail orders --group billing -o ndjson";

/// Examples of `doctor`.
pub const DOCTOR_EXAMPLES: &str = "\
The database is checked when --database-url or --data-dir is given. Exits with 1 when a check
fails; warnings do not count.

Examples:
  postrider doctor
  postrider doctor --url https://queue.example.com -o json
  postrider doctor --database-url postgres://postrider:secret@db/postrider";

/// Where the server is and who asks.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Where Postrider is
    #[arg(
        long,
        env = "POSTRIDER_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub url: String,

    /// Read the access token from standard input; else it is taken from POSTRIDER_TOKEN
    #[arg(long)]
    pub token_stdin: bool,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// How messages are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TailOutput {
    /// For people: time, partition/offset, key and value.
    Table,
    /// One array of messages.
    Json,
    /// A message a line.
    Ndjson,
    /// Only the values.
    Value,
}

/// The form of the result.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputArgs {
    /// Form of the result: table or json
    #[arg(short = 'o', long, value_enum, value_name = "FORM", default_value = "table")]
    #[arg(hide_possible_values = true)]
    pub output: Output,
}

/// The flags of `migrate`.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
    /// The file behind them.
    #[command(flatten)]
    pub file: FileArgs,
}

/// What can be done with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic, or confirm that it stands as told
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// List all topics
    List(ListArgs),
    /// Show the settings and partitions of a topic
    Describe(DescribeArgs),
    /// Delete a topic with all its messages
    Delete(DeleteArgs),
}

/// The flags of `topic create`. What is absent is left to the server.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// Name: letters, digits and . _ ~ -
    #[arg(value_name = "TOPIC", value_parser = Name::parse)]
    pub name: Name,
    /// How many partitions; they can only grow
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// How long messages are kept, such as 12h or 7d, or forever
    #[arg(long, value_name = "DURATION", value_parser = retention)]
    pub retention: Option<String>,
    /// How many bytes of messages are kept
    #[arg(long, value_name = "BYTES")]
    pub retention_bytes: Option<u64>,
    /// How messages are compressed inside the log
    #[arg(long, value_name = "KIND", value_parser = ["none", "lz4", "zstd"])]
    pub compression: Option<String>,
    /// Where messages without key go: those of a request together, or in turn
    #[arg(long, value_name = "RULE", value_parser = ["sticky", "round_robin"])]
    pub keyless: Option<String>,
    /// The largest message
    #[arg(long, value_name = "BYTES")]
    pub max_message_bytes: Option<u32>,
    /// What an acknowledgement means: on disk, or on a standby's too
    #[arg(long, value_name = "LEVEL", value_parser = ["local", "replicated"])]
    pub durability: Option<String>,
    /// The form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The flags of `topic list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Only topics whose names begin so
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// The form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The flags of `topic describe`.
#[derive(Args, Clone, Debug)]
pub struct DescribeArgs {
    /// The topic
    #[arg(value_name = "TOPIC", value_parser = Name::parse)]
    pub name: Name,
    /// The form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The flags of `topic delete`.
#[derive(Args, Clone, Debug)]
pub struct DeleteArgs {
    /// The topic
    #[arg(value_name = "TOPIC", value_parser = Name::parse)]
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

/// The flags of `publish`.
#[derive(Args, Clone, Debug)]
pub struct PublishArgs {
    /// The topic
    #[arg(value_name = "TOPIC", value_parser = Name::parse)]
    pub topic: Name,
    /// File to publish, a message a line [default: standard input]
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with = "value")]
    pub file: Option<PathBuf>,
    /// Key of a line: the first group of this regular expression; no match means no key
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["value", "json"])]
    pub key_regex: Option<String>,
    /// Each line is a whole message: {"key":…,"value":…,"headers":{…}}
    #[arg(long, conflicts_with = "value")]
    pub json: bool,
    /// Publish this one text
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub value: Option<String>,
    /// Key of the one message
    #[arg(long, value_name = "TEXT", requires = "value", allow_hyphen_values = true)]
    pub key: Option<String>,
    /// Header of the one message; may be given more than once
    #[arg(long = "header", value_name = "NAME=VALUE", requires = "value", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The form of the summary.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The flags of `tail`.
#[derive(Args, Clone, Debug)]
pub struct TailArgs {
    /// The topic
    #[arg(value_name = "TOPIC", value_parser = Name::parse)]
    pub topic: Name,
    /// Where to begin: earliest, latest, an offset or a time [default: latest]
    #[arg(long, value_name = "WHERE")]
    pub from: Option<String>,
    /// Only this partition [default: all]
    #[arg(long, short = 'p', value_name = "N")]
    pub partition: Option<u32>,
    /// End after this many messages
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// End where the topic ended when the command began
    #[arg(long)]
    pub no_follow: bool,
    /// Read as a member of this consumer group, and commit what was printed
    #[arg(long, value_name = "GROUP", value_parser = Name::parse, conflicts_with = "partition")]
    pub group: Option<Name>,
    /// Form of the messages: table, json, ndjson or value
    #[arg(short = 'o', long, value_enum, value_name = "FORM", default_value = "table")]
    #[arg(hide_possible_values = true)]
    pub output: TailOutput,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The flags of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// The form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Whatever is said to a command that comes later.
#[derive(Args, Clone, Debug)]
pub struct LaterArgs {
    /// Not read
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<std::ffi::OsString>,
}

fn retention(text: &str) -> Result<String, String> {
    match duration::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) if text == "forever" => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}, or it is forever")),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a header is NAME=VALUE".to_owned()),
    }
}
