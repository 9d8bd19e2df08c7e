//! What the program is told: flags over environment over file over default, one struct per
//! concern, validated together so that everything that is wrong is told at once.

pub mod args;
mod file;
pub mod listen;
pub mod secret;

use std::{
    fmt,
    path::{Path, PathBuf},
};

pub use args::{DatabaseArgs, FileArgs, LogArgs, ServeArgs};
use file::FileSettings;
pub use listen::Listen;
use listen::Resolver;
pub use secret::{DatabaseUrl, Secret};

use crate::model::{AllowedOrigins, TrustedProxies};

const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
const DEFAULT_DATA_DIR: &str = "./postrider-data";
const DEFAULT_FILTER: &str = "info";
const NODE_NAME_CHARS_MAX: usize = 255;

/// Everything that `serve` runs by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How it is reached.
    pub http: HttpSettings,
    /// Where messages are kept.
    pub database: DatabaseSettings,
    /// What it tells about itself.
    pub log: LogSettings,
    /// Who it is.
    pub node: NodeSettings,
}

/// How the service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where it listens.
    pub listen: Listen,
    /// Whether it may be reached from elsewhere although nobody is asked who they are.
    pub insecure: bool,
    /// The proxies whose word counts for the address of a client.
    pub trusted_proxies: TrustedProxies,
    /// The origins whose pages may open sockets, beside those of the host itself.
    pub allowed_origins: AllowedOrigins,
}

/// Where messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSettings {
    /// The PostgreSQL to use; none: an embedded one.
    pub url: Option<DatabaseUrl>,
    /// Where the embedded PostgreSQL keeps its data, as given: it may be relative.
    pub data_dir: PathBuf,
    /// Whether the user chose `data_dir`: what was chosen is never silently moved.
    pub data_dir_given: bool,
    /// The folder of `initdb` and `postgres`; none: found or fetched.
    pub pg_bin_dir: Option<PathBuf>,
}

/// What the program logs, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// Which lines: a filter that `tracing_subscriber::EnvFilter` was seen to take.
    pub filter: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

/// Who the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its name among the nodes of one database: 1 to 255 printable characters.
    pub name: String,
    /// Whether it tells other nodes by NOTIFY what they would find a little later.
    pub notify: bool,
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidConfig {
    problems: Vec<String>,
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "{one}"),
            several => {
                write!(f, "the configuration has {} problems", several.len())?;
                several.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}

impl Settings {
    /// The settings of `serve`. Reads the configuration file and looks the host up, so it may
    /// block.
    pub fn resolve(args: &ServeArgs) -> Result<Self, InvalidConfig> {
        let (file, mut problems) = read_file(&args.file);
        let settings = merge(args, &file, listen::system_resolver, &mut problems);
        settings.filter(|_| problems.is_empty()).ok_or(InvalidConfig { problems })
    }

    /// What deserves a line in the log at start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.http.listen.is_loopback() {
            warnings.push(format!(
                "listening on {} without authentication: whoever reaches it can read and write \
                 everything (--insecure)",
                self.http.listen.text
            ));
        }
        let embedded = self.database.data_dir_given || self.database.pg_bin_dir.is_some();
        if self.database.url.is_some() && embedded {
            warnings.push(
                "a database URL is given: the data directory and the folder of PostgreSQL's \
                 programs are not used"
                    .to_owned(),
            );
        }
        warnings
    }
}

impl DatabaseSettings {
    /// The settings of commands that only need the database, such as `migrate`.
    pub fn resolve(
        args: &DatabaseArgs,
        log: &LogArgs,
        file: &FileArgs,
    ) -> Result<(Self, LogSettings), InvalidConfig> {
        let (file, mut problems) = read_file(file);
        let database = merge_database(args, &file, &mut problems);
        let log = merge_log(log, &file, &mut problems);
        match (database, log) {
            (Some(database), Some(log)) if problems.is_empty() => Ok((database, log)),
            _ => Err(InvalidConfig { problems }),
        }
    }
}

/// A file that cannot be read must not hide what else is wrong.
fn read_file(args: &FileArgs) -> (FileSettings, Vec<String>) {
    match FileSettings::read(path(args.config.as_deref())) {
        Ok(file) => (file, Vec::new()),
        Err(problem) => (FileSettings::default(), vec![problem]),
    }
}

fn merge(
    args: &ServeArgs,
    file: &FileSettings,
    resolve: Resolver,
    problems: &mut Vec<String>,
) -> Option<Settings> {
    let http = merge_http(args, file, resolve, problems);
    let database = merge_database(&args.database, file, problems);
    let log = merge_log(&args.log, file, problems);
    let node = merge_node(args, file, problems);
    Some(Settings { http: http?, database: database?, log: log?, node: node? })
}

