//! The `log` of an answer: which topic's history its offsets belong to. Who sends it back is told
//! when they may mean other messages now.

use std::fmt;

use crate::{
    api::error::{ErrorCode, Problem},
    catalog::Topic,
    model::{TopicId, topic::Durability},
    store::Incarnation,
};

/// A topic, and the incarnation of the log that it was read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogToken {
    topic: TopicId,
    durability: Durability,
    incarnation: Option<Incarnation>,
}

impl fmt::Display for LogToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let durability = self.durability.as_str().get(..1).unwrap_or_default();
        write!(f, "{:x}-{durability}", self.topic.0)?;
        self.incarnation.map_or(Ok(()), |incarnation| write!(f, "-{incarnation}"))
    }
}

impl LogToken {
    /// Of a topic as it was read.
    pub fn of(topic: &Topic) -> Self {
        let (durability, incarnation) = (topic.settings.durability, topic.incarnation);
        Self { topic: topic.id, durability, incarnation }
    }

    /// As it is written.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let token = || {
            let (topic, rest) = text.split_once('-')?;
            let (durability, incarnation) = match rest.split_once('-') {
                Some((durability, incarnation)) => (durability, Some(incarnation.parse().ok()?)),
                None => (rest, None),
            };
            let durability = match durability {
                "l" => Durability::Local,
                "r" => Durability::Replicated,
                _ => return None,
            };
            let topic = TopicId(i64::from_str_radix(topic, 16).ok()?);
            Some(Self { topic, durability, incarnation })
        };
        let wrong = || Problem::new(ErrorCode::Invalid, "this is no `log` of an answer").at("?log");
        token().ok_or_else(wrong)
    }

    /// Whether offsets that were read under `self` mean the same under `now`. What a standby had
    /// to hold is still there after it took over; what is `local` may have lost its end, and then
    /// grown again.
    pub fn check(self, now: Self) -> Result<(), Problem> {
        if self.topic != now.topic {
            let detail = "the topic was deleted and made again: its offsets begin at 0";
            return Err(Problem::new(ErrorCode::TopicRecreated, detail));
        }
        let was_held = [self, now].iter().all(|at| at.durability == Durability::Replicated);
        if self.incarnation != now.incarnation && !was_held {
            let detail = "the database failed over: messages at the end of a `local` topic may be \
                          gone, and others may stand at their offsets";
            return Err(Problem::new(ErrorCode::LogTruncated, detail).fact("log", now.to_string()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(topic: i64, durability: Durability, timeline: u32) -> LogToken {
        let incarnation = Some(Incarnation { system: 7, timeline });
        LogToken { topic: TopicId(topic), durability, incarnation }
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        let local = token(31, Durability::Local, 2);
        assert_eq!(local.to_string(), "1f-l-7-00000002");
        let unknown = LogToken { incarnation: None, ..token(1, Durability::Replicated, 1) };
        for token in [local, unknown] {
            assert_eq!(LogToken::parse(&token.to_string()).ok(), Some(token));
        }
        for wrong in ["", "1", "1-", "1-x", "g-l", "1-l-", "1-l-7", "1-l-7-00000002-"] {
            assert!(LogToken::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_was_held_outlives_a_failover() {
        let (local, held) = (Durability::Local, Durability::Replicated);
        let code = |was: LogToken, now: LogToken| was.check(now).err().map(|why| why.code);
        assert_eq!(code(token(1, local, 1), token(1, local, 1)), None);
        assert_eq!(code(token(1, held, 1), token(1, held, 2)), None);
        for (was, now) in [(local, local), (local, held), (held, local)] {
            let told = code(token(1, was, 1), token(1, now, 2));
            assert_eq!(told, Some(ErrorCode::LogTruncated));
        }
        let told = code(token(1, held, 1), token(2, held, 1));
        assert_eq!(told, Some(ErrorCode::TopicRecreated));
    }
}
