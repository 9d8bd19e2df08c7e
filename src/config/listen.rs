//! Where to listen, and whether that can be reached from elsewhere.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
};

/// Where the service listens. The name is looked up once: what was judged is what gets bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// As it was given: `localhost:8080`.
    pub text: String,
    /// What it stands for, never empty; the first that can be bound is taken.
    pub addresses: Vec<SocketAddr>,
}

/// Why a text is no place to listen.
#[derive(Debug, thiserror::Error)]
pub enum InvalidListen {
    /// It lacks a host or a port.
    #[error("'{0}' is not HOST:PORT, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080")]
    Form(String),
    /// The host's name stands for no address.
    #[error("the host of '{text}' was not found: {source}")]
    Lookup {
        /// As it was given.
        text: String,
        /// What the resolver said.
        source: io::Error,
    },
}

/// Looks a `host:port` up.
pub type Resolver = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// The system's resolver; it may block for as long as the system is set up to wait.
pub fn system_resolver(text: &str) -> io::Result<Vec<SocketAddr>> {
    text.to_socket_addrs().map(Iterator::collect)
}

impl Listen {
    /// Reads `host:port` and looks the host up.
    pub fn parse(text: &str, resolve: Resolver) -> Result<Self, InvalidListen> {
        let form = || InvalidListen::Form(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || bare_v6 || port.parse::<u16>().is_err() {
            return Err(form());
        }
        let lookup = |source| InvalidListen::Lookup { text: text.to_owned(), source };
        let addresses = resolve(text).map_err(lookup)?;
        if addresses.is_empty() {
            return Err(lookup(io::Error::other("it has no address")));
        }
        Ok(Self { text: text.to_owned(), addresses })
    }

    /// Whether only this machine can reach every address of it.
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().to_canonical().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_counts_as_loopback() {
        for (text, loopback) in [
            ("127.0.0.1:8080", true),
            ("127.255.3.4:0", true),
            ("[::1]:8080", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("0.0.0.0:8080", false),
            ("[::]:8080", false),
            ("[::ffff:10.0.0.1]:80", false),
            ("192.168.1.7:8080", false),
            ("128.0.0.1:8080", false),
        ] {
            let listen = Listen::parse(text, system_resolver).expect(text);
            assert_eq!(listen.is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn a_name_is_loopback_when_all_its_addresses_are() {
        let inside: Resolver =
            |_| Ok(vec![([127, 0, 0, 1], 80).into(), (std::net::Ipv6Addr::LOCALHOST, 80).into()]);
        let mixed: Resolver = |_| Ok(vec![([127, 0, 0, 1], 80).into(), ([10, 0, 0, 1], 80).into()]);
        assert!(Listen::parse("localhost:80", inside).expect("found").is_loopback());
        assert!(!Listen::parse("myhost:80", mixed).expect("found").is_loopback());
        let none: Resolver = |_| Ok(vec![]);
        assert!(matches!(Listen::parse("nowhere:80", none), Err(InvalidListen::Lookup { .. })));
        let fails: Resolver = |_| Err(io::Error::other("no such host"));
        assert!(matches!(Listen::parse("nowhere:80", fails), Err(InvalidListen::Lookup { .. })));
    }

    #[test]
    fn a_place_has_host_and_port() {
        for bad in ["", "8080", ":8080", "127.0.0.1", "::1", "::1:8080", "a:b", "h:65536", "[::1]"]
        {
            let read = Listen::parse(bad, |_| Ok(vec![([127, 0, 0, 1], 80).into()]));
            assert!(matches!(read, Err(InvalidListen::Form(_))), "{bad}");
        }
    }
}
