//! A socket of bytes: it sends what no client would.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{socket::PROTOCOL, soon};

/// A frame as it lies on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// 1 text, 2 binary, 8 close, 9 ping, 10 pong; with 0x80 where it is the last of its message.
    pub head: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A socket of bytes: what is wrong in a frame is up to the test.
pub struct RawSocket {
    /// The connection, past the upgrade.
    pub tcp: TcpStream,
}

/// The last frame of a message.
const FIN: u8 = 0x80;

impl RawSocket {
    /// One to the node at `base`.
    pub async fn open(base: &str) -> Self {
        let authority = base.trim_start_matches("http://").trim_end_matches('/');
        let mut tcp = soon("a connection", TcpStream::connect(authority)).await.expect("connects");
        tcp.set_nodelay(true).expect("a connection");
        let request = format!(
            "GET /v1/ws HTTP/1.1\r\nhost: {authority}\r\nconnection: Upgrade\r\nupgrade: websocket\
             \r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: {PROTOCOL}\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.expect("is read");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("an upgrade", tcp.read_u8()).await.expect("an answer"));
        }
        let head = String::from_utf8(head).expect("text");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { tcp }
    }

    /// A whole frame with a mask of zeros, which leaves the payload as it is.
    pub fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![head];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | short as u8),
            medium @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(medium as u16).to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        frame
    }

    /// A whole text message of one frame.
    pub fn text(payload: &[u8]) -> Vec<u8> {
        Self::frame(FIN | 1, payload)
    }

    /// Sends bytes; whether the other side still takes them.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        soon("bytes are taken", self.tcp.write_all(bytes)).await.is_ok()
    }

    /// The next frame; none when the connection has ended.
    pub async fn read(&mut self) -> Option<RawFrame> {
        soon("a frame", async {
            let head = self.tcp.read_u8().await.ok()?;
            let length = match self.tcp.read_u8().await.ok()? {
                126 => u64::from(self.tcp.read_u16().await.ok()?),
                127 => self.tcp.read_u64().await.ok()?,
                short => u64::from(short),
            };
            assert!(length < 1 << 32, "a server's frame is masked or of {length} bytes");
            let mut payload = vec![0; length as usize];
            self.tcp.read_exact(&mut payload).await.ok()?;
            Some(RawFrame { head, payload })
        })
        .await
    }

    /// Reads to the end and answers a close: its code; none where the connection just ended.
    pub async fn closed(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(frame) = self.read().await {
            if let (0x88, [high, low, ..]) = (frame.head, frame.payload.as_slice()) {
                code = Some(u16::from_be_bytes([*high, *low]));
                self.write(&Self::frame(0x88, &[*high, *low])).await;
            }
        }
        code
    }
}

#[cfg(test)]
mod tests {
    use super::FIN;
    use crate::support::{RawSocket, socket::tests::a_server};

    #[tokio::test]
    async fn raw_frames_are_frames() {
        let mut socket = RawSocket::open(&a_server().await).await;
        assert!(socket.write(&RawSocket::frame(1, br#"{"op":"#)).await);
        assert!(socket.write(&RawSocket::frame(FIN, &[b' '; 70_000])).await);
        assert_eq!(socket.closed().await, None, "it is no JSON");
        let mut socket = RawSocket::open(&a_server().await).await;
        let long = format!(r#"{{"op":"odd","id":{:>200}}}"#, 1);
        assert!(socket.write(&RawSocket::text(long.as_bytes())).await);
        let frame = socket.read().await.expect("an answer");
        assert_eq!(frame.head, FIN | 1);
        assert!(socket.write(&RawSocket::text(br#"{"op":"end"}"#)).await);
        assert_eq!(socket.closed().await, Some(4000));
    }
}
