//! Which message of a request lies where, as far as it is known before the append: kept with a
//! claim, and put together with the offsets of the request's parts when a repeat is answered.
//!
//! Numbers of two bytes, the low one first: messages, parts, the partition of each part, and
//! where there are several parts, the part of each message. A part's messages keep their order.

/// The layout of a request whose parts go to `partitions`, and whose messages lie in `parts`.
/// Partitions and messages of a request are limited far below 2^16.
pub fn encode(partitions: &[u32], parts: impl ExactSizeIterator<Item = u32>) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + 2 * partitions.len());
    let mut put = |number: usize| out.extend_from_slice(&(number as u16).to_le_bytes());
    put(parts.len());
    put(partitions.len());
    partitions.iter().for_each(|partition| put(*partition as usize));
    if partitions.len() > 1 {
        parts.for_each(|part| put(part as usize));
    }
    out
}

/// Partition and offset of each message, where the first one of each part stands at `offsets`.
/// `None` where the two do not belong together.
pub fn decode(layout: &[u8], offsets: &[i64]) -> Option<Vec<(u32, i64)>> {
    let mut numbers =
        layout.chunks_exact(2).map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])));
    let (messages, parts) = (numbers.next()?, numbers.next()?);
    if parts != offsets.len() {
        return None;
    }
    let partitions: Vec<u32> = numbers.by_ref().take(parts).map(|number| number as u32).collect();
    let mut next = offsets.to_vec();
    let mut results = Vec::with_capacity(messages);
    for _ in 0..messages {
        let part = if parts > 1 { numbers.next()? } else { 0 };
        let offset = next.get_mut(part)?;
        results.push((*partitions.get(part)?, *offset));
        *offset += 1;
    }
    Some(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_and_offsets_make_the_first_answer() {
        let one = encode(&[7], [0].into_iter());
        assert_eq!(one.len(), 6);
        assert_eq!(decode(&one, &[41]).unwrap(), [(7, 41)]);
        let batch = encode(&[3, 1_023], [0, 1, 1, 0, 1].into_iter());
        let results = [(3, 10), (1_023, 0), (1_023, 1), (3, 11), (1_023, 2)];
        assert_eq!(decode(&batch, &[10, 0]).unwrap(), results);
        let many = encode(&[0], (0..10_000).map(|_| 0));
        assert_eq!(decode(&many, &[5]).unwrap()[9_999], (0, 10_004));
    }

    #[test]
    fn what_does_not_belong_together_is_no_answer() {
        let batch = encode(&[3, 4], [0, 1].into_iter());
        for (layout, offsets) in [
            (&batch[..], &[1][..]),
            (&batch[..batch.len() - 2], &[1, 2]),
            (&[], &[]),
            (&[1, 0, 1, 0], &[9]),
        ] {
            assert_eq!(decode(layout, offsets), None, "{layout:?}");
        }
    }
}
