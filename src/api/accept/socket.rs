//! A connection's socket as hyper sees it: notes progress, and gives hyper's own refusals, which
//! come without a body, the form that every error has.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::progress::{Phase, Watched};
use crate::api::{
    error::{ErrorCode, PROBLEM_JSON, Problem},
    layers::Shell,
};

/// How hyper begins an answer to a head that it does not understand.
const REFUSAL: &[u8] = b"HTTP/1.1 4";

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

pub(super) struct Socket {
    stream: TokioIo<TcpStream>,
    watched: Watched,
    /// The first bytes, which told the protocol and which hyper has not been given yet.
    first: [u8; PREFACE.len()],
    first_len: u8,
    protocol: Option<Protocol>,
    shell: Arc<Shell>,
    /// Part of an answer is written and its rest is not.
    is_mid_write: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, watched: Watched, shell: Arc<Shell>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            watched,
            first: [0; PREFACE.len()],
            first_len: 0,
            protocol: None,
            shell,
            is_mid_write: false,
        }
    }

    /// The bare stream, and the connection's place among the node's.
    pub(super) fn into_parts(self) -> (TcpStream, Watched) {
        (self.stream.into_inner(), self.watched)
    }

    /// What the client speaks, once its first bytes have come.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// Reads until the first bytes differ from the preface or are all of it. An end or an error
    /// here is for hyper to find again.
    fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Protocol>> {
        loop {
            let have = usize::from(self.first_len);
            if have > 0 && self.first[..have] != PREFACE[..have] {
                return Poll::Ready(Ok(Protocol::Http1));
            }
            if have == PREFACE.len() {
                return Poll::Ready(Ok(Protocol::Http2));
            }
            let mut more = [0; PREFACE.len()];
            let mut buf = ReadBuf::new(&mut more[have..]);
            ready!(self.poll_stream(cx, buf.unfilled()))?;
            let taken = buf.filled().len();
            if taken == 0 {
                return Poll::Ready(Ok(Protocol::Http1));
            }
            self.first[have..have + taken].copy_from_slice(&more[have..have + taken]);
            self.first_len += taken as u8;
        }
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.watched.progress.phase(), Phase::HeadLate | Phase::Dead) {
            return Poll::Ready(Err(self.late()));
        }
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if self.watched.progress.received() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Ready(Err(self.late()))
        }
    }

    fn say(&mut self, problem: &Problem) {
        let answer = raw_answer(problem, self.shell.make_id().as_str());
        // The socket's buffer is empty here, so that an answer of this size goes at once; a
        // client that is gone is not told.
        let _ = self.stream.inner().try_write(&answer);
        self.watched.progress.linger();
    }

    /// Whether hyper is about to answer by itself: no handler is at work and no answer is
    /// half written, so the bytes can be nothing else.
    fn is_refusal(&self, written: &[u8]) -> bool {
        written.starts_with(REFUSAL)
            && !self.is_mid_write
            && self.watched.progress.phase() == Phase::Head
    }

    fn refuse(&mut self, written: &[u8]) {
        let problem = match written.get(9..12) {
            Some(b"431") => Problem::new(
                ErrorCode::HeadTooLarge,
                "the head of the request has too many bytes or fields",
            ),
            Some(b"414") => Problem::new(ErrorCode::UriTooLong, "the request target is too long"),
            _ => Problem::new(ErrorCode::Malformed, "the request is not valid HTTP"),
        };
        self.say(&problem);
    }

    fn late(&mut self) -> io::Error {
        if self.watched.progress.phase() == Phase::HeadLate && !self.is_mid_write {
            let detail = "the head of the request did not arrive in time";
            self.say(&Problem::new(ErrorCode::HeadTimeout, detail));
        }
        io::ErrorKind::TimedOut.into()
    }

    /// Whether the client has closed its side while a handler is at work. hyper would find out by
    /// reading, for which it takes a second buffer of 16 KiB per connection that waits; one byte
    /// on the stack tells as much. hyper flushes each time the connection's task is woken.
    fn is_gone(&self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        let peeked = self.stream.inner().poll_peek(cx, &mut tokio::io::ReadBuf::new(&mut byte));
        matches!(peeked, Poll::Ready(Ok(0) | Err(_)))
    }

    fn wrote(&mut self, polled: &Poll<io::Result<usize>>, offered: usize) {
        self.watched.progress.wrote(polled.is_pending());
        if let Poll::Ready(Ok(taken)) = polled {
            self.is_mid_write = *taken < offered;
        }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.protocol.is_none() {
            let protocol = ready!(self.poll_protocol(cx))?;
            self.protocol = Some(protocol);
            if protocol == Protocol::Http2 {
                // Ends what would have served HTTP/1; the socket goes on.
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        let first = usize::from(self.first_len);
        if first == 0 {
            return self.poll_stream(cx, buf);
        }
        // hyper offers 8 KiB to begin with. What follows the first bytes comes along, else hyper
        // would make its buffer larger for it.
        buf.put_slice(&self.first[..first]);
        self.first_len = 0;
        match self.poll_stream(cx, buf) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_refusal(buf) {
            self.refuse(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&polled, buf.len());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = bufs.iter().map(|buf| buf.len()).sum();
        if let Some(first) = bufs.first()
            && self.is_refusal(first)
        {
            self.refuse(first);
            return Poll::Ready(Ok(offered));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&polled, offered);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watched.progress.phase() == Phase::ServingLong && self.is_gone(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.protocol == Some(Protocol::Http2) && self.first_len > 0 {
            // What would have served HTTP/1 ends, not the socket.
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if !self.watched.progress.is_lingering() {
            return Poll::Ready(Ok(()));
        }
        let mut thrown_away = [0; 8 * 1024];
        loop {
            let mut buf = ReadBuf::new(&mut thrown_away);
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf.unfilled()))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// `problem` as the bytes of a whole HTTP/1.1 answer, after which the connection closes.
pub(super) fn raw_answer(problem: &Problem, request_id: &str) -> Vec<u8> {
    let body = problem.json(request_id);
    let status = problem.code.status();
    let retry = problem.code.retry_after_s().map(|s| format!("retry-after: {s}\r\n"));
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\n\
         connection: close\r\n{}x-request-id: {request_id}\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
        retry.unwrap_or_default(),
    );
    let mut answer = head.into_bytes();
    answer.extend_from_slice(&body);
    answer
}
