//! A topic's settings as clients write them, checked field by field.

use serde::Deserialize;
use utoipa::ToSchema;

use super::topics::written;
use crate::{
    api::error::{ErrorCode, FieldError, Problem},
    api::message::Field,
    model::{
        duration, limits,
        topic::{Compression, Durability, Keyless, Retention, TopicSettings},
    },
};

/// Settings of a topic. Every field is optional.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TopicSettings)]
pub struct TopicPatch {
    /// How many partitions, 1 to 1024; they only grow.
    #[serde(default)]
    #[schema(value_type = u32, required = false, default = 4, minimum = 1, maximum = 1024)]
    partitions: Field<Option<u32>>,
    /// How long messages are kept at least: a duration such as `7d`, or `forever`.
    #[serde(default)]
    #[schema(value_type = String, required = false, default = "7d")]
    retention: Field<Option<String>>,
    /// How many bytes each partition keeps, as they lie in the log: batches that lie wholly
    /// before the newest so many are hidden. `null` is no limit.
    #[serde(default)]
    #[schema(value_type = Option<u64>, required = false, minimum = 1)]
    retention_bytes: Field<Option<u64>>,
    /// What an acknowledgement means: `local` (committed and on the disk of the database) or
    /// `replicated` (also on that of a synchronous standby).
    #[serde(default)]
    #[schema(value_type = String, required = false, default = "local")]
    durability: Field<Option<String>>,
    /// How messages are compressed in the log: `none`, `lz4` or `zstd`.
    #[serde(default)]
    #[schema(value_type = String, required = false, default = "none")]
    compression: Field<Option<String>>,
    /// The largest message in bytes, key and headers included; 1 to 16777216.
    #[serde(default)]
    #[schema(value_type = u32, required = false, default = 1048576)]
    max_message_bytes: Field<Option<u32>>,
    /// Where messages without a key go: `sticky` or `round_robin`.
    #[serde(default)]
    #[schema(value_type = String, required = false, default = "sticky")]
    keyless: Field<Option<String>>,
}

fn invalid(pointer: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::Invalid, detail).at(pointer)
}

/// What a named setting shall be: `null` is the default.
fn named<T: Clone>(field: &Field<Option<T>>, default: T) -> Option<T> {
    field.as_ref().map(|value| value.clone().unwrap_or(default))
}

/// The settings that result when `patch` is laid over `standing`.
pub(super) fn patched(
    standing: &TopicSettings,
    patch: &TopicPatch,
) -> Result<TopicSettings, Problem> {
    let default = TopicSettings::default();
    let mut wanted = standing.clone();
    if let Some(partitions) = named(&patch.partitions, default.partitions) {
        if partitions == 0 || partitions > limits::PARTITIONS_MAX {
            let detail = format!("a topic has 1 to {} partitions", limits::PARTITIONS_MAX);
            return Err(invalid("/partitions", detail));
        }
        wanted.partitions = partitions;
    }
    if let Some(text) = named(&patch.retention, written(default.retention)) {
        wanted.retention = retention(&text)?;
    }
    if let Some(bytes) = patch.retention_bytes.as_ref() {
        if bytes.is_some_and(|bytes| bytes == 0 || bytes > limits::RETENTION_BYTES_MAX) {
            let detail = format!("retention_bytes is 1 to {}", limits::RETENTION_BYTES_MAX);
            return Err(invalid("/retention_bytes", detail));
        }
        wanted.retention_bytes = *bytes;
    }
    if let Some(word) = named(&patch.durability, default.durability.as_str().to_owned()) {
        wanted.durability = durability(&word)?;
    }
    if let Some(word) = named(&patch.compression, default.compression.as_str().to_owned()) {
        wanted.compression = Compression::parse(&word)
            .ok_or_else(|| invalid("/compression", "compression is none, lz4 or zstd"))?;
    }
    if let Some(bytes) = named(&patch.max_message_bytes, default.max_message_bytes) {
        if bytes == 0 || bytes > limits::MESSAGE_BYTES_MAX {
            let detail = format!("max_message_bytes is 1 to {}", limits::MESSAGE_BYTES_MAX);
            return Err(invalid("/max_message_bytes", detail));
        }
        wanted.max_message_bytes = bytes;
    }
    if let Some(word) = named(&patch.keyless, default.keyless.as_str().to_owned()) {
        wanted.keyless = Keyless::parse(&word)
            .ok_or_else(|| invalid("/keyless", "keyless is sticky or round_robin"))?;
    }
    Ok(wanted)
}

/// The settings that result for a topic that stands, whose partitions cannot become fewer.
pub(super) fn regrown(
    standing: &TopicSettings,
    patch: &TopicPatch,
) -> Result<TopicSettings, Problem> {
    if matches!(patch.partitions.as_ref(), Some(None)) {
        let detail = "partitions only grow: they do not go back to a default";
        return Err(invalid("/partitions", detail));
    }
    let wanted = patched(standing, patch)?;
    if wanted.partitions < standing.partitions {
        let detail = format!("partitions only grow: there are {} now", standing.partitions);
        return Err(invalid("/partitions", detail));
    }
    Ok(wanted)
}

fn retention(text: &str) -> Result<Retention, Problem> {
    if text == "forever" {
        return Ok(Retention::Forever);
    }
    let keep = duration::parse(text).map_err(|why| invalid("/retention", why.to_string()))?;
    if keep.is_zero() {
        return Err(invalid("/retention", "messages are kept for a while or forever"));
    }
    Ok(Retention::For(keep))
}

fn durability(word: &str) -> Result<Durability, Problem> {
    match word {
        "local" => Ok(Durability::Local),
        "replicated" => Ok(Durability::Replicated),
        _ => Err(invalid("/durability", "durability is local or replicated")),
    }
}

/// Each setting that `patch` names and that stands otherwise.
pub(super) fn differences(standing: &TopicSettings, patch: &TopicPatch) -> Vec<FieldError> {
    let Ok(wanted) = patched(standing, patch) else { return Vec::new() };
    let mut found = Vec::new();
    let mut compare = |name: &str, stands: String, named: String| {
        if stands != named {
            let detail = format!("{name} is {stands}, not {named}");
            found.push(FieldError { pointer: format!("/{name}"), detail });
        }
    };
    compare("partitions", standing.partitions.to_string(), wanted.partitions.to_string());
    compare("retention", written(standing.retention), written(wanted.retention));
    let bytes = |settings: &TopicSettings| {
        settings.retention_bytes.map_or("null".to_owned(), |bytes| bytes.to_string())
    };
    compare("retention_bytes", bytes(standing), bytes(&wanted));
    compare("durability", standing.durability.as_str().into(), wanted.durability.as_str().into());
    let (stands, named) = (standing.compression.as_str(), wanted.compression.as_str());
    compare("compression", stands.into(), named.into());
    compare(
        "max_message_bytes",
        standing.max_message_bytes.to_string(),
        wanted.max_message_bytes.to_string(),
    );
    compare("keyless", standing.keyless.as_str().into(), wanted.keyless.as_str().into());
    found
}
