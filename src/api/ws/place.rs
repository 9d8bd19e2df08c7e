//! Where a subscription begins: `from` and `log` as clients write them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    api::{
        error::{ErrorCode, Problem},
        http::{LogToken, position},
    },
    catalog::Topic,
    log::Position,
    model::Name,
};

/// Where the partitions of a topic begin.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::api) enum From {
    /// All alike.
    All(Position),
    /// Each where it says; those it does not name are read from their beginning.
    Each(BTreeMap<u32, i64>),
    /// The same for each topic by its name.
    Topics(BTreeMap<String, BTreeMap<u32, i64>>),
}

fn invalid(detail: &str) -> Problem {
    Problem::new(ErrorCode::Invalid, detail).at("/from")
}

impl From {
    /// What a client wrote; `latest` where it wrote nothing.
    pub(super) fn parse(written: Option<&Value>) -> Result<Self, Problem> {
        let wrong = || {
            invalid(
                "from is earliest, latest, an offset, an RFC 3339 time, offsets by partition, or \
                 these by topic",
            )
        };
        match written {
            None | Some(Value::Null) => Ok(Self::All(Position::Latest)),
            Some(Value::String(text)) => position(text).map(Self::All).map_err(|_| wrong()),
            Some(Value::Number(number)) => {
                let offset = number.as_i64().ok_or_else(wrong)?;
                Ok(Self::All(Position::Offset(offset)))
            }
            Some(Value::Object(entries)) if entries.values().all(Value::is_object) => {
                let topic = |(name, each): (&String, &Value)| {
                    let each = each.as_object().ok_or_else(wrong)?;
                    Ok((name.clone(), offsets(each).ok_or_else(wrong)?))
                };
                Ok(Self::Topics(entries.iter().map(topic).collect::<Result<_, Problem>>()?))
            }
            Some(Value::Object(entries)) => Ok(Self::Each(offsets(entries).ok_or_else(wrong)?)),
            Some(Value::Bool(_) | Value::Array(_)) => Err(wrong()),
        }
    }

    /// Where a partition of a topic begins.
    pub(super) fn of(&self, topic: &str, partition: u32) -> Position {
        let each = match self {
            Self::All(position) => return *position,
            Self::Each(each) => Some(each),
            Self::Topics(topics) => topics.get(topic),
        };
        match each.and_then(|each| each.get(&partition)) {
            Some(offset) => Position::Offset(*offset),
            None => Position::Earliest,
        }
    }

    /// Whether a client says where it stands in this very topic.
    pub(super) fn names(&self, topic: &str) -> bool {
        matches!(self, Self::Topics(topics) if topics.contains_key(topic))
    }
}

fn offsets(written: &serde_json::Map<String, Value>) -> Option<BTreeMap<u32, i64>> {
    written.iter().map(|(key, value)| Some((key.parse().ok()?, value.as_i64()?))).collect()
}

/// The histories that a client's positions belong to: a token, or several, each behind its
/// topic's name.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct Logs(Vec<(Option<String>, LogToken)>);

impl Logs {
    /// As they are written.
    pub(in crate::api) fn parse(text: &str) -> Result<Self, Problem> {
        let one = |part: &str| {
            let (name, token) = match part.split_once(':') {
                Some((name, token)) => (Some(name.to_owned()), token),
                None => (None, part),
            };
            Ok((name, LogToken::parse(token)?))
        };
        // Patterns that meant nothing yet were told the histories of nothing.
        text.split(',')
            .filter(|_| !text.is_empty())
            .map(one)
            .collect::<Result<_, Problem>>()
            .map(Self)
    }

    /// The history that a client read a topic in, if it says so.
    pub(in crate::api) fn of(&self, topic: &Name) -> Option<LogToken> {
        let found = self.0.iter().find(|(name, _)| match name {
            Some(name) => name == topic.as_str(),
            None => self.0.len() == 1,
        });
        found.map(|(_, token)| *token)
    }

    /// The histories of topics as they stand, as text; `named` says whether each is behind its
    /// topic's name: only where there is one topic and never another may it lack it.
    pub(in crate::api) fn write(topics: impl Iterator<Item = Arc<Topic>>, named: bool) -> String {
        let one = |topic: Arc<Topic>| match named {
            true => format!("{}:{}", topic.name, LogToken::of(&topic)),
            false => LogToken::of(&topic).to_string(),
        };
        topics.map(one).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_every_way_to_say_where() {
        let of = |written: Value, topic, partition| {
            From::parse(Some(&written)).map(|from| from.of(topic, partition)).ok()
        };
        assert_eq!(From::parse(None).ok(), Some(From::All(Position::Latest)));
        assert_eq!(of(json!("earliest"), "a", 3), Some(Position::Earliest));
        assert_eq!(of(json!(41), "a", 3), Some(Position::Offset(41)));
        assert_eq!(of(json!("41"), "a", 3), Some(Position::Offset(41)));
        assert!(matches!(of(json!("2026-11-24T10:00:00Z"), "a", 3), Some(Position::Time(_))));
        assert_eq!(of(json!({"0": 41}), "a", 0), Some(Position::Offset(41)));
        assert_eq!(of(json!({"0": 41}), "a", 1), Some(Position::Earliest));
        assert_eq!(of(json!({"a": {"1": 7}}), "a", 1), Some(Position::Offset(7)));
        assert_eq!(of(json!({"a": {"1": 7}}), "b", 1), Some(Position::Earliest));
        assert_eq!(of(json!({}), "a", 0), Some(Position::Earliest));
        for wrong in [json!(true), json!("soon"), json!([1]), json!({"x": 1}), json!({"0": "1"})] {
            assert!(From::parse(Some(&wrong)).is_err(), "{wrong}");
        }
    }
}
