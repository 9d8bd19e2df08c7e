//! Networks of addresses, as an operator names them.

use std::net::IpAddr;

use ipnet::IpNet;

/// The proxies whose word counts for who a client is: networks of addresses, possibly none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// Why a text names no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// Neither an address nor one with a prefix.
    #[error("'{0}' is no network such as 10.0.0.0/8, 192.0.2.7 or fd00::/8")]
    Form(String),
    /// An address inside of a network, where the network itself is meant or one address.
    #[error("'{text}' has bits behind its prefix: is {network} meant, or {address}?")]
    HostBits {
        /// As it was given.
        text: String,
        /// The network around it.
        network: IpNet,
        /// The one address.
        address: IpAddr,
    },
}

impl TrustedProxies {
    /// Reads networks: an address stands for itself alone.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidNetwork> {
        texts.into_iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address belongs to one of them; an IPv4 address counts as such however it is
    /// written.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// IPv4 in the notation of IPv6 becomes IPv4, as addresses do before they are looked up.
const MAPPED_PREFIX: u8 = 96;

fn network(text: &str) -> Result<IpNet, InvalidNetwork> {
    let form = || InvalidNetwork::Form(text.to_owned());
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| form())?;
    if network.trunc() != network {
        let (address, network) = (network.addr(), network.trunc());
        return Err(InvalidNetwork::HostBits { text: text.to_owned(), network, address });
    }
    match network.addr().to_canonical() {
        mapped @ IpAddr::V4(_) if network.prefix_len() >= MAPPED_PREFIX => {
            IpNet::new(mapped, network.prefix_len() - MAPPED_PREFIX).map_err(|_| form())
        }
        _ => Ok(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(texts: &[&str]) -> TrustedProxies {
        TrustedProxies::parse(texts.iter().copied()).expect("networks")
    }

    #[test]
    fn an_address_is_inside_or_outside() {
        let networks = ["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1", "::ffff:172.16.0.0/108"];
        let networks = trusted(&networks);
        for (address, inside) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("::ffff:10.1.2.3", true),
            ("::10.1.2.3", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12:3456::1", true),
            ("fe00::1", false),
            ("::1", true),
            ("::2", false),
            ("127.0.0.1", false),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
        ] {
            let parsed = address.parse().expect("an address");
            assert_eq!(networks.contains(parsed), inside, "{address}");
        }
        assert!(!trusted(&[]).contains([127, 0, 0, 1].into()));
        assert!(trusted(&[]).is_empty() && !networks.is_empty());
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10", "10.0.0.0/", "10.0.0.0/33", "::/129", "host", "10.0.0.0/-1", "*"] {
            let read = TrustedProxies::parse(["10.0.0.0/8", text]);
            assert_eq!(read, Err(InvalidNetwork::Form(text.to_owned())));
        }
        for text in ["10.0.0.1/8", "fd00::1/8"] {
            let read = TrustedProxies::parse([text]);
            assert!(matches!(read, Err(InvalidNetwork::HostBits { .. })), "{read:?}");
        }
    }
}
