//! What kind of server this is, and whether messages are safe with it.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};

/// Major versions that Postrider is tested on.
const MAJORS: std::ops::RangeInclusive<u32> = 15..=18;
const MAX_WAL_SIZE_MB_MIN: i64 = 2_048;
/// Sessions of one node, and some for people and for backups.
const CONNECTIONS_MIN: i64 = 25;

/// What a node needs to know of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// The version as PostgreSQL numbers it: 150020 is 15.20.
    pub version_num: u32,
    /// Whether columns can be compressed with lz4.
    pub has_lz4_columns: bool,
    /// The values of `wal_compression` that this build knows.
    pub wal_compressions: Vec<String>,
    /// Sessions that the server takes.
    pub max_connections: u32,
    /// Settings that are safe but will disappoint, each as a sentence.
    pub warnings: Vec<String>,
}

/// Why Postrider does not run on this server.
#[derive(Debug, thiserror::Error)]
pub enum ServerRefused {
    /// Too old, or newer than what was tested.
    #[error("PostgreSQL {major} is not supported: Postrider runs on 15 to 18")]
    Version {
        /// The server's major version.
        major: u32,
    },
    /// A crash of the server would lose or tear acknowledged messages.
    #[error(
        "the server's {name} is off: a crash could destroy acknowledged messages; set {name} = on \
         in postgresql.conf and reload"
    )]
    Unsafe {
        /// The setting.
        name: &'static str,
    },
    /// The server did not answer.
    #[error("the server's settings cannot be read: {0}")]
    Database(#[from] sqlx::Error),
}

/// Looks at the server behind a session.
pub async fn check(conn: &mut PgConnection) -> Result<ServerFacts, ServerRefused> {
    let settings = Settings::read(conn).await?;
    settings.refuse_unsafe()?;
    Ok(ServerFacts {
        version_num: settings.version_num(),
        has_lz4_columns: settings.kinds("default_toast_compression").any(|kind| kind == "lz4"),
        wal_compressions: settings.kinds("wal_compression").map(str::to_owned).collect(),
        max_connections: u32::try_from(settings.number("max_connections")).unwrap_or(0),
        warnings: settings.warnings(),
    })
}

/// The server's settings by name, each in its base unit, with the values that an enum knows.
#[derive(Debug, Default)]
struct Settings(HashMap<String, (String, Vec<String>)>);

impl Settings {
    async fn read(conn: &mut PgConnection) -> Result<Self, sqlx::Error> {
        // What sessions begin with: a node's own make it `local`.
        let sql =
            "select name, case name when 'synchronous_commit' then reset_val else setting end,
            coalesce(enumvals, '{}') from pg_settings";
        let rows = sqlx::query(sql).persistent(false).fetch_all(conn).await?;
        let settings = rows.iter().map(|row| {
            let value: Option<String> = row.try_get(1)?;
            Ok((row.try_get(0)?, (value.unwrap_or_default(), row.try_get(2)?)))
        });
        settings.collect::<Result<_, _>>().map(Self)
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |(value, _)| value)
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    fn kinds(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flat_map(|(_, kinds)| kinds).map(String::as_str)
    }

    fn version_num(&self) -> u32 {
        u32::try_from(self.number("server_version_num")).unwrap_or(0)
    }

    fn refuse_unsafe(&self) -> Result<(), ServerRefused> {
        let major = self.version_num() / 10_000;
        if !MAJORS.contains(&major) {
            return Err(ServerRefused::Version { major });
        }
        for name in ["fsync", "full_page_writes"] {
            if self.text(name) != "on" {
                return Err(ServerRefused::Unsafe { name });
            }
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |is_so: bool, text: String| {
            if is_so {
                warnings.push(text);
            }
        };
        let commit = self.text("synchronous_commit");
        warn(
            !matches!(commit, "on" | "local" | "remote_write" | "remote_apply"),
            format!(
                "synchronous_commit is {commit}: commits are acknowledged before they are on disk"
            ),
        );
        let wal = self.number("max_wal_size");
        warn(
            wal < MAX_WAL_SIZE_MB_MIN,
            format!("max_wal_size is {wal} MB: checkpoints will be frequent; 8 GB suits a log"),
        );
        warn(
            self.text("autovacuum") != "on",
            "autovacuum is off: tables will bloat and the server will stop at the end of its \
             transaction ids"
                .to_owned(),
        );
        let isolation = self.text("default_transaction_isolation");
        warn(
            isolation != "read committed",
            format!(
                "sessions run in {isolation} although Postrider asks for read committed, so every \
                 publish will be refused; connect directly, not through a pooler"
            ),
        );
        let connections = self.number("max_connections");
        warn(
            connections < CONNECTIONS_MIN,
            format!("max_connections is {connections}: a node alone uses about ten"),
        );
        let encoding = self.text("server_encoding");
        warn(
            encoding != "UTF8",
            format!("the database's encoding is {encoding}: names and keys need UTF8"),
        );
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(changes: &[(&str, &str)]) -> Settings {
        let good = [
            ("server_version_num", "150020"),
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on"),
            ("max_wal_size", "8192"),
            ("autovacuum", "on"),
            ("default_transaction_isolation", "read committed"),
            ("max_connections", "100"),
            ("server_encoding", "UTF8"),
        ];
        let all = good.iter().chain(changes);
        Settings(all.map(|(name, value)| (name.to_string(), (value.to_string(), vec![]))).collect())
    }

    #[test]
    fn versions_15_to_18_are_taken() {
        for (version, wanted) in
            [("140022", false), ("150000", true), ("180006", true), ("190000", false)]
        {
            let outcome = settings(&[("server_version_num", version)]).refuse_unsafe();
            assert_eq!(outcome.is_ok(), wanted, "{version}: {outcome:?}");
        }
    }

    #[test]
    fn a_server_that_could_lose_messages_is_refused_with_the_remedy() {
        for name in ["fsync", "full_page_writes"] {
            let refused = settings(&[(name, "off")]).refuse_unsafe().expect_err(name);
            assert!(refused.to_string().contains(&format!("set {name} = on")), "{refused}");
        }
    }

    #[test]
    fn each_poor_setting_is_one_warning() {
        assert_eq!(settings(&[]).warnings(), Vec::<String>::new());
        for (name, value) in [
            ("synchronous_commit", "off"),
            ("max_wal_size", "1024"),
            ("autovacuum", "off"),
            ("default_transaction_isolation", "repeatable read"),
            ("max_connections", "10"),
            ("server_encoding", "SQL_ASCII"),
        ] {
            let warnings = settings(&[(name, value)]).warnings();
            assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
            assert!(warnings[0].contains(value), "{warnings:?}");
        }
    }
}
