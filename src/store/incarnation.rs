//! The log's incarnation: which server's history this is. A promoted standby begins a new
//! timeline, and a database restored elsewhere another system. Offsets of topics that are
//! `local` may mean other messages from then on.

use std::{fmt, str::FromStr};

use sqlx::PgConnection;

use super::{StoreError, error::Refusal};

/// Which history the log is in. Written `<system>-<timeline>` in hexadecimal, as
/// `postrider.log_incarnation()` writes it in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// Names the cluster and its copies; 0 where this role may not see it.
    pub system: u64,
    /// Rises by at least one with every promotion.
    pub timeline: u32,
}

impl Incarnation {
    /// Whether `other` was left behind by the promotion that began this one.
    pub fn is_later_than(self, other: Self) -> bool {
        self.system == other.system && self.timeline > other.timeline
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:08x}", self.system, self.timeline)
    }
}

/// The text is no incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an incarnation of a log")]
pub struct NotAnIncarnation;

impl FromStr for Incarnation {
    type Err = NotAnIncarnation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (system, timeline) = text.split_once('-').ok_or(NotAnIncarnation)?;
        Ok(Self {
            system: u64::from_str_radix(system, 16).map_err(|_| NotAnIncarnation)?,
            timeline: u32::from_str_radix(timeline, 16).map_err(|_| NotAnIncarnation)?,
        })
    }
}

/// Reads it from the server of a session, which takes writes. It needs no schema.
///
/// The timeline comes from the name of the file that is written: `pg_control_checkpoint` tells
/// the old one until the first checkpoint after a promotion, which may take minutes.
pub async fn read(conn: &mut PgConnection) -> Result<Incarnation, StoreError> {
    let sql = "select system_identifier from pg_control_system()";
    let system = match number(conn, sql).await {
        Ok(system) => system.cast_unsigned(),
        // Some services keep it from ordinary roles: the timeline alone tells of promotions.
        Err(StoreError::Refused { reason: Refusal::Other, .. }) => 0,
        Err(error) => return Err(error),
    };
    let sql = "select ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)\
               ::int::bigint";
    let timeline = u32::try_from(number(conn, sql).await?);
    let timeline = timeline.map_err(|_| StoreError::Shape("a timeline".to_owned()))?;
    Ok(Incarnation { system, timeline })
}

async fn number(conn: &mut PgConnection, sql: &'static str) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar(sql).persistent(false);
    let found: Option<i64> = query.fetch_optional(conn).await?;
    found.ok_or_else(|| StoreError::Shape("no row".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        let incarnation = Incarnation { system: 7_711_741_813_310_352_005, timeline: 0x1f };
        let text = incarnation.to_string();
        assert_eq!(text, "6b059c5215e3ea85-0000001f");
        assert_eq!(text.parse(), Ok(incarnation));
        for wrong in ["", "-", "1", "1-", "-1", "g-1", "1-g", "1-100000000"] {
            assert_eq!(wrong.parse::<Incarnation>(), Err(NotAnIncarnation), "{wrong}");
        }
    }

    #[test]
    fn only_timelines_of_one_system_follow_each_other() {
        let [old, new] = [1, 2].map(|timeline| Incarnation { system: 5, timeline });
        assert!(new.is_later_than(old) && !old.is_later_than(new) && !new.is_later_than(new));
        assert!(!Incarnation { system: 6, timeline: 3 }.is_later_than(old));
    }
}
