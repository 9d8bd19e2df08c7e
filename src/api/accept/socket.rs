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

pub(super) struct Socket {
    stream: TokioIo<TcpStream>,
    watched: Watched,
    shell: Arc<Shell>,
    /// Part of an answer is written and its rest is not.
    is_mid_write: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, watched: Watched, shell: Arc<Shell>) -> Self {
        Self { stream: TokioIo::new(stream), watched, shell, is_mid_write: false }
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
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
