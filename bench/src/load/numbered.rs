//! Requests of idempotent producers: prepared but for their sequence, which is written into its
//! place when one is sent.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use rand::{SeedableRng, rngs::StdRng};
use tokio::sync::Notify;

use super::{
    client::Connection,
    generator::Worker,
    payload::{VALUE_BYTES, post, text},
};

/// Different requests of one producer.
const REQUESTS: usize = 256;
/// So many sequences from the oldest that is not acknowledged may be under way.
const WINDOW: u64 = 64;
/// Sequences begin here, so that all have as many digits.
const FIRST: u64 = 1_000_000_000;

/// Publishes of producer number `producer` to `topic`, with the first sequence in each.
pub fn publishes(address: SocketAddr, topic: &str, producer: usize) -> Vec<Vec<u8>> {
    let path = format!("/v1/topics/{topic}/messages");
    let mut random = StdRng::seed_from_u64(producer as u64);
    (0..REQUESTS)
        .map(|_| {
            let value = text(&mut random, VALUE_BYTES);
            let id = format!("{producer:08x}-0000-4000-8000-000000000000");
            let body = format!(
                "{{\"messages\":[{{\"value\":\"{value}\"}}],\
                 \"producer\":{{\"id\":\"{id}\",\"sequence\":{FIRST}}}}}"
            );
            post(address, &path, &body)
        })
        .collect()
}

/// The sequences of one producer that are under way.
#[derive(Debug, Default)]
pub struct Window {
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    under_way: BTreeSet<u64>,
}

impl Window {
    /// The next sequence, as soon as the window has room for it.
    async fn begin(&self) -> u64 {
        loop {
            let moved = self.moved.notified();
            if let Some(sequence) = self.try_begin() {
                return sequence;
            }
            moved.await;
        }
    }

    fn try_begin(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.next;
        if state.under_way.first().is_some_and(|oldest| next - oldest >= WINDOW) {
            return None;
        }
        state.under_way.insert(next);
        state.next += 1;
        Some(next)
    }

    fn end(&self, sequence: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let was_oldest = state.under_way.first() == Some(&sequence);
        state.under_way.remove(&sequence);
        drop(state);
        if was_oldest {
            self.moved.notify_waiters();
        }
    }
}

/// A connection over which a producer sends one request after the other.
pub struct Numbered {
    connection: Connection,
    requests: Arc<Vec<Vec<u8>>>,
    window: Arc<Window>,
    next: usize,
    buffer: Vec<u8>,
}

impl Numbered {
    /// Connects worker `number`.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn open(
        address: SocketAddr,
        requests: Arc<Vec<Vec<u8>>>,
        window: Arc<Window>,
        number: usize,
    ) -> Result<Self> {
        let connection = Connection::open(address).await.context("connecting")?;
        Ok(Self { connection, requests, window, next: number, buffer: Vec::new() })
    }
}

impl Worker for Numbered {
    async fn once(&mut self) -> Result<u64> {
        let sequence = self.window.begin().await;
        self.next = (self.next + 1) % self.requests.len();
        self.buffer.clone_from(&self.requests[self.next]);
        let digits = (FIRST + sequence).to_string();
        // The sequence stands before the two braces at the end.
        let end = self.buffer.len() - 2;
        self.buffer[end - digits.len()..end].copy_from_slice(digits.as_bytes());
        let answer = self.connection.exchange(&self.buffer).await.context("no answer")?;
        if !answer.is_success() {
            bail!("answered {}: {}", answer.status, String::from_utf8_lossy(answer.body));
        }
        self.window.end(sequence);
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_so_many_from_its_oldest() {
        let window = Window::default();
        let begun: Vec<_> = (0..WINDOW).map(|_| window.try_begin()).collect();
        assert_eq!(begun, (0..WINDOW).map(Some).collect::<Vec<_>>());
        assert_eq!(window.try_begin(), None);
        window.end(1);
        assert_eq!(window.try_begin(), None, "the oldest is still under way");
        window.end(0);
        assert_eq!((window.try_begin(), window.try_begin()), (Some(64), Some(65)));
        assert_eq!(window.try_begin(), None);
    }

    #[test]
    fn the_sequence_stands_before_the_end() {
        let address = "127.0.0.1:1".parse().unwrap();
        let request = &publishes(address, "t", 5)[0];
        assert!(request.ends_with(b"\"sequence\":1000000000}}"));
        assert_eq!(FIRST.to_string().len(), 10);
    }
}
