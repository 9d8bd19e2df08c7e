//! Database URLs as libpq reads them: several hosts, sockets, and the parameters that sqlx does
//! not know.

use std::{path::Path, str::FromStr, time::Duration};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// Parameters that are handed to sqlx as they are.
const PASSED_ON: [&str; 10] = [
    "application_name",
    "dbname",
    "options",
    "password",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];
/// Where systems keep the certificate authorities that they trust.
const SYSTEM_CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const DEFAULT_PORT: u16 = 5432;
const PATIENCE_MAX_S: u64 = 60;

/// A URL that was read.
#[derive(Debug)]
pub(super) struct Parsed {
    /// One for each host, at least one.
    pub(super) hosts: Vec<PgConnectOptions>,
    /// `connect_timeout`, for each host.
    pub(super) patience: Option<Duration>,
}

/// Reads a URL or says what is wrong with it, without repeating its password.
pub(super) fn parse(url: &str) -> Result<Parsed, String> {
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or("it must begin with postgres:// or postgresql://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let parameters = Parameters::read(query)?;
    let named = hosts.split(',').filter(|host| !host.is_empty()).map(Host::parse);
    let mut hosts = named.collect::<Result<Vec<Host>, String>>()?;
    if hosts.is_empty() {
        hosts = parameters.hosts()?;
    }
    let query = &parameters.passed_on;
    let options = hosts.iter().map(|host| {
        let url = format!("postgres://{user}{}:{}{path}?{query}", host.encoded(), host.port);
        let options = PgConnectOptions::from_str(&url).map_err(|error| error.to_string())?;
        Ok(verify_with_known_authorities(host.set(options), query))
    });
    let hosts = options.collect::<Result<_, String>>()?;
    Ok(Parsed { hosts, patience: parameters.patience })
}

/// As in libpq, a named authority is checked even where `sslmode` is only `require`; and without
/// one, the system's authorities count, also those that a machine added to the public ones.
fn verify_with_known_authorities(options: PgConnectOptions, query: &str) -> PgConnectOptions {
    let is_named = query.split('&').any(|pair| pair.starts_with("sslrootcert="));
    match options.get_ssl_mode() {
        PgSslMode::Require if is_named => options.ssl_mode(PgSslMode::VerifyCa),
        PgSslMode::VerifyCa | PgSslMode::VerifyFull if !is_named => {
            match SYSTEM_CERTIFICATES.iter().find(|path| Path::new(path).exists()) {
                Some(path) => options.ssl_root_cert(path),
                None => options,
            }
        }
        _ => options,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// A name, an address without brackets, or the folder of a socket.
    name: String,
    port: u16,
}

impl Host {
    fn parse(text: &str) -> Result<Self, String> {
        let after_brackets = text.rfind(']').map_or(0, |end| end + 1);
        let (name, port) = match text[after_brackets..].split_once(':') {
            Some((name, port)) => {
                (format!("{}{name}", &text[..after_brackets]), Some(port).filter(|p| !p.is_empty()))
            }
            None => (text.to_owned(), None),
        };
        Self::new(&decode(&name)?, port)
    }

    fn new(name: &str, port: Option<&str>) -> Result<Self, String> {
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let name = inner.unwrap_or(name).to_owned();
        let is_known = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if name.is_empty() || !(name.starts_with('/') || name.chars().all(is_known)) {
            return Err(format!("{name:?} is no name of a host"));
        }
        let port = port.map_or(Ok(DEFAULT_PORT), |port| {
            port.parse().ok().filter(|port| *port != 0).ok_or(format!("{port:?} is no port"))
        })?;
        Ok(Self { name, port })
    }

    fn is_address_v6(&self) -> bool {
        !self.name.starts_with('/') && self.name.contains(':')
    }

    fn encoded(&self) -> String {
        if self.is_address_v6() {
            return format!("[{}]", self.name);
        }
        let encode = |byte: u8| match byte {
            b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        self.name.bytes().map(encode).collect()
    }

    /// sqlx would look up an address in brackets as a name.
    fn set(&self, options: PgConnectOptions) -> PgConnectOptions {
        if self.is_address_v6() { options.host(&self.name) } else { options }
    }
}

#[derive(Debug, Default)]
struct Parameters {
    host: String,
    port: String,
    patience: Option<Duration>,
    passed_on: String,
}

impl Parameters {
    fn read(query: &str) -> Result<Self, String> {
        let mut read = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(format!("{pair:?} has no value"))?;
            match name {
                "host" | "hostaddr" => read.host = decode(value)?,
                "port" => read.port = decode(value)?,
                "connect_timeout" => read.patience = Some(patience(value)?),
                "target_session_attrs" if matches!(value, "any" | "read-write" | "primary") => {}
                "target_session_attrs" => {
                    return Err(format!("target_session_attrs={value}: Postrider must write"));
                }
                _ if PASSED_ON.contains(&name) || name.starts_with("options[") => {
                    read.passed_on.push_str(if read.passed_on.is_empty() { "" } else { "&" });
                    read.passed_on.push_str(pair);
                }
                _ => tracing::warn!(parameter = name, "the database URL's parameter is ignored"),
            }
        }
        Ok(read)
    }

    /// `host=a,b` and `port=1,2`, or one port for all.
    fn hosts(&self) -> Result<Vec<Host>, String> {
        if self.host.is_empty() {
            return Err("it names no host".to_owned());
        }
        let names: Vec<&str> = self.host.split(',').collect();
        let ports: Vec<&str> = self.port.split(',').filter(|port| !port.is_empty()).collect();
        if ports.len() > 1 && ports.len() != names.len() {
            return Err(format!("{} hosts and {} ports do not match", names.len(), ports.len()));
        }
        let port = |index: usize| ports.get(index).or(ports.first()).copied();
        names.iter().enumerate().map(|(index, name)| Host::new(name, port(index))).collect()
    }
}

/// libpq never waits less than 2 s; 0 means without end there, and a minute here.
fn patience(seconds: &str) -> Result<Duration, String> {
    let seconds: u64 =
        seconds.parse().map_err(|_| format!("connect_timeout={seconds} is no number"))?;
    let seconds = if seconds == 0 { PATIENCE_MAX_S } else { seconds.clamp(2, PATIENCE_MAX_S) };
    Ok(Duration::from_secs(seconds))
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
        let digits = digits.ok_or(format!("{text:?} has a % that begins no code"))?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?);
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Vec<(String, u16)> {
        let host = |options: &PgConnectOptions| match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let parsed = parse(url).expect(url);
        parsed.hosts.iter().map(|options| (host(options), options.get_port())).collect()
    }

    fn expect(url: &str, wanted: &[(&str, u16)]) {
        let wanted: Vec<_> = wanted.iter().map(|(host, port)| (host.to_string(), *port)).collect();
        assert_eq!(hosts(url), wanted, "{url}");
    }

    #[test]
    fn reads_hosts_in_every_form() {
        expect("postgres://u:p@h1:5433,h2/db", &[("h1", 5433), ("h2", 5432)]);
        expect("postgresql://h_1.example-a.com", &[("h_1.example-a.com", 5432)]);
        expect(
            "postgres://[::1]:5433,[fe80::2],10.0.0.1/db",
            &[("::1", 5433), ("fe80::2", 5432), ("10.0.0.1", 5432)],
        );
        expect("postgres://u@%2Frun%2Fa%20b:5433/db", &[("/run/a b", 5433)]);
        expect("postgres:///db?host=/run/pg", &[("/run/pg", 5432)]);
        expect("postgres:///db?host=a,b&port=1,2", &[("a", 1), ("b", 2)]);
        expect("postgres://u@/db?host=a,b&port=7", &[("a", 7), ("b", 7)]);
    }

    #[test]
    fn every_host_has_user_database_and_mode() {
        let parsed = parse("postgres://me:p%40ss@a,b/orders?sslmode=require").expect("valid");
        for options in &parsed.hosts {
            assert_eq!(options.get_username(), "me");
            assert_eq!(options.get_database(), Some("orders"));
            assert!(matches!(options.get_ssl_mode(), PgSslMode::Require));
        }
    }

    #[test]
    fn parameters_that_sqlx_does_not_know_are_read_or_left_out() {
        let url = "postgres://a/db?target_session_attrs=read-write&connect_timeout=5&gssencmode=x";
        assert_eq!(parse(url).expect("valid").patience, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_named_authority_is_checked() {
        let mode = |url| parse(url).expect("valid").hosts[0].get_ssl_mode();
        let url = "postgres://a/db?sslmode=require&sslrootcert=/ca.pem";
        assert!(matches!(mode(url), PgSslMode::VerifyCa));
        assert!(matches!(mode("postgres://a/db?sslmode=require"), PgSslMode::Require));
    }

    #[test]
    fn says_what_is_wrong() {
        for (url, wanted) in [
            ("mysql://a/db", "must begin with"),
            ("postgres:///db", "names no host"),
            ("postgres://a:70000/db", "\"70000\" is no port"),
            ("postgres://a:0/db", "\"0\" is no port"),
            ("postgres://a b/db", "no name of a host"),
            ("postgres://a%2/db", "begins no code"),
            ("postgres:///db?host=a,b&port=1,2,3", "2 hosts and 3 ports"),
            ("postgres://a/db?target_session_attrs=standby", "must write"),
            ("postgres://a/db?connect_timeout=soon", "is no number"),
            ("postgres://a/db?sslmode", "has no value"),
            ("postgres://a/db?sslmode=maybe", "maybe"),
        ] {
            let error = parse(url).expect_err(url);
            assert!(error.contains(wanted), "{url}: {error}");
        }
    }
}
