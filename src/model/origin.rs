//! Where a page came from, as browsers say it (RFC 6454): scheme, host and port, no more.

/// The origin of a page. Two are the same when all of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In lower case.
    scheme: String,
    /// The default port of the scheme is written as none.
    at: Authority,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    /// In lower case; an address of IPv6 in brackets.
    host: String,
    port: Option<u16>,
}

/// Why a text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no origin such as https://app.example.com or http://localhost:3000")]
pub struct InvalidOrigin(String);

impl Origin {
    /// Reads `scheme://host` or `scheme://host:port`. Anything before, between or behind these
    /// makes it none: a user, a path, a wildcard, `null`.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        let is_of_scheme = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.');
        let begins = scheme.bytes().next().is_some_and(|first| first.is_ascii_alphabetic());
        if !begins || !scheme.bytes().all(is_of_scheme) {
            return Err(invalid());
        }
        let scheme = scheme.to_ascii_lowercase();
        let at = Authority::parse(rest).ok_or_else(invalid)?;
        let at = at.without(default_port(&scheme));
        Ok(Self { scheme, at })
    }

    /// Whether a request whose header `Host` is `host` goes to where the page came from. The
    /// header has no scheme: its default port is that of the origin's.
    pub fn is_at(&self, host: &str) -> bool {
        let Some(default) = default_port(&self.scheme) else { return false };
        Authority::parse(host).is_some_and(|host| host.without(Some(default)) == self.at)
    }
}

/// Only pages of the web have one.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
                (&text[..address.len() + 2], port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_of_host = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        let is_host = text.starts_with('[') || (!host.is_empty() && host.bytes().all(is_of_host));
        let port = match port {
            None => None,
            // A number is written in one way only, so that no two texts are the same origin.
            Some(port) => Some(port.parse::<u16>().ok().filter(|n| n.to_string() == port)?),
        };
        is_host.then(|| Self { host: host.to_ascii_lowercase(), port })
    }

    fn without(mut self, default: Option<u16>) -> Self {
        self.port = self.port.filter(|port| Some(*port) != default);
        self
    }
}

/// The origins whose pages may use the service from elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<Origin>);

impl AllowedOrigins {
    /// Reads origins.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidOrigin> {
        texts.into_iter().map(Origin::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this one is among them.
    pub fn contains(&self, origin: &Origin) -> bool {
        self.0.contains(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ways_to_write_an_origin_are_one() {
        let same = [
            ("https://App.Example.com", "HTTPS://app.example.com:443"),
            ("http://localhost:80", "http://localhost"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("capacitor://localhost", "capacitor://LOCALHOST"),
        ];
        for (one, other) in same {
            assert_eq!(Origin::parse(one).expect(one), Origin::parse(other).expect(other));
        }
        let others =
            ["http://app.example.com", "https://app.example.com:80", "https://example.com"];
        for other in others {
            let one = Origin::parse("https://app.example.com").expect("an origin");
            assert_ne!(one, Origin::parse(other).expect(other), "{other}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "null",
            "*",
            "example.com",
            "://example.com",
            "https://",
            "https://*.example.com",
            "https://example.com/",
            "https://example.com/path",
            "https://example.com?x",
            "https://user@example.com",
            "https://user:pass@example.com",
            "https://example.com:",
            "https://example.com:0443",
            "https://example.com:+443",
            "https://example.com:65536",
            "https://example.com:443:443",
            "https://exämple.com",
            "https://example.com%2e",
            "https://a b",
            "https://[::1",
            "https://[::1]x",
            "https://[::g]",
            "https://::1",
            "1http://example.com",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
