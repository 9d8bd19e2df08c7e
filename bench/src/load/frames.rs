//! WebSocket frames as the load generator needs them: it asks for an upgrade, writes masked text
//! frames, and finds whole frames in what a server sent.

use std::ops::Range;

use anyhow::{Context as _, Result, bail};
use memchr::memmem;

/// A frame longer than this is taken for an error of the server.
const LARGEST_FRAME: usize = 64 * 1024 * 1024;
/// The room that is offered to the next read, at least; most idle sockets never get more.
const ROOM: usize = 1024;
/// How far the room grows while reads fill it.
const ROOM_MOST: usize = 256 * 1024;
/// Any mask does; clients must have one.
const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x88];

/// The opcodes that servers send.
pub const TEXT: u8 = 1;
/// A close.
pub const CLOSE: u8 = 8;
/// A ping, to be answered with a pong.
pub const PING: u8 = 9;
/// The answer to a ping.
pub const PONG: u8 = 10;

/// The request for an upgrade of `path` at `host`.
pub fn upgrade(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: postrider.v1.json\r\n\r\n"
    )
    .into_bytes()
}

/// A text frame, ready to be written.
pub fn text(payload: &str) -> Vec<u8> {
    frame(TEXT, payload.as_bytes())
}

/// A whole masked frame.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
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
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Bytes as they come, and the frames in them.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    was_full: bool,
}

impl Inbox {
    /// Room for the next bytes.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < ROOM && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let is_busy = self.was_full && self.buffer.len() < ROOM_MOST;
        if self.buffer.len() - self.end < ROOM || is_busy {
            let longer = (self.buffer.len() * 2).max(ROOM);
            self.buffer.resize(longer, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// `count` bytes were put into the room.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        self.was_full = self.end == self.buffer.len();
    }

    /// Takes the answer to the upgrade; false while it is not whole.
    ///
    /// # Errors
    /// When the upgrade is refused.
    pub fn take_upgrade(&mut self) -> Result<bool> {
        let bytes = &self.buffer[self.start..self.end];
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(false) };
        if !bytes.starts_with(b"HTTP/1.1 101") {
            bail!("no upgrade: {}", String::from_utf8_lossy(bytes));
        }
        self.start += end + 4;
        Ok(true)
    }

    /// Takes the next whole frame: its opcode and where its payload lies.
    ///
    /// # Errors
    /// When it is nothing that a server of ours sends: masked, in fragments, or too long.
    pub fn take(&mut self) -> Result<Option<(u8, Range<usize>)>> {
        let bytes = &self.buffer[self.start..self.end];
        let [head, short, ..] = *bytes else { return Ok(None) };
        let (length, skip) = match short {
            0..126 => (usize::from(short), 2),
            126 => match bytes.get(2..4) {
                Some(length) => (usize::from(u16::from_be_bytes(length.try_into()?)), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10) {
                Some(length) => (usize::try_from(u64::from_be_bytes(length.try_into()?))?, 10),
                None => return Ok(None),
            },
            _ => bail!("a masked frame from a server"),
        };
        if head & 0xf0 != 0x80 || length > LARGEST_FRAME {
            bail!("a frame of head {head:#x} and {length} bytes");
        }
        if bytes.len() < skip + length {
            return Ok(None);
        }
        let from = self.start + skip;
        self.start = from + length;
        Ok(Some((head & 0x0f, from..from + length)))
    }

    /// A payload, until the next [`Inbox::room`].
    pub fn payload(&self, at: Range<usize>) -> &[u8] {
        &self.buffer[at]
    }
}

/// Calls `each` with every offset of a `messages` frame, by a scan and not by a parse: nothing
/// else in the messages of the bench looks like an offset.
///
/// # Errors
/// When the frame is of another kind, or `each` fails.
pub fn offsets(payload: &[u8], mut each: impl FnMut(u64) -> Result<()>) -> Result<()> {
    const OFFSET: &[u8] = b"\"offset\":";
    if !payload.starts_with(b"{\"op\":\"messages\"") {
        bail!("{}", String::from_utf8_lossy(payload));
    }
    let mut rest = payload;
    while let Some(at) = memmem::find(rest, OFFSET) {
        rest = &rest[at + OFFSET.len()..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = rest.get(..digits).filter(|digits| !digits.is_empty()).context("no offset")?;
        let number = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        each(number)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_server(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut masked = frame(opcode, payload);
        let head = masked.len() - payload.len();
        masked[1] &= 0x7f;
        masked.truncate(head - 4);
        masked.extend_from_slice(payload);
        masked
    }

    #[test]
    fn frames_of_any_length_are_found_in_any_pieces() {
        let payloads = [0, 5, 125, 126, 70_000, 65_535, 1].map(|length| vec![b'x'; length]);
        let wire: Vec<u8> = payloads.iter().flat_map(|payload| of_server(TEXT, payload)).collect();
        for piece in [1, 7, 4_096, wire.len()] {
            let (mut inbox, mut found) = (Inbox::default(), Vec::new());
            for bytes in wire.chunks(piece) {
                let mut left = bytes;
                while !left.is_empty() {
                    let room = inbox.room();
                    let count = left.len().min(room.len());
                    room[..count].copy_from_slice(&left[..count]);
                    inbox.filled(count);
                    left = &left[count..];
                    while let Some((opcode, at)) = inbox.take().unwrap() {
                        assert_eq!(opcode, TEXT);
                        found.push(inbox.payload(at).to_vec());
                    }
                }
            }
            assert!(found == payloads, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_mask_comes_off_again() {
        let written = text("{\"op\":\"ping\"}");
        let (head, payload) = written.split_at(6);
        let bare: Vec<u8> =
            payload.iter().zip(head[2..].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!((&head[..2], bare.as_slice()), (&[0x81, 0x8d][..], &b"{\"op\":\"ping\"}"[..]));
    }

    #[test]
    fn offsets_are_seen_without_a_parse() {
        let frame = br#"{"op":"messages","sub":"a","topic":"t","partition":0,"messages":[
            {"offset":41,"value":"x","timestamp":"T"},{"offset":42,"value":1}]}"#;
        let mut found = Vec::new();
        offsets(frame, |offset| {
            found.push(offset);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [41, 42]);
        assert!(offsets(br#"{"op":"closed","sub":"a"}"#, |_| Ok(())).is_err());
    }
}
