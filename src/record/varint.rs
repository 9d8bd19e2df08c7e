//! Kafka's variable-length integers: zigzag, seven bits a byte, the low ones first.

use super::Corrupt;

/// Appends `value`: one byte for -64 to 63, at most ten.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] appends for `value`.
pub(super) fn len(value: i64) -> usize {
    let rest = ((value << 1) ^ (value >> 63)) as u64;
    let bits = 64 - (rest | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes one integer off the front of `input`.
pub(super) fn take(input: &mut &[u8]) -> Result<i64, Corrupt> {
    let mut value = 0u64;
    for (i, byte) in input.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *input = &input[i + 1..];
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(Corrupt::Truncated)
}

/// Takes a length and that many bytes; a negative length is an absent field.
pub(super) fn take_bytes<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Corrupt> {
    let length = take(input)?;
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    if length > input.len() {
        return Err(Corrupt::Truncated);
    }
    let (bytes, rest) = input.split_at(length);
    *input = rest;
    Ok(Some(bytes))
}
