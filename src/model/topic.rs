//! What a topic can be told, and how its retention maps to the classes of physical tables.

use std::time::Duration;

/// How long a topic keeps its messages at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// At least this long; what is older is hidden, and goes with its bucket.
    For(Duration),
    /// Never dropped by age.
    Forever,
}

/// Topics of one class share buckets: the tables that are dropped as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum RetentionClass {
    /// Up to an hour, buckets of 5 minutes.
    Hour = 1,
    /// Up to a day, buckets of an hour.
    Day = 2,
    /// Up to a week, buckets of 6 hours.
    Week = 3,
    /// Up to 30 days, buckets of a day.
    Month = 4,
    /// Longer or for ever, buckets of 30 days.
    Forever = 5,
}

impl RetentionClass {
    /// All classes, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Forever];

    /// The longest retention that this class serves; none for [`Self::Forever`].
    pub fn longest(self) -> Option<Duration> {
        const HOUR: u64 = 3_600;
        match self {
            Self::Hour => Some(Duration::from_secs(HOUR)),
            Self::Day => Some(Duration::from_secs(24 * HOUR)),
            Self::Week => Some(Duration::from_secs(7 * 24 * HOUR)),
            Self::Month => Some(Duration::from_secs(30 * 24 * HOUR)),
            Self::Forever => None,
        }
    }

    /// How much time one bucket of this class takes in.
    pub fn window(self) -> Duration {
        match self {
            Self::Hour => Duration::from_secs(5 * 60),
            Self::Day => Duration::from_secs(3_600),
            Self::Week => Duration::from_secs(6 * 3_600),
            Self::Month => Duration::from_secs(24 * 3_600),
            Self::Forever => Duration::from_secs(30 * 24 * 3_600),
        }
    }

    /// The class as its row's number.
    pub fn number(self) -> i16 {
        self as i16
    }

    /// The class of a row's number.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.number() == number)
    }
}

impl Retention {
    /// The shortest class that is not shorter than this retention.
    pub fn class(self) -> RetentionClass {
        let Self::For(keep) = self else { return RetentionClass::Forever };
        RetentionClass::ALL
            .into_iter()
            .find(|class| class.longest().is_none_or(|longest| keep <= longest))
            .unwrap_or(RetentionClass::Forever)
    }
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Committed and fsynced by PostgreSQL.
    Local,
    /// Also held by a synchronous standby.
    Replicated,
}

impl Durability {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Replicated => "replicated",
        }
    }
}

/// How the record batches of a topic are compressed inside the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As they are; PostgreSQL may still compress the column.
    None,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The compression of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Where messages without a key go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keyless {
    /// All of one request to one partition (Kafka's sticky partitioner, KIP-480).
    Sticky,
    /// One after the other over all partitions.
    RoundRobin,
}

impl Keyless {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sticky => "sticky",
            Self::RoundRobin => "round_robin",
        }
    }

    /// The rule of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Sticky, Self::RoundRobin].into_iter().find(|rule| rule.as_str() == word)
    }
}

/// Everything a topic can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// How many partitions; they only grow.
    pub partitions: u32,
    /// How long messages are kept.
    pub retention: Retention,
    /// How many bytes each partition keeps at least, as its batches lie in the log; what lies
    /// before them is hidden. None: no limit.
    pub retention_bytes: Option<u64>,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// How batches are compressed.
    pub compression: Compression,
    /// The largest message, key and headers included, in bytes.
    pub max_message_bytes: u32,
    /// Where messages without a key go.
    pub keyless: Keyless,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            partitions: 4,
            retention: Retention::For(Duration::from_secs(7 * 24 * 3_600)),
            retention_bytes: None,
            durability: Durability::Local,
            compression: Compression::None,
            max_message_bytes: super::limits::MESSAGE_BYTES_DEFAULT,
            keyless: Keyless::Sticky,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_lies_in_the_shortest_class_that_is_not_shorter() {
        let class = |hours: u64| Retention::For(Duration::from_secs(hours * 3_600)).class();
        assert_eq!(class(1), RetentionClass::Hour);
        assert_eq!(class(2), RetentionClass::Day);
        assert_eq!(class(7 * 24), RetentionClass::Week);
        assert_eq!(class(7 * 24 + 1), RetentionClass::Month);
        assert_eq!(class(24 * 31), RetentionClass::Forever);
        assert_eq!(Retention::Forever.class(), RetentionClass::Forever);
    }
}