fn merge_http(
    args: &ServeArgs,
    file: &FileSettings,
    resolve: Resolver,
    problems: &mut Vec<String>,
) -> Option<HttpSettings> {
    let flag = args.http.insecure.and_then(|switch| switch.0);
    let insecure = flag.or(file.http.insecure).unwrap_or(false);
    let listen = text(args.http.listen.as_deref())
        .or(text(file.http.listen.as_deref()))
        .unwrap_or(DEFAULT_LISTEN);
    let proxies =
        TrustedProxies::parse(texts(&args.http.trusted_proxies, &file.http.trusted_proxies));
    let proxies = checked("--trusted-proxies", proxies, problems);
    let origins = AllowedOrigins::parse(texts(&args.http.allow_origin, &file.http.allow_origin));
    let origins = checked("--allow-origin", origins, problems);
    let listen = checked("--listen", Listen::parse(listen, resolve), problems)?;
    if !listen.is_loopback() && !insecure {
        problems.push(format!(
            "--listen {} can be reached from other machines, and there is no authentication: \
             listen on 127.0.0.1, or give --insecure if everyone who reaches it may read and \
             write everything",
            listen.text
        ));
        return None;
    }
    let (trusted_proxies, allowed_origins) = (proxies?, origins?);
    Some(HttpSettings { listen, insecure, trusted_proxies, allowed_origins })
}

fn merge_database(
    args: &DatabaseArgs,
    file: &FileSettings,
    problems: &mut Vec<String>,
) -> Option<DatabaseSettings> {
    let url = text(args.database_url.as_ref().map(Secret::expose))
        .or(text(file.database.url.as_ref().map(Secret::expose)));
    let url = match url.map(DatabaseUrl::parse) {
        None => None,
        Some(read) => Some(checked("--database-url", read, problems)?),
    };
    let data_dir = path(args.data_dir.as_deref()).or(path(file.database.data_dir.as_deref()));
    let pg_bin_dir = path(args.pg_bin_dir.as_deref()).or(path(file.database.pg_bin_dir.as_deref()));
    Some(DatabaseSettings {
        url,
        data_dir: data_dir.unwrap_or(Path::new(DEFAULT_DATA_DIR)).to_owned(),
        data_dir_given: data_dir.is_some(),
        pg_bin_dir: pg_bin_dir.map(Path::to_owned),
    })
}

fn merge_log(
    args: &LogArgs,
    file: &FileSettings,
    problems: &mut Vec<String>,
) -> Option<LogSettings> {
    let format = text(args.log_format.as_deref()).or(text(file.log.format.as_deref()));
    let format = match format {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => Err(format!("'{other}' is neither text nor json")),
    };
    let filter =
        text(args.log.as_deref()).or(text(file.log.filter.as_deref())).unwrap_or(DEFAULT_FILTER);
    let read = tracing_subscriber::EnvFilter::try_new(filter).map(|_| filter.to_owned());
    let format = checked("--log-format", format, problems);
    let filter = checked("--log", read, problems);
    Some(LogSettings { format: format?, filter: filter? })
}

fn merge_node(
    args: &ServeArgs,
    file: &FileSettings,
    problems: &mut Vec<String>,
) -> Option<NodeSettings> {
    let given = text(args.node.node_name.as_deref()).or(text(file.node.name.as_deref()));
    let name = given.map_or_else(machine_name, str::to_owned);
    if name.chars().count() > NODE_NAME_CHARS_MAX || name.contains(char::is_control) {
        problems.push("--node-name: at most 255 characters, none of them control".to_owned());
        return None;
    }
    let no_notify = args.node.no_notify.and_then(|switch| switch.0).or(file.node.no_notify);
    Some(NodeSettings { name, notify: !no_notify.unwrap_or(false) })
}

fn machine_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().trim().to_owned();
    if name.is_empty() { "postrider".to_owned() } else { name }
}

fn checked<T, E: fmt::Display>(
    setting: &str,
    read: Result<T, E>,
    problems: &mut Vec<String>,
) -> Option<T> {
    read.map_err(|error| problems.push(format!("{setting}: {error}"))).ok()
}

fn text(given: Option<&str>) -> Option<&str> {
    given.map(str::trim).filter(|text| !text.is_empty())
}

/// The first list that says anything.
fn texts<'a>(args: &'a [String], file: &'a [String]) -> impl Iterator<Item = &'a str> {
    let said = |list: &'a [String]| list.iter().filter_map(|given| text(Some(given)));
    let lists = [said(args), said(file)];
    lists.into_iter().find(|list| list.clone().next().is_some()).into_iter().flatten()
}

fn path(given: Option<&Path>) -> Option<&Path> {
    given.filter(|path| !path.as_os_str().is_empty())
}

#[cfg(test)]
mod tests;
