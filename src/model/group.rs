//! What a member of a consumer group asks for.

use super::{name::InvalidName, name::Name};

/// Where a group begins to read partitions that exist at its first join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first message that is still there.
    Earliest,
    /// Behind the last message.
    Latest,
}

impl Start {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
        }
    }

    /// The start of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Earliest, Self::Latest].into_iter().find(|start| start.as_str() == word)
    }
}

/// A topic's name, or a pattern of names: segments between dots, of which `*` stands for any one
/// and a last `**` for all that follow, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern(Box<str>);

/// Why a text is neither a name nor a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// What stands between the stars is no name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A star beside other characters, or `**` before the end.
    #[error("`*` stands for one whole segment between dots, `**` for all at the end")]
    Star,
}

impl TopicPattern {
    /// Checks `text` against the rules above.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let segments: Vec<&str> = text.split('.').collect();
        let last = segments.len() - 1;
        for (at, segment) in segments.iter().enumerate() {
            let is_star = *segment == "*" || (*segment == "**" && at == last);
            if segment.contains('*') && !is_star {
                return Err(InvalidPattern::Star);
            }
        }
        // A letter for each star leaves a name where the rest is one.
        Name::parse(&text.replace('*', "x"))?;
        Ok(Self(text.into()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one topic's name.
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether a topic's name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut names = name.split('.');
        for segment in self.0.split('.') {
            match (segment, names.next()) {
                ("**", Some(_)) => return true,
                (_, None) => return false,
                ("*", Some(_)) => {}
                (segment, Some(name)) if segment != name => return false,
                _ => {}
            }
        }
        names.next().is_none()
    }

    /// The same as a POSIX regular expression.
    pub fn regex(&self) -> String {
        let segment = |segment: &str| match segment {
            "*" => "[^.]+".to_owned(),
            "**" => ".+".to_owned(),
            literal => literal.to_owned(),
        };
        let segments: Vec<String> = self.0.split('.').map(segment).collect();
        // Names hold no character that means anything in a regular expression but the dot.
        format!("^{}$", segments.join("\\."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> TopicPattern {
        TopicPattern::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn a_star_stands_for_one_segment_and_two_for_the_rest() {
        for (text, is, is_not) in [
            ("orders", vec!["orders"], vec!["orders.eu", "order", "xorders"]),
            ("audit.*", vec!["audit.a", "audit.b-1"], vec!["audit", "audit.a.b", "xaudit.a"]),
            ("audit.**", vec!["audit.a", "audit.a.b"], vec!["audit", "audits.a"]),
            ("*.eu", vec!["orders.eu"], vec!["eu", "a.b.eu", "orders.us"]),
            ("**", vec!["a", "a.b.c"], vec![]),
        ] {
            let pattern = pattern(text);
            let regex = regex::Regex::new(&pattern.regex()).expect("a regular expression");
            for name in is {
                assert!(pattern.matches(name) && regex.is_match(name), "{text} is {name}");
            }
            for name in is_not {
                assert!(!pattern.matches(name) && !regex.is_match(name), "{text} is not {name}");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        for text in ["aud*", "a.**.b", "***", "a.*b", "a/*"] {
            assert_eq!(TopicPattern::parse(text), Err(InvalidPattern::Star), "{text}");
        }
        for text in ["", "_a", ".a", "a b", "a/b.*"] {
            assert!(matches!(TopicPattern::parse(text), Err(InvalidPattern::Name(_))), "{text}");
        }
    }
}
