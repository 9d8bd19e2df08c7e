//! How far publishing is, for who waits at the terminal, and what came of it.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::output::{bytes, grouped};

const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// What has been published so far.
#[derive(Debug)]
pub struct Progress {
    messages: u64,
    bytes: u64,
    batches: u64,
    last_line: u64,
    began: Instant,
    shown: Option<Instant>,
    total_bytes: Option<u64>,
    is_watched: bool,
}

impl Progress {
    /// Begins now. `total_bytes` is the size of the file, where there is one.
    pub fn begin(total_bytes: Option<u64>) -> Self {
        Self {
            messages: 0,
            bytes: 0,
            batches: 0,
            last_line: 0,
            began: Instant::now(),
            shown: None,
            total_bytes: total_bytes.filter(|total| *total > 0),
            is_watched: io::stderr().is_terminal(),
        }
    }

    /// Counts a batch that the server has confirmed.
    pub fn add(&mut self, messages: usize, bytes: u64, last_line: u64) {
        self.messages += messages as u64;
        self.bytes += bytes;
        self.batches += 1;
        self.last_line = last_line;
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= SHOWN_EVERY);
        if self.is_watched && due {
            self.shown = Some(Instant::now());
            // What is on the terminal is not worth an error.
            let _ = write!(io::stderr(), "\r\x1b[K{}", self.line());
        }
    }

    /// Takes the line of progress off the terminal.
    pub fn clear(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    /// The number of the last line that the server has confirmed; 0: none.
    pub fn last_line(&self) -> u64 {
        self.last_line
    }

    /// What came of it, for people.
    pub fn summary(&self, topic: &str) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        format!(
            "published {} {} ({}) to {topic} in {seconds:.1} s ({}/s)",
            grouped(self.messages),
            if self.messages == 1 { "message" } else { "messages" },
            bytes(self.bytes),
            grouped(self.rate()),
        )
    }

    /// What came of it, for programs.
    pub fn summary_json(&self, topic: &str, durability: Option<&str>) -> Value {
        json!({
            "topic": topic,
            "messages": self.messages,
            "bytes": self.bytes,
            "batches": self.batches,
            "seconds": self.began.elapsed().as_secs_f64(),
            "messages_per_second": self.rate(),
            "durability": durability,
        })
    }

    fn rate(&self) -> u64 {
        (self.messages as f64 / self.began.elapsed().as_secs_f64().max(0.001)) as u64
    }

    fn line(&self) -> String {
        let done = format!(
            "{} lines, {}, {}/s",
            grouped(self.messages),
            bytes(self.bytes),
            grouped(self.rate())
        );
        match self.total_bytes {
            Some(total) => {
                // Newlines are part of the file and of no message.
                let percent = (self.bytes + self.messages) * 100 / total;
                format!("{:>3} %  {done}", percent.min(100))
            }
            None => done,
        }
    }
}
