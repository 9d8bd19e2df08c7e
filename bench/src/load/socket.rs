//! A socket of the load generator, and one whose reads and writes block, for threads that must be
//! on time.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::frames::{self, CLOSE, Inbox, PING, PONG, TEXT};

/// The path of the socket.
pub const PATH: &str = "/v1/ws";
/// How long an upgrade may take, and a frame until it is written.
const UPGRADE: Duration = Duration::from_secs(30);

/// A socket on a runtime.
pub struct Socket {
    stream: TcpStream,
    inbox: Inbox,
}

impl Socket {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// When either is refused.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let opened = async {
            let mut stream = TcpStream::connect(address).await.context("connecting")?;
            stream.set_nodelay(true)?;
            stream.write_all(&frames::upgrade(&address.to_string(), PATH)).await?;
            let mut socket = Self { stream, inbox: Inbox::default() };
            while !socket.inbox.take_upgrade()? {
                socket.fill().await?;
            }
            Ok(socket)
        };
        tokio::time::timeout(UPGRADE, opened).await.context("no upgrade in time")?
    }

    /// Writes a frame that [`frames::text`] made.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.stream.write_all(frame).await.context("writing to a socket")
    }

    /// The next text frame's payload. Pings are answered. Nothing is lost when this is dropped.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn next(&mut self) -> Result<&[u8]> {
        let at = loop {
            match self.inbox.take()? {
                Some((TEXT, at)) => break at,
                Some((PING, at)) => {
                    let pong = frames::frame(PONG, self.inbox.payload(at));
                    self.send(&pong).await?;
                }
                Some((CLOSE, at)) => return closed(&self.inbox, at),
                Some(_) => {}
                None => self.fill().await?,
            }
        };
        Ok(self.inbox.payload(at))
    }

    /// Sends a frame and waits for the answer to it, where nothing else is under way.
    ///
    /// # Errors
    /// When the answer is an error.
    pub async fn ask(&mut self, request: &str) -> Result<&[u8]> {
        self.send(&frames::text(request)).await?;
        let answer = self.next().await?;
        is_ok(answer)?;
        Ok(answer)
    }

    async fn fill(&mut self) -> Result<()> {
        let count = self.stream.read(self.inbox.room()).await.context("reading from a socket")?;
        if count == 0 {
            bail!("a socket ended");
        }
        self.inbox.filled(count);
        Ok(())
    }
}

/// A socket of a thread of its own.
pub struct Blocking {
    stream: std::net::TcpStream,
    inbox: Inbox,
}

impl Blocking {
    /// Connects and upgrades. A read waits at most for `patience`.
    ///
    /// # Errors
    /// When either is refused.
    pub fn open(address: SocketAddr, patience: Duration) -> Result<Self> {
        let mut stream = std::net::TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.write_all(&frames::upgrade(&address.to_string(), PATH))?;
        let mut socket = Self { stream, inbox: Inbox::default() };
        while !socket.inbox.take_upgrade()? {
            socket.fill()?;
        }
        Ok(socket)
    }

    /// Sends a frame and waits for the answer to it, where nothing else is under way.
    ///
    /// # Errors
    /// When the answer is an error.
    pub fn ask(&mut self, request: &str) -> Result<()> {
        self.send(&frames::text(request))?;
        is_ok(self.next()?.context("no answer in time")?)
    }

    /// Writes a frame that [`frames::text`] made.
    ///
    /// # Errors
    /// When the connection is gone, or takes nothing for too long.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        let (mut left, began) = (frame, Instant::now());
        while !left.is_empty() {
            match self.stream.write(left) {
                Ok(count) => left = &left[count..],
                Err(why) if why.kind() == ErrorKind::WouldBlock && began.elapsed() < UPGRADE => {
                    thread::yield_now();
                }
                Err(why) => return Err(why).context("writing to a socket"),
            }
        }
        Ok(())
    }

    /// The next text frame's payload; none when it does not come in time. Pings are answered.
    ///
    /// # Errors
    /// When the socket is closed.
    pub fn next(&mut self) -> Result<Option<&[u8]>> {
        let at = loop {
            match self.inbox.take()? {
                Some((TEXT, at)) => break at,
                Some((PING, at)) => {
                    let pong = frames::frame(PONG, self.inbox.payload(at));
                    self.send(&pong)?;
                }
                Some((CLOSE, at)) => return closed(&self.inbox, at),
                Some(_) => {}
                None if self.fill()? => {}
                None => return Ok(None),
            }
        };
        Ok(Some(self.inbox.payload(at)))
    }

    /// From now on reads do not wait at all.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn never_wait(&self) -> Result<()> {
        Ok(self.stream.set_nonblocking(true)?)
    }

    fn fill(&mut self) -> Result<bool> {
        match self.stream.read(self.inbox.room()) {
            Ok(0) => bail!("a socket ended"),
            Ok(count) => self.inbox.filled(count),
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(why) => return Err(why).context("reading from a socket"),
        }
        Ok(true)
    }
}

/// Fails when a frame is no `ok`.
///
/// # Errors
/// With the frame.
pub fn is_ok(payload: &[u8]) -> Result<()> {
    if !payload.starts_with(b"{\"op\":\"ok\"") {
        bail!("answered {}", String::from_utf8_lossy(payload));
    }
    Ok(())
}

fn closed<T>(inbox: &Inbox, at: Range<usize>) -> Result<T> {
    let payload = inbox.payload(at);
    let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
    bail!("the socket was closed with {code} {reason}")
}
