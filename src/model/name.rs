//! Names of topics, queues, groups and exchanges.

use super::limits;

/// A valid resource name: 1 to 255 of `[A-Za-z0-9._~-]`, not starting with `_` or `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

/// Why a string is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It has no character at all.
    #[error("a name has at least one character")]
    Empty,
    /// It has more than [`limits::NAME_CHARS_MAX`] characters.
    #[error("a name has at most {} characters", limits::NAME_CHARS_MAX)]
    TooLong,
    /// It starts with `_` or `.`, which are kept for the service itself.
    #[error("a name does not start with '_' or '.'")]
    ReservedStart,
    /// It holds something other than letters, digits and `. _ ~ -`.
    #[error("a name holds only letters, digits, '.', '_', '~' and '-'")]
    ForbiddenCharacter,
}

impl Name {
    /// Checks `text` against the rules above.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let first = *text.as_bytes().first().ok_or(InvalidName::Empty)?;
        if text.len() > limits::NAME_CHARS_MAX {
            return Err(InvalidName::TooLong);
        }
        if first == b'_' || first == b'.' {
            return Err(InvalidName::ReservedStart);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
        if !text.bytes().all(allowed) {
            return Err(InvalidName::ForbiddenCharacter);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_the_rules() {
        for good in ["a", "orders.eu-1", "A~b_c", &"x".repeat(255), "0"] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", InvalidName::Empty),
            (&*"x".repeat(256), InvalidName::TooLong),
            ("_internal", InvalidName::ReservedStart),
            (".", InvalidName::ReservedStart),
            ("a b", InvalidName::ForbiddenCharacter),
            ("a/b", InvalidName::ForbiddenCharacter),
            ("a\0", InvalidName::ForbiddenCharacter),
            ("é", InvalidName::ForbiddenCharacter),
        ] {
            assert_eq!(Name::parse(bad), Err(why), "{bad}");
        }
    }
}
