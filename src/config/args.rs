//! The flags of `serve`, each with the name of its environment variable. Values stay texts here:
//! they are read together with the file's, so that all that is wrong is told at once. An empty
//! variable counts as absent, since compose files pass those.

use std::path::PathBuf;

use clap::Args;

use super::secret::Secret;

/// Everything that `serve` can be told.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// How it is reached.
    #[command(flatten)]
    pub http: HttpArgs,
    /// Where messages are kept.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What it tells about itself.
    #[command(flatten)]
    pub log: LogArgs,
    /// Who it is.
    #[command(flatten)]
    pub node: NodeArgs,
    /// The file behind all of them.
    #[command(flatten)]
    pub file: FileArgs,
}

/// How the service is reached.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, env = "POSTRIDER_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Listen beyond loopback although nobody is asked who they are
    #[arg(long, env = "POSTRIDER_INSECURE", value_name = "BOOL", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure: Option<Switch>,

    /// Proxies whose X-Forwarded-For counts, each an address or a network; then sockets are
    /// counted by address [default: none]
    #[arg(long, env = "POSTRIDER_TRUSTED_PROXIES", value_name = "CIDR,…", value_delimiter = ',')]
    pub trusted_proxies: Vec<String>,

    /// Origin whose pages may open sockets, beside those of this host; repeatable
    #[arg(long, env = "POSTRIDER_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origin: Vec<String>,
}

/// Where messages are kept.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// PostgreSQL 15 to 18 to use [default: an embedded one]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<Secret>,

    /// Where the embedded PostgreSQL keeps its data [default: ./postrider-data]
    #[arg(long, env = "POSTRIDER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where its programs initdb and postgres are [default: found, else fetched]
    #[arg(long, env = "POSTRIDER_PG_BIN_DIR", value_name = "DIR")]
    pub pg_bin_dir: Option<PathBuf>,
}

/// What the service tells about itself.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// Form of the log lines: text or json [default: text]
    #[arg(long, env = "POSTRIDER_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// What is logged: a level, or a list as in info,postrider::log=debug [default: info]
    #[arg(long, env = "POSTRIDER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// Who the node is.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Node")]
pub struct NodeArgs {
    /// Name of this node among others on the same database [default: the machine's name]
    #[arg(long, env = "POSTRIDER_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Do not tell other nodes by NOTIFY: they look every 250 ms all the same
    #[arg(long, env = "POSTRIDER_NO_NOTIFY", value_name = "BOOL", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_notify: Option<Switch>,
}

/// The file that holds what neither flags nor environment say.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "File")]
pub struct FileArgs {
    /// TOML file with any of these settings; flags and environment win over it
    #[arg(long, env = "POSTRIDER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// On, off, or an empty variable that says neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch(pub Option<bool>);

fn switch(text: &str) -> Result<Switch, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" => Ok(Switch(None)),
        "true" | "1" | "yes" | "on" => Ok(Switch(Some(true))),
        "false" | "0" | "no" | "off" => Ok(Switch(Some(false))),
        _ => Err("use true or false".to_owned()),
    }
}
