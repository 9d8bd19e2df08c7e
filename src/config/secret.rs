//! Values that may be passed on but never shown.

use std::{convert::Infallible, fmt, str::FromStr};

const HIDDEN: &str = "***";

/// A text that `Debug` does not show, such as a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

/// A connection URL of PostgreSQL. It may name several hosts; `Debug` and `Display` show it
/// without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// Why a text is no database URL. The text itself is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database URL must look like postgres://user:password@host:5432/database")]
pub struct InvalidDatabaseUrl;

impl DatabaseUrl {
    /// Takes what starts with `postgres://` or `postgresql://` and names something after it.
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(InvalidDatabaseUrl)?;
        let is_postgres = matches!(scheme, "postgres" | "postgresql");
        if !is_postgres || rest.is_empty() || rest.contains(char::is_whitespace) {
            return Err(InvalidDatabaseUrl);
        }
        Ok(Self(text.trim().to_owned()))
    }

    /// The URL with its password, for connecting.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", ""));
        // The last `@` of all: a password may hold `@`, `/` and `?` that nobody encoded, and to
        // hide too much is the safe side.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (credentials.split_once(':'), rest),
            None => (None, rest),
        };
        write!(f, "{scheme}://")?;
        match user {
            Some((user, _)) => write!(f, "{user}:{HIDDEN}@")?,
            None if self.0.contains('@') => write!(f, "{HIDDEN}@")?,
            None => {}
        }
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        f.write_str(address)?;
        let mut mark = '?';
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split('=').next().unwrap_or_default();
            match name.contains("pass") || name.contains('%') {
                true => write!(f, "{mark}{name}={HIDDEN}")?,
                false => write!(f, "{mark}{pair}")?,
            }
            mark = '&';
        }
        Ok(())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://ada:s3cret@db:5432/app", "postgres://ada:***@db:5432/app"),
            ("postgresql://ada:s3@cret@a:1,b:2/app", "postgresql://ada:***@a:1,b:2/app"),
            ("postgres://ada:s3cret/x?y@db/app", "postgres://ada:***@db/app"),
            ("postgres://db/app?user=a&password=s3cret", "postgres://db/app?user=a&password=***"),
            ("postgres://db/app?pass%77ord=s3cret", "postgres://db/app?pass%77ord=***"),
            ("postgres://db/app?sslmode=require", "postgres://db/app?sslmode=require"),
            ("postgres://ada:a@b?application_name=x@y", "postgres://ada:***@y"),
            ("postgres://s3cret@db/app", "postgres://***@db/app"),
            ("postgres:///app?host=/tmp", "postgres:///app?host=/tmp"),
        ] {
            let parsed = DatabaseUrl::parse(url).expect(url);
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(format!("{parsed:?}"), shown);
            assert_eq!(parsed.expose(), url);
        }
        assert_eq!(format!("{:?}", Some(Secret::new("s3cret"))), "Some(***)");
    }

    #[test]
    fn only_urls_of_postgres_are_taken() {
        for bad in ["", "postgres://", "mysql://db/app", "host=db password=x", "postgres://a b"] {
            assert_eq!(DatabaseUrl::parse(bad), Err(InvalidDatabaseUrl), "{bad}");
        }
    }
}
