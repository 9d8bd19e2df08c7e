//! Whether the page behind a request may use a socket. Browsers let every page open sockets to
//! everywhere and say where the page came from: what they say is compared exactly, and nothing
//! that is not an origin passes. Programs send no `Origin`.

use axum::http::{HeaderMap, HeaderName, header};

use super::error::{ErrorCode, Problem};
use crate::model::{AllowedOrigins, origin::Origin};

/// Lets pages of this host pass, those of an allowed origin, and whatever is no page.
///
/// # Errors
/// `forbidden_origin`.
pub fn check(headers: &HeaderMap, allowed: &AllowedOrigins) -> Result<(), Problem> {
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let origin = only(headers, header::ORIGIN).and_then(|text| Origin::parse(text).ok());
    let passes = origin.is_some_and(|origin| {
        allowed.contains(&origin)
            || only(headers, header::HOST).is_some_and(|host| origin.is_at(host))
    });
    if passes {
        return Ok(());
    }
    let detail = "pages of this origin may not open a socket: --allow-origin lets one";
    Err(Problem::new(ErrorCode::ForbiddenOrigin, detail))
}

/// The text of a header that is there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(host: &str, origins: &[&[u8]]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        for origin in origins {
            let origin = header::HeaderValue::from_bytes(origin).expect("a header");
            headers.append(header::ORIGIN, origin);
        }
        let listed = ["https://app.example.com", "http://localhost:3000", "capacitor://localhost"];
        let allowed = AllowedOrigins::parse(listed).expect("origins");
        match check(&headers, &allowed) {
            Ok(()) => true,
            Err(problem) => {
                assert_eq!(problem.code, ErrorCode::ForbiddenOrigin);
                false
            }
        }
    }

    #[test]
    fn programs_and_own_and_listed_pages_pass() {
        assert!(passes("queue.example.com", &[]));
        for (host, origin) in [
            ("queue.example.com", "https://queue.example.com"),
            ("queue.example.com", "http://queue.example.com"),
            ("queue.example.com:443", "https://queue.example.com"),
            ("queue.example.com:80", "http://queue.example.com"),
            ("Queue.Example.com", "https://queue.example.com"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("queue.example.com", "https://app.example.com"),
            ("queue.example.com", "https://app.example.com:443"),
            ("queue.example.com", "http://localhost:3000"),
            ("queue.example.com", "capacitor://localhost"),
        ] {
            assert!(passes(host, &[origin.as_bytes()]), "{origin} at {host}");
        }
    }

    #[test]
    fn hostile_origins_are_refused() {
        let host = "queue.example.com:8080";
        let own = "http://queue.example.com:8080";
        assert!(passes(host, &[own.as_bytes()]));
        let hostile = [
            "",
            " ",
            "null",
            "*",
            "file://",
            "queue.example.com:8080",
            "//queue.example.com:8080",
            "http://queue.example.com",
            "https://queue.example.com:443",
            "http://queue.example.com:8081",
            "http://queue.example.com:08080",
            "http://queue.example.com:8080/",
            "http://queue.example.com:8080/path",
            "http://queue.example.com:8080?x",
            "http://queue.example.com:8080#x",
            "http://queue.example.com.:8080",
            "http://queue.example.com.evil.example:8080",
            "http://evilqueue.example.com:8080",
            "http://evil.queue.example.com:8080",
            "http://example.com:8080",
            "http://queue-example.com:8080",
            "http://queue.example.com:8080.evil.example",
            "http://queue.example.com:8080@evil.example",
            "http://user@queue.example.com:8080",
            "http://user:pass@queue.example.com:8080",
            "http://evil.example\\@queue.example.com:8080",
            "http://queue.example.com%2e:8080",
            "http://queue.example.com%00.evil.example:8080",
            "http://xn--queue-example-com.evil.example:8080",
            "http://xn--qeue-example-1pe.com:8080",
            "http://queue.example.com:8080, http://evil.example",
            "http://evil.example http://queue.example.com:8080",
            "ftp://queue.example.com:8080",
            "capacitor://queue.example.com:8080",
            "javascript://queue.example.com:8080",
            "https://app.example.com.evil.example",
            "https://evil-app.example.com",
            "https://app.example.com:8443",
            "http://app.example.com",
            "http://localhost",
            "http://localhost:3001",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "capacitor://localhost:80",
        ];
        for origin in hostile {
            assert!(!passes(host, &[origin.as_bytes()]), "{origin}");
        }
        // Letters that look like ours, and bytes that are no text.
        assert!(!passes(host, &["http://queue.ex\u{430}mple.com:8080".as_bytes()]));
        assert!(!passes(host, &[b"http://queue.example.com:8080\xff"]));
        // Two headers: whoever reads the other one decides otherwise.
        assert!(!passes(host, &[own.as_bytes(), b"http://evil.example"]));
        assert!(!passes(host, &[own.as_bytes(), own.as_bytes()]));
    }

    #[test]
    fn a_host_that_is_none_or_many_is_nobodys() {
        let allowed = AllowedOrigins::default();
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, "http://a.example".parse().expect("a header"));
        assert!(check(&headers, &allowed).is_err());
        for host in ["", "a.example:", "x@a.example", "a.example/", "a.example,b"] {
            headers.insert(header::HOST, host.parse().expect("a header"));
            assert!(check(&headers, &allowed).is_err(), "{host}");
        }
        headers.insert(header::HOST, "a.example".parse().expect("a header"));
        assert!(check(&headers, &allowed).is_ok());
        headers.append(header::HOST, "a.example".parse().expect("a header"));
        assert!(check(&headers, &allowed).is_err());
    }
}
