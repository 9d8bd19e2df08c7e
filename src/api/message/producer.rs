//! Who publishes, as a client writes it.

use serde::{Deserialize, Deserializer, de::Error};
use uuid::Uuid;

use super::write::Text;
use crate::{
    api::error::{ErrorCode, Problem},
    model::limits,
};

/// An idempotent producer, and the how manieth of its requests this is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProducerIn {
    /// Chosen by the client, once for each of its producers.
    #[serde(deserialize_with = "uuid")]
    pub id: Uuid,
    /// Rises by one with every request to one topic.
    pub sequence: i64,
}

fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    let Text(text) = Text::deserialize(deserializer)?;
    Uuid::try_parse(&text).map_err(|_| D::Error::custom("a producer's id is a UUID"))
}

impl ProducerIn {
    /// Refuses a sequence that is none.
    pub(super) fn checked(self) -> Result<Self, Problem> {
        if (0..limits::OFFSET_MAX).contains(&self.sequence) {
            return Ok(self);
        }
        let detail = "a sequence is a number from 0 to 2^53 - 1";
        Err(Problem::new(ErrorCode::Invalid, detail).at("/producer/sequence"))
    }
}
