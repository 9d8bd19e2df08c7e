//! What waits to be written to a socket, in order. Answers are bounded by what is read; messages
//! are put here only while little waits.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Sink;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::model::limits;

/// Frames on their way out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Message>,
    bytes: usize,
    is_written: bool,
    /// Since when the client has taken nothing.
    stalled: Option<Instant>,
    /// It took something again after that.
    is_taking: bool,
}

impl Outbox {
    /// Puts a frame behind all others.
    pub(super) fn push(&mut self, frame: impl Into<Message>) {
        let frame = frame.into();
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Puts a frame of text, which `json` is, behind all others.
    pub(super) fn push_json(&mut self, json: Vec<u8>) {
        let text = String::from_utf8(json).expect("JSON is written as UTF-8");
        self.push(Message::text(text));
    }

    /// Something waits in the socket itself: the answer to a ping.
    pub(super) fn needs_flush(&mut self) {
        self.is_written = true;
    }

    /// Whether messages may be put here: nothing waits for the client.
    pub(super) fn has_room(&self) -> bool {
        self.stalled.is_none() && self.bytes < limits::FRAME_ITEMS_BYTES
    }

    /// Whether so much waits that nothing more is read from the client.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= limits::SOCKET_OUT_BYTES_MAX
    }

    /// Since when the client has taken nothing of what waits for it.
    pub(super) fn stalled(&self) -> Option<Instant> {
        self.stalled
    }

    /// Whether the client has taken something since the last call after it was full:
    /// only one that reads makes room in a connection that was full.
    pub(super) fn is_taking(&mut self) -> bool {
        std::mem::take(&mut self.is_taking)
    }

    /// Writes what waits. Pending: some of it still does.
    pub(super) fn poll_send<S: Sink<Message> + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), S::Error>> {
        let (was_stalled, before) = (self.stalled.is_some(), self.frames.len());
        let polled = self.poll_all(socket, cx);
        self.is_taking |= was_stalled && (polled.is_ready() || self.frames.len() < before);
        self.stalled = match &polled {
            Poll::Pending => self.stalled.or_else(|| Some(Instant::now())),
            Poll::Ready(_) => None,
        };
        polled
    }

    fn poll_all<S: Sink<Message> + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), S::Error>> {
        let mut socket = Pin::new(socket);
        while !self.frames.is_empty() {
            ready!(socket.as_mut().poll_ready(cx))?;
            // Whoever takes a frame has made progress.
            self.stalled = None;
            let Some(frame) = self.frames.pop_front() else { break };
            self.bytes -= frame.len();
            self.is_written = true;
            socket.as_mut().start_send(frame)?;
        }
        if self.is_written {
            ready!(socket.poll_flush(cx))?;
            self.is_written = false;
        }
        Poll::Ready(Ok(()))
    }
}
