//! Prepared requests. Every pool holds many different bodies of random text, so that neither a
//! flush of ours nor a table of PostgreSQL's can win by compressing one body repeated.

use std::{fmt::Write as _, net::SocketAddr};

use super::frames;
use rand::{Rng, SeedableRng, distr::Alphanumeric, rngs::StdRng};

/// Bytes of a message's value.
pub const VALUE_BYTES: usize = 100;
/// Single requests in a pool: more than one flush of 1,024 connections holds.
const SINGLES: usize = 4_096;
/// Batch requests in a pool.
const BATCHES: usize = 256;
/// Different keys in a keyed pool.
const KEYS: usize = 4_096;

/// What the messages of a pool carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One keyless message a request.
    Single,
    /// One message with a key a request.
    Keyed,
    /// So many keyless messages a request.
    Batch(usize),
}

impl Shape {
    /// Messages in one request.
    pub fn messages(self) -> u64 {
        match self {
            Self::Single | Self::Keyed => 1,
            Self::Batch(count) => count as u64,
        }
    }

    /// Partitions (or streams) that the bench spreads it over.
    pub fn partitions(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Keyed | Self::Batch(_) => 16,
        }
    }

    fn pool(self) -> usize {
        match self {
            Self::Single | Self::Keyed => SINGLES,
            Self::Batch(_) => BATCHES,
        }
    }
}

/// Publishes to `topic` of a Postrider at `address` (an echo takes the same).
pub fn publishes(address: SocketAddr, topic: &str, shape: Shape) -> Vec<Vec<u8>> {
    let path = format!("/v1/topics/{topic}/messages");
    let mut random = StdRng::seed_from_u64(1);
    (0..shape.pool())
        .map(|index| {
            let mut body = String::from("{\"messages\":[");
            for at in 0..shape.messages() {
                let comma = if at == 0 { "" } else { "," };
                let _ = write!(body, "{comma}{}", message(&mut random, shape, index));
            }
            body.push_str("]}");
            post(address, &path, &body)
        })
        .collect()
}

/// The same as frames of a socket.
pub fn publish_frames(topic: &str, shape: Shape) -> Vec<Vec<u8>> {
    let mut random = StdRng::seed_from_u64(1);
    (0..shape.pool())
        .map(|index| {
            let items: Vec<_> =
                (0..shape.messages()).map(|_| message(&mut random, shape, index)).collect();
            frames::text(&format!(
                "{{\"op\":\"publish\",\"id\":{index},\"topic\":\"{topic}\",\"messages\":[{}]}}",
                items.join(",")
            ))
        })
        .collect()
}

/// Appends of the same messages to streams of a durable-streams server: a stream of JSON takes
/// one message as a document and several as an array. With keys the requests go over `streams`
/// streams in turn, as no server chooses a partition there.
pub fn stream_appends(
    address: SocketAddr,
    prefix: &str,
    streams: usize,
    shape: Shape,
) -> Vec<Vec<u8>> {
    let mut random = StdRng::seed_from_u64(1);
    (0..shape.pool())
        .map(|index| {
            let path = format!("/{prefix}-{}", index % streams);
            let items: Vec<_> =
                (0..shape.messages()).map(|_| message(&mut random, shape, index)).collect();
            let body = match shape {
                Shape::Single | Shape::Keyed => items.concat(),
                Shape::Batch(_) => format!("[{}]", items.join(",")),
            };
            post(address, &path, &body)
        })
        .collect()
}

/// A publish of one small message.
pub fn publish_one(address: SocketAddr, topic: &str) -> Vec<u8> {
    post(address, &format!("/v1/topics/{topic}/messages"), "{\"messages\":[{\"value\":1}]}")
}

/// A whole request with a JSON body.
pub fn post(address: SocketAddr, path: &str, body: &str) -> Vec<u8> {
    request(address, "POST", path, body)
}

/// A whole request with any method; an empty body carries no content type.
pub fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> Vec<u8> {
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{kind}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Random letters and digits: `count` of them.
pub fn text(random: &mut StdRng, count: usize) -> String {
    random.sample_iter(Alphanumeric).take(count).map(char::from).collect()
}

fn message(random: &mut StdRng, shape: Shape, index: usize) -> String {
    let value = text(random, VALUE_BYTES);
    match shape {
        Shape::Keyed => format!("{{\"key\":\"user-{}\",\"value\":\"{value}\"}}", index % KEYS),
        Shape::Single | Shape::Batch(_) => format!("{{\"value\":\"{value}\"}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_holds_different_requests_of_the_promised_shape() {
        let address = "127.0.0.1:1".parse().unwrap();
        let pool = publishes(address, "t", Shape::Batch(100));
        assert_ne!(pool[0], pool[1]);
        let request = String::from_utf8(pool[0].clone()).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /v1/topics/t/messages HTTP/1.1\r\n"), "{head}");
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let messages = body["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 100);
        assert_eq!(messages[99]["value"].as_str().unwrap().len(), VALUE_BYTES);
    }
}
