//! One kept-alive HTTP/1.1 connection, bare: a test must know whether anything was sent.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// A connection that carries one request at a time. After an error it is of no further use.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body, without any chunking.
    pub body: Vec<u8>,
}

/// What to ask.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The type of the body; nothing is said of an empty one.
    pub kind: &'a str,
    /// Further header lines, each with its end.
    pub headers: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// One without a body.
    pub fn get(target: &'a str) -> Self {
        Self { method: "GET", target, kind: "", headers: "", body: b"" }
    }

    /// One with a JSON body.
    pub fn json(method: &'a str, target: &'a str, body: &'a [u8]) -> Self {
        Self { method, target, kind: "application/json", headers: "", body }
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { method, target, kind, headers, body } = self;
        let kind = match kind.is_empty() {
            true => String::new(),
            false => format!("content-type: {kind}\r\n"),
        };
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: test\r\n{kind}{headers}content-length: {length}\
             \r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream) })
    }

    /// Sends a request and no more.
    pub async fn send(&mut self, request: &Request<'_>) -> io::Result<()> {
        self.send_bytes(&request.bytes()).await
    }

    /// Sends bytes.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// Sends a request and reads its answer. The caller sets the deadline.
    pub async fn exchange(&mut self, request: &Request<'_>) -> io::Result<Response> {
        self.send(request).await?;
        let status = self.line().await?;
        let status = status.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line().await?.to_ascii_lowercase();
            let Some((name, value)) = line.split_once(": ") else { break };
            match name {
                "content-length" => length = value.parse().map_err(io::Error::other)?,
                "transfer-encoding" => is_chunked = value == "chunked",
                _ => {}
            }
        }
        let mut body = Vec::new();
        if is_chunked {
            while self.chunk(&mut body).await? {}
        } else {
            body.resize(length, 0);
            self.stream.read_exact(&mut body).await?;
        }
        Ok(Response { status, body })
    }

    async fn chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let size = usize::from_str_radix(&self.line().await?, 16).map_err(io::Error::other)?;
        let begin = body.len();
        body.resize(begin + size, 0);
        self.stream.read_exact(&mut body[begin..]).await?;
        self.line().await?;
        Ok(size > 0)
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}
