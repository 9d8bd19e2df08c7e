//! Bytes as they are read become lines, lines become batches.

use crate::model::limits;

/// Lines of one batch.
pub const BATCH_LINES_MAX: usize = 1_000;
/// Bytes of the lines of one batch; a longer line goes alone.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a line: no topic takes more.
pub const LINE_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX as usize;

/// A line without its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// Its bytes; a carriage return at the end is one of them.
    pub bytes: Vec<u8>,
}

/// A line that no topic takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {number} has more than {LINE_BYTES_MAX} bytes; no topic takes such a message")]
pub struct LineTooLong {
    /// Its number, from 1.
    pub number: u64,
}

/// Cuts a stream of bytes into batches of lines. Holds at most one batch and one line.
#[derive(Debug, Default)]
pub struct Batcher {
    partial: Vec<u8>,
    batch: Vec<Line>,
    batch_bytes: usize,
    lines: u64,
}

impl Batcher {
    /// Takes the next bytes and gives the batches that are full by them, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<Line>>, LineTooLong> {
        let mut full = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, ends) = match piece.split_last() {
                Some((b'\n', line)) => (line, true),
                _ => (piece, false),
            };
            if self.partial.len() + piece.len() > LINE_BYTES_MAX {
                return Err(LineTooLong { number: self.lines + 1 });
            }
            self.partial.extend_from_slice(piece);
            if ends {
                full.extend(self.end_line());
            }
        }
        Ok(full)
    }

    /// The lines that are complete and in no batch yet.
    pub fn flush(&mut self) -> Option<Vec<Line>> {
        self.batch_bytes = 0;
        Some(std::mem::take(&mut self.batch)).filter(|batch| !batch.is_empty())
    }

    /// What is left when the bytes end, in at most two batches: a last line counts without newline.
    pub fn finish(&mut self) -> Vec<Vec<Line>> {
        let full = if self.partial.is_empty() { None } else { self.end_line() };
        full.into_iter().chain(self.flush()).collect()
    }

    /// Whether complete lines wait for a batch to fill.
    pub fn has_lines(&self) -> bool {
        !self.batch.is_empty()
    }

    fn end_line(&mut self) -> Option<Vec<Line>> {
        let bytes = std::mem::take(&mut self.partial);
        let is_full =
            self.batch.len() == BATCH_LINES_MAX || self.batch_bytes + bytes.len() > BATCH_BYTES_MAX;
        let full = if is_full { self.flush() } else { None };
        self.lines += 1;
        self.batch_bytes += bytes.len();
        self.batch.push(Line { number: self.lines, bytes });
        full
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batches_of(pieces: &[Vec<u8>]) -> Vec<Vec<Line>> {
        let mut batcher = Batcher::default();
        let mut batches = Vec::new();
        for piece in pieces {
            batches.extend(batcher.push(piece).expect("short lines"));
        }
        batches.extend(batcher.finish());
        batches
    }

    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![3 => Just(b'\n'), 1 => Just(b'\r'), 6 => any::<u8>()]
    }

    fn size() -> impl Strategy<Value = usize> {
        prop_oneof![0..40_usize, 200_000..1_200_000_usize]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_in_any_pieces_give_the_same_lines_back(
            pieces in prop::collection::vec(
                prop::collection::vec(byte(), 0..400),
                0..12,
            ),
        ) {
            let whole = pieces.concat();
            let mut expected: Vec<&[u8]> = whole.split(|byte| *byte == b'\n').collect();
            if expected.last().is_some_and(|last| last.is_empty()) {
                expected.pop();
            }
            let batches = batches_of(&pieces);
            let lines: Vec<&Line> = batches.iter().flatten().collect();
            prop_assert_eq!(lines.len(), expected.len());
            for (at, (line, bytes)) in lines.iter().zip(expected).enumerate() {
                prop_assert_eq!(&*line.bytes, bytes);
                prop_assert_eq!(line.number, at as u64 + 1);
            }
        }

        #[test]
        fn batches_keep_to_their_bounds_and_are_no_smaller_than_need_be(
            sizes in prop::collection::vec(size(), 0..8),
            short in 0..2_500_usize,
        ) {
            let mut bytes = Vec::new();
            for size in sizes.iter().copied().chain(std::iter::repeat_n(3, short)) {
                bytes.extend(std::iter::repeat_n(b'x', size));
                bytes.push(b'\n');
            }
            let batches = batches_of(&[bytes]);
            let size = |batch: &[Line]| batch.iter().map(|line| line.bytes.len()).sum::<usize>();
            for (at, batch) in batches.iter().enumerate() {
                prop_assert!(!batch.is_empty() && batch.len() <= BATCH_LINES_MAX);
                prop_assert!(batch.len() == 1 || size(batch) <= BATCH_BYTES_MAX);
                if let Some(next) = batches.get(at + 1) {
                    let room = size(batch) + next[0].bytes.len() <= BATCH_BYTES_MAX;
                    prop_assert!(batch.len() == BATCH_LINES_MAX || !room);
                }
            }
        }
    }

    #[test]
    fn empty_lines_count_and_an_empty_end_does_not() {
        let lines = |text: &str| {
            let batches = batches_of(&[text.as_bytes().to_vec()]);
            let texts = batches.into_iter().flatten().map(|line| line.bytes);
            texts.map(|bytes| String::from_utf8(bytes).expect("text")).collect::<Vec<_>>()
        };
        assert_eq!(lines(""), Vec::<String>::new());
        assert_eq!(lines("\n"), [""]);
        assert_eq!(lines("a"), ["a"]);
        assert_eq!(lines("a\r\n\nb\n"), ["a\r", "", "b"]);
    }

    #[test]
    fn a_line_beyond_every_limit_is_named() {
        let mut batcher = Batcher::default();
        batcher.push(b"a\n").expect("short");
        batcher.push(&vec![b'x'; LINE_BYTES_MAX]).expect("just as long as may be");
        assert_eq!(batcher.push(b"x"), Err(LineTooLong { number: 2 }));
    }
}
