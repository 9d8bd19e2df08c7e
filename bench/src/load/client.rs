//! One kept-alive HTTP/1.1 connection: writes a prepared request, reads a status and a body.

use std::{io, net::SocketAddr, ops::Range};

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer longer than this is taken for an error of the server.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;

/// A connection that carries one request at a time.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    body: Range<usize>,
}

/// What a server answered; the body lies in the connection's buffer until the next request.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The body, with any chunking removed.
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// Whether the status is one of 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

struct Head {
    status: u16,
    length: Framing,
    end: usize,
}

#[derive(Clone, Copy)]
enum Framing {
    Sized(usize),
    Chunked,
}

impl Connection {
    /// Connects to `address`, without Nagle's delay.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 4_096], filled: 0, body: 0..0 })
    }

    /// Sends `request`, which is a whole HTTP/1.1 request, and reads its answer. The caller sets
    /// the deadline; after an error the connection is of no further use.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.filled = 0;
        let head = loop {
            self.fill().await?;
            if let Some(head) = parse_head(&self.buffer[..self.filled])? {
                break head;
            }
        };
        let body = match head.length {
            Framing::Sized(length) => self.sized(head.end, length).await?,
            Framing::Chunked => self.chunked(head.end).await?,
        };
        self.body = body;
        Ok(Answer { status: head.status, body: self.body() })
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        &self.buffer[self.body.clone()]
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.filled == self.buffer.len() {
            if self.filled >= LARGEST_ANSWER {
                return Err(invalid("the answer is too long"));
            }
            self.buffer.resize(self.filled * 2, 0);
        }
        let count = self.stream.read(&mut self.buffer[self.filled..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.filled += count;
        Ok(())
    }

    async fn sized(&mut self, start: usize, length: usize) -> io::Result<Range<usize>> {
        if length > LARGEST_ANSWER {
            return Err(invalid("the answer is too long"));
        }
        let end = start + length;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        while self.filled < end {
            self.fill().await?;
        }
        if self.filled > end {
            return Err(invalid("more bytes than the answer has"));
        }
        Ok(start..end)
    }

    /// Moves the chunks together, so that the body is one range of the buffer.
    async fn chunked(&mut self, start: usize) -> io::Result<Range<usize>> {
        let mut end = start;
        let mut at = start;
        loop {
            let line_end = self.line_end(at).await?;
            let size = chunk_size(&self.buffer[at..line_end])?;
            let from = line_end + 2;
            while self.filled < from + size + 2 {
                self.fill().await?;
            }
            self.buffer.copy_within(from..from + size, end);
            end += size;
            at = from + size + 2;
            if size == 0 {
                return Ok(start..end);
            }
        }
    }

    async fn line_end(&mut self, at: usize) -> io::Result<usize> {
        loop {
            if let Some(found) = memmem::find(&self.buffer[at..self.filled], b"\r\n") {
                return Ok(at + found);
            }
            self.fill().await?;
        }
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let status = bytes
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| invalid("no status line"))?;
    let mut length = Framing::Sized(0);
    for line in bytes[..end].split(|byte| *byte == b'\n').skip(1) {
        if let Some(value) = header(line, b"content-length") {
            let value = value.parse().map_err(|_| invalid("a bad content-length"))?;
            length = Framing::Sized(value);
        } else if header(line, b"transfer-encoding").is_some() {
            length = Framing::Chunked;
        }
    }
    Ok(Some(Head { status, length, end: end + 4 }))
}

fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let (found, value) = line.split_at_checked(name.len())?;
    if !found.eq_ignore_ascii_case(name) {
        return None;
    }
    std::str::from_utf8(value.strip_prefix(b":")?).ok().map(str::trim)
}

fn chunk_size(line: &[u8]) -> io::Result<usize> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| usize::from_str_radix(digits.trim(), 16).ok())
        .filter(|size| *size <= LARGEST_ANSWER)
        .ok_or_else(|| invalid("a bad chunk size"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answered_with(pieces: &'static [&'static str]) -> io::Result<(u16, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = async {
            let (mut stream, _) = listener.accept().await?;
            let mut request = [0; 64];
            let _ = stream.read(&mut request).await?;
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await?;
                tokio::task::yield_now().await;
            }
            Ok::<_, io::Error>(())
        };
        let client = async {
            let mut connection = Connection::open(address).await?;
            let answer = connection.exchange(b"GET / HTTP/1.1\r\n\r\n").await?;
            Ok((answer.status, String::from_utf8_lossy(answer.body).into_owned()))
        };
        let (served, answer) = tokio::join!(server, client);
        served?;
        answer
    }

    #[tokio::test]
    async fn a_sized_body_arrives_in_pieces() {
        let pieces = &["HTTP/1.1 200 OK\r\nContent-Le", "ngth: 5\r\n\r\nab", "cde"];
        assert_eq!(answered_with(pieces).await.unwrap(), (200, "abcde".into()));
    }

    #[tokio::test]
    async fn chunks_are_joined() {
        let pieces = &[
            "HTTP/1.1 503 x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r",
            "\nA;x=1\r\n0123456789\r\n0\r\n\r\n",
        ];
        assert_eq!(answered_with(pieces).await.unwrap(), (503, "abc0123456789".into()));
    }

    #[tokio::test]
    async fn an_answer_cut_short_is_an_error() {
        let error = answered_with(&["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"]).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn no_content_has_no_body() {
        let pieces = &["HTTP/1.1 204 No Content\r\nstream-next-offset: 1\r\n\r\n"];
        assert_eq!(answered_with(pieces).await.unwrap(), (204, String::new()));
    }
}
