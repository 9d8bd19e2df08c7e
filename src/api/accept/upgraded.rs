//! A connection that has become a WebSocket: the bare socket, without what hyper had around it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

use super::{progress::Watched, socket::Socket};
use crate::model::limits;

/// Bytes of unfinished messages that a socket may have beside the node's allowance.
const UNFINISHED_FREE: usize = 64 * 1024;
/// Bytes of one unfinished message, the heads of its fragments included: without this, fragments
/// of nothing would never be too many.
const UNFINISHED_MAX: usize = limits::BODY_BYTES_MAX + 1024 * 1024;
/// Bytes of a control frame beside its payload: its head and its mask.
const CONTROL_HEAD: usize = 6;

/// Bytes that are read at once of a client that sends much.
const AHEAD_BYTES: usize = 32 * 1024;

/// The bytes of unfinished messages on all sockets, beyond what each may have.
#[derive(Clone, Debug, Default)]
pub struct UnfinishedBytes(Arc<AtomicUsize>);

/// What one socket has received of a message that is not whole yet.
#[derive(Debug, Default)]
pub struct Unfinished {
    bytes: AtomicUsize,
    node: UnfinishedBytes,
}

impl Unfinished {
    fn of(node: &UnfinishedBytes) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), node: node.clone() })
    }

    /// A whole message came: what is left counts as nothing.
    pub fn finish(&self) {
        self.take(usize::MAX);
    }

    /// A control frame with so long a payload came, maybe between the fragments of a message:
    /// these are still held.
    pub fn pass(&self, payload: usize) {
        self.take(CONTROL_HEAD + payload);
    }

    fn take(&self, less: usize) {
        // Only the socket's own task adds and takes away.
        let before = self.bytes.load(Ordering::Relaxed);
        let bytes = before.saturating_sub(less);
        self.bytes.store(bytes, Ordering::Relaxed);
        let counted =
            before.saturating_sub(UNFINISHED_FREE) - bytes.saturating_sub(UNFINISHED_FREE);
        if counted > 0 {
            self.node.0.fetch_sub(counted, Ordering::Relaxed);
        }
    }

    /// Counts bytes that came.
    fn add(&self, more: usize) -> io::Result<()> {
        let before = self.bytes.load(Ordering::Relaxed);
        let bytes = before + more;
        self.bytes.store(bytes, Ordering::Relaxed);
        let counted =
            bytes.saturating_sub(UNFINISHED_FREE) - before.saturating_sub(UNFINISHED_FREE);
        if counted == 0 {
            return Ok(());
        }
        let all = self.node.0.fetch_add(counted, Ordering::Relaxed) + counted;
        if bytes > UNFINISHED_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if all > limits::SOCKETS_UNFINISHED_BYTES_MAX {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The socket of an upgraded connection, which keeps its place among the node's connections.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    /// What came at once beyond a small buffer: a frame of 16 KiB would else be read in pieces.
    ahead: BytesMut,
    unfinished: Arc<Unfinished>,
    _watched: Watched,
}

impl Raw {
    /// Takes the socket out of an upgraded connection, and what was read from it too early.
    /// `None`: the connection was not made by this accept loop.
    pub fn take(upgraded: Upgraded, node: &UnfinishedBytes) -> Option<(Self, Bytes)> {
        let parts = upgraded.downcast::<Socket>().ok()?;
        let (stream, watched) = parts.io.into_parts();
        let ahead = BytesMut::new();
        let raw = Self { stream, ahead, unfinished: Unfinished::of(node), _watched: watched };
        Some((raw, parts.read_buf))
    }

    /// What it has received of a message that is not whole yet.
    pub fn unfinished(&self) -> &Arc<Unfinished> {
        &self.unfinished
    }
}

impl AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ahead.is_empty() {
            let (before, room) = (buf.filled().len(), buf.remaining());
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let taken = buf.filled().len() - before;
            if taken == room {
                this.read_ahead(cx);
            }
            return Poll::Ready(this.unfinished.add(taken));
        }
        let taken = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..taken]);
        this.ahead.advance(taken);
        if this.ahead.is_empty() {
            this.ahead = BytesMut::new();
        }
        Poll::Ready(this.unfinished.add(taken))
    }
}

impl Raw {
    /// Takes what waits behind a buffer that was filled. An end or an error is found again.
    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.ahead.reserve(AHEAD_BYTES);
        let read = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.ahead);
        if !matches!(read, Poll::Ready(Ok(1..))) {
            self.ahead = BytesMut::new();
        }
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unfinished_counts_until_its_message_is_whole() {
        let node = UnfinishedBytes::default();
        let all = |node: &UnfinishedBytes| node.0.load(Ordering::Relaxed);
        let (one, other) = (Unfinished::of(&node), Unfinished::of(&node));
        one.add(UNFINISHED_FREE).expect("free");
        assert_eq!(all(&node), 0);
        one.add(1_000).expect("within");
        other.add(UNFINISHED_FREE + 500).expect("within");
        assert_eq!(all(&node), 1_500);
        // A ping in between ends nothing: only its own bytes are gone.
        one.pass(100);
        assert_eq!(all(&node), 1_500 - 106);
        one.finish();
        one.pass(100);
        assert_eq!(all(&node), 500);
        drop(other);
        assert_eq!(all(&node), 0);
        let kind = |added: io::Result<()>| added.expect_err("too much").kind();
        assert_eq!(kind(one.add(UNFINISHED_MAX + 1)), io::ErrorKind::FileTooLarge);
        let more: Vec<_> = (0..6).map(|_| Unfinished::of(&node)).collect();
        let added: Vec<_> = more.iter().map(|one| one.add(limits::BODY_BYTES_MAX)).collect();
        assert_eq!(
            added.into_iter().find_map(Result::err).map(|why| why.kind()),
            Some(io::ErrorKind::OutOfMemory)
        );
        drop((one, more));
        assert_eq!(all(&node), 0);
    }
}
