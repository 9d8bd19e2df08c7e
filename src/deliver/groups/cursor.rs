//! Where a member stands: what its last answer told it, signed, so that any node can go on from
//! there and nobody else can have made it.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::model::{GroupId, PartitionId};

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;

/// The key with which nodes sign.
#[derive(Clone)]
pub struct CursorKey(Hmac<Sha256>);

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey")
    }
}

impl CursorKey {
    /// The key of these bytes.
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("a key of any length will do"))
    }

    fn of(&self, member: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&(member.len() as u64).to_be_bytes());
        mac.update(member.as_bytes());
        mac.update(body);
        mac
    }
}

/// One partition as a member was last told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which partition.
    pub partition: PartitionId,
    /// Under which epoch.
    pub epoch: i64,
    /// The next offset to deliver.
    pub position: i64,
    /// Whether it was told to give it up.
    pub is_told: bool,
}

/// Where a member stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Of which group.
    pub group: GroupId,
    /// The member's generation.
    pub generation: i64,
    /// Whose turn it is: partitions are read in a circle, each for a few polls.
    pub turn: u64,
    /// Everything it has.
    pub places: Vec<Place>,
}

/// It was not made by a node of this service for this member of this group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor of this member")]
pub struct BadCursor;

impl Cursor {
    /// The cursor as text, for `member` alone.
    pub fn write(&self, key: &CursorKey, member: &str) -> String {
        let mut body = vec![VERSION];
        for number in [self.group.0, self.generation] {
            put(&mut body, number as u64);
        }
        put(&mut body, self.turn);
        for place in &self.places {
            put(&mut body, place.partition.0 as u64);
            put(&mut body, place.epoch as u64);
            put(&mut body, (place.position as u64) << 1 | u64::from(place.is_told));
        }
        let tag = key.of(member, &body).finalize().into_bytes();
        body.extend_from_slice(&tag[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(body)
    }

    /// Reads a cursor of `member` in `group`.
    pub fn read(
        key: &CursorKey,
        group: GroupId,
        member: &str,
        text: &str,
    ) -> Result<Self, BadCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadCursor)?;
        let split = bytes.len().checked_sub(TAG_BYTES).ok_or(BadCursor)?;
        let (body, tag) = bytes.split_at(split);
        key.of(member, body).verify_truncated_left(tag).map_err(|_| BadCursor)?;
        let (version, mut rest) = body.split_first().ok_or(BadCursor)?;
        let found = GroupId(take(&mut rest)? as i64);
        if *version != VERSION || found != group {
            return Err(BadCursor);
        }
        let generation = take(&mut rest)? as i64;
        let turn = take(&mut rest)?;
        let mut places = Vec::new();
        while !rest.is_empty() {
            let partition = PartitionId(take(&mut rest)? as i64);
            let epoch = take(&mut rest)? as i64;
            let last = take(&mut rest)?;
            let (position, is_told) = ((last >> 1) as i64, last & 1 == 1);
            places.push(Place { partition, epoch, position, is_told });
        }
        Ok(Self { group, generation, turn, places })
    }

    /// What it says of a partition under an epoch.
    pub fn place(&self, partition: PartitionId, epoch: i64) -> Option<&Place> {
        self.places.iter().find(|place| place.partition == partition && place.epoch == epoch)
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(input: &mut &[u8]) -> Result<u64, BadCursor> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first().ok_or(BadCursor)?;
        *input = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(BadCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        let place = |id: i64, told| Place {
            partition: PartitionId(id),
            epoch: 1_764_000_000_000 + id,
            position: (1 << 53) - id,
            is_told: told,
        };
        let places = vec![place(1, false), place(200, true)];
        Cursor { group: GroupId(7), generation: 3, turn: 9, places }
    }

    #[test]
    fn a_cursor_is_read_by_every_node_with_the_key() {
        let text = cursor().write(&CursorKey::new(b"key"), "m");
        let read = Cursor::read(&CursorKey::new(b"key"), GroupId(7), "m", &text);
        assert_eq!(read, Ok(cursor()));
    }

    #[test]
    fn nobody_else_can_have_made_it() {
        let key = CursorKey::new(b"key");
        let text = cursor().write(&key, "m");
        let refused = |key: &CursorKey, group, member: &str, text: &str| {
            assert_eq!(Cursor::read(key, GroupId(group), member, text), Err(BadCursor), "{text}");
        };
        refused(&CursorKey::new(b"other"), 7, "m", &text);
        refused(&key, 8, "m", &text);
        refused(&key, 7, "n", &text);
        refused(&key, 7, "m", "");
        refused(&key, 7, "m", "not base64!");
        for at in 0..text.len() - 1 {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            refused(&key, 7, "m", std::str::from_utf8(&forged).expect("ASCII"));
        }
    }
}
