//! What a client has allowed the node to send: only the client adds to it, and nothing is sent
//! beyond it.

use crate::{
    api::error::{ErrorCode, Problem},
    model::limits,
};

/// What may still be sent of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Credit {
    pub(super) messages: i64,
    pub(super) bytes: i64,
    /// What `bytes` began with, and is again when a client adds messages alone.
    window: i64,
}

fn within(value: i64, most: i64, pointer: &str) -> Result<i64, Problem> {
    if (0..=most).contains(&value) {
        return Ok(value);
    }
    Err(Problem::new(ErrorCode::Invalid, format!("this is 0 to {most}")).at(pointer))
}

impl Credit {
    /// What a subscription begins with.
    pub(super) fn new(messages: Option<i64>, bytes: Option<i64>) -> Result<Self, Problem> {
        let messages = messages.unwrap_or(limits::CREDIT_MESSAGES_DEFAULT);
        let messages = within(messages, limits::CREDIT_MESSAGES_MAX, "/credit")?;
        let bytes = bytes.unwrap_or(limits::CREDIT_BYTES_DEFAULT);
        let bytes = within(bytes, limits::CREDIT_BYTES_MAX, "/credit_bytes")?;
        Ok(Self { messages, bytes, window: bytes })
    }

    /// Adds what a client says. Over the bounds nothing is added.
    pub(super) fn add(&mut self, messages: Option<i64>, bytes: Option<i64>) -> Result<(), Problem> {
        let (messages_max, bytes_max) = (limits::CREDIT_MESSAGES_MAX, limits::CREDIT_BYTES_MAX);
        let added = within(messages.unwrap_or(0), messages_max, "/messages")?;
        let messages = within(self.messages + added, messages_max, "/messages")?;
        let bytes = match bytes {
            Some(bytes) => {
                let added = within(bytes, bytes_max, "/bytes")?;
                within(self.bytes + added, bytes_max, "/bytes")?
            }
            None => self.bytes.max(self.window),
        };
        (self.messages, self.bytes) = (messages, bytes);
        Ok(())
    }

    /// Whether anything may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.messages > 0 && self.bytes > 0
    }

    /// Takes what is sent.
    pub(super) fn take(&mut self, messages: usize, bytes: usize) {
        self.messages -= messages as i64;
        self.bytes -= bytes as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_adds_and_only_up_to_the_bound() {
        let mut credit = Credit::new(Some(10), Some(100)).expect("a credit");
        credit.take(10, 90);
        assert!(!credit.is_open());
        credit.add(Some(5), None).expect("more");
        assert_eq!((credit.messages, credit.bytes), (5, 100));
        credit.add(None, Some(7)).expect("more");
        assert_eq!((credit.messages, credit.bytes), (5, 107));
        let before = credit;
        for (messages, bytes, at) in [
            (Some(limits::CREDIT_MESSAGES_MAX - 4), None, "/messages"),
            (Some(i64::MAX), None, "/messages"),
            (Some(-1), None, "/messages"),
            (Some(1), Some(limits::CREDIT_BYTES_MAX), "/bytes"),
            (Some(1), Some(-1), "/bytes"),
        ] {
            let refused = credit.add(messages, bytes).expect_err("too much");
            assert_eq!((refused.code, &*refused.errors[0].pointer), (ErrorCode::Invalid, at));
            assert_eq!(credit, before, "nothing is added");
        }
        credit.add(Some(limits::CREDIT_MESSAGES_MAX - 5), Some(0)).expect("up to the bound");
        assert!(Credit::new(Some(limits::CREDIT_MESSAGES_MAX + 1), None).is_err());
    }
}
