//! Durations as users write them: a whole number and `ms`, `s`, `m`, `h` or `d`.

use std::time::Duration;

/// Why a string is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a duration is a whole number and ms, s, m, h or d, such as 30s or 7d")]
pub struct InvalidDuration;

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `"30s"`. The result is at most 2^53 ms, so that it survives JSON.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(InvalidDuration)?;
    let ms = number.checked_mul(*unit_ms).filter(|ms| *ms < 1 << 53).ok_or(InvalidDuration)?;
    Ok(Duration::from_millis(ms))
}

/// Writes a duration in the largest unit that keeps it whole: 86,400 s are `1d`.
pub fn format(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, unit_ms) = UNITS
        .iter()
        .rev()
        .find(|(_, unit_ms)| ms != 0 && ms.is_multiple_of(*unit_ms))
        .unwrap_or(&UNITS[1]);
    format!("{}{unit}", ms / unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_same() {
        for text in ["0s", "250ms", "30s", "5m", "1h", "7d", "90d"] {
            assert_eq!(format(parse(text).expect(text)), text);
        }
        assert_eq!(format(parse("48h").expect("valid")), "2d");
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "7", "d", "1.5h", "-1s", "1 s", "1w", "99999999999999999999d", "9e3s"] {
            assert_eq!(parse(text), Err(InvalidDuration), "{text}");
        }
    }
}
