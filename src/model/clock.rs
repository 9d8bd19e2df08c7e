//! The node's own clock. It stamps creation times and logs; leases, delays and retention are
//! decided by the database's clock alone.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Where a node reads the time of day; tests shift it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    shift_ms: i64,
}

impl Clock {
    /// A clock that goes wrong by `shift_ms`, for tests of nodes that disagree about the time.
    pub fn shifted(shift_ms: i64) -> Self {
        Self { shift_ms }
    }

    /// Milliseconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
    pub fn now_ms(self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(self.shift_ms)
    }
}

/// RFC 3339 in UTC with milliseconds, as every time on the wire: `2026-11-24T10:38:00.000Z`.
pub fn format_ms(ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

/// Reads an RFC 3339 time; anything finer than a millisecond is cut off.
pub fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_wire() {
        let ms = parse_rfc3339_ms("2026-11-24T11:38:00.123+01:00").expect("valid");
        assert_eq!(format_ms(ms), "2026-11-24T10:38:00.123Z");
        assert_eq!(parse_rfc3339_ms("yesterday"), None);
    }
}
