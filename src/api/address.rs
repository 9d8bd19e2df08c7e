//! Who a client is by its address, and how many sockets one address has. Behind a proxy every
//! client has the proxy's address, and what a client says of itself is worth nothing: only what
//! a trusted proxy says counts, and without one nobody is counted.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::HeaderMap;

use super::error::{ErrorCode, Problem};
use crate::model::{TrustedProxies, limits};

/// What proxies append the address of their client to.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The addresses behind the sockets of a node. Clones share the count.
#[derive(Clone, Debug)]
pub struct Addresses {
    trusted: TrustedProxies,
    max: u32,
    /// An address is there as long as it has a socket, so there are no more of them than sockets.
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// The place of one socket among those of its address, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
    owner: IpAddr,
}

impl Addresses {
    /// Addresses of clients as `trusted` proxies tell them, each with at most
    /// [`limits::SOCKETS_PER_ADDRESS_MAX`] sockets. Without a trusted proxy nobody is counted.
    pub fn new(trusted: TrustedProxies) -> Self {
        Self { trusted, max: limits::SOCKETS_PER_ADDRESS_MAX, counts: Arc::default() }
    }

    /// The client's address: that of the `peer`, or what it says where it is trusted. Read from
    /// the right, the first hop that is not trusted is the client; what stands left of it, it may
    /// have made up. Where a trusted hop says what is no address, that hop is as far as one sees.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        for hop in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            if !self.trusted.contains(client) {
                break;
            }
            let Some(told) = std::str::from_utf8(hop).ok().and_then(address) else { break };
            client = told;
        }
        client
    }

    /// A place for one socket more of the client behind `peer`; `None` where nobody is counted.
    ///
    /// # Errors
    /// `overloaded` where its address has as many as one may have.
    pub fn admit(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<Place>, Problem> {
        if self.trusted.is_empty() {
            return Ok(None);
        }
        let owner = owner(self.client(peer, headers));
        let mut counts = unlocked(&self.counts);
        let count = counts.entry(owner).or_default();
        if *count >= self.max {
            let detail = format!("this address has {} sockets, as many as one may have", self.max);
            let problem = Problem::new(ErrorCode::Overloaded, detail);
            return Err(problem.fact("sockets_per_address_max", self.max));
        }
        *count += 1;
        drop(counts);
        Ok(Some(Place { counts: Arc::clone(&self.counts), owner }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = unlocked(&self.counts);
        if let Some(count) = counts.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.owner);
            }
        }
    }
}

/// Nothing panics while it holds this lock.
fn unlocked(counts: &Mutex<HashMap<IpAddr, u32>>) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is counted as one: whoever has an address of IPv6 has 2^64 of them.
fn owner(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// The address of a hop: alone, in brackets, or with a port.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let alone = bare.parse::<IpAddr>();
    let found = alone.or_else(|_| hop.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    found.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(trusted: &[&str]) -> Addresses {
        let trusted = TrustedProxies::parse(trusted.iter().copied()).expect("networks");
        Addresses { max: 2, ..Addresses::new(trusted) }
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().expect("a header"));
        }
        headers
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_client_is_the_first_hop_from_the_right_that_is_not_trusted() {
        let addresses = addresses(&["10.0.0.0/8", "fd00::/8"]);
        for (peer, lines, client) in [
            // Nobody forwarded anything.
            ("192.0.2.1", &[] as &[&str], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // A peer that is not trusted is the client, whatever it says.
            ("192.0.2.1", &["203.0.113.9"], "192.0.2.1"),
            ("192.0.2.1", &["10.0.0.7"], "192.0.2.1"),
            // One proxy, two proxies, in one line or in several.
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9", "10.0.0.3,10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9,10.0.0.3", "10.0.0.2"], "203.0.113.9"),
            // What a client sends by itself stands to the left of what is known of it.
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.9, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            // All of them are proxies: the farthest.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // What is no address ends it at the hop that said it.
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9,"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, _hidden, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.9 10.0.0.2"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.999"], "10.0.0.1"),
            // IPv6, brackets, ports, and IPv4 inside of it.
            ("fd00::1", &["2001:db8::7"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("::1", &["203.0.113.9"], "::1"),
        ] {
            let found = addresses.client(ip(peer), &headers(lines));
            assert_eq!(found, ip(client), "{peer} {lines:?}");
        }
        let mut odd = headers(&[]);
        let bytes = axum::http::HeaderValue::from_bytes(b"\xff, 203.0.113.9");
        odd.append(X_FORWARDED_FOR, bytes.expect("a header"));
        assert_eq!(addresses.client(ip("10.0.0.1"), &odd), ip("203.0.113.9"));
    }

    #[test]
    fn an_address_has_its_places_and_no_more() {
        let addresses = addresses(&["10.0.0.1"]);
        let admit = |client: &str| addresses.admit(ip("10.0.0.1"), &headers(&[client]));
        let places = [admit("203.0.113.9"), admit("203.0.113.9")];
        let places = places.map(|place| place.expect("room").expect("counted"));
        let refused = admit("203.0.113.9").expect_err("full");
        assert_eq!(refused.code, ErrorCode::Overloaded);
        assert!(refused.code.retry_after_s().is_some());
        // What the client adds by itself gives it no other place.
        assert!(admit("198.51.100.1, 203.0.113.9").is_err());
        let other = admit("203.0.113.10").expect("room of its own");
        // The proxy itself is an address like others.
        let own = addresses.admit(ip("10.0.0.1"), &headers(&[])).expect("room");
        let [first, second] = places;
        drop(first);
        let again = admit("203.0.113.9").expect("room again");
        assert!(admit("203.0.113.9").is_err());
        drop((second, other, own, again));
        assert!(unlocked(&addresses.counts).is_empty(), "an address without sockets is forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one() {
        let addresses = addresses(&["10.0.0.1"]);
        let admit = |client: &str| addresses.admit(ip("10.0.0.1"), &headers(&[client]));
        let _places = [admit("2001:db8:0:1::1"), admit("2001:db8:0:1:ffff::2")];
        assert!(admit("2001:db8:0:1:0:1::3").is_err());
        assert!(admit("2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn without_a_trusted_proxy_nobody_is_counted() {
        let addresses = addresses(&[]);
        for _ in 0..9 {
            let place = addresses.admit(ip("192.0.2.1"), &headers(&["203.0.113.9"]));
            assert!(place.expect("never full").is_none());
        }
    }
}
