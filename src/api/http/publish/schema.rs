//! What a publish looks like, for the description of the interface.

use serde::Serialize;
use utoipa::ToSchema;

/// Where one message stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishResult {
    /// The number of the partition.
    partition: u32,
    /// Its place there.
    offset: i64,
}

/// The answer to a publish.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishAnswer {
    /// One for each message, in the order of the request.
    results: Vec<PublishResult>,
    /// What the acknowledgement means.
    #[schema(example = "local")]
    durability: String,
    /// Present and true where the request was appended when it came before, by its producer.
    #[schema(required = false)]
    duplicate: bool,
}

/// The body of a publish, for the description of the interface.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Publish)]
pub struct PublishSchema {
    /// 1 to 10000 messages, appended together or not at all.
    messages: Vec<NewMessage>,
    /// Makes the request one that can be sent again: for 24 hours a repeat of one of the last 64
    /// sequences gets the first answer, with `duplicate`.
    #[schema(required = false)]
    producer: ProducerSchema,
    /// Appended only if the first message gets this offset, else `wrong_offset`, which names the
    /// next one. All messages go to one partition.
    #[schema(required = false)]
    expect_offset: i64,
}

/// Who publishes, and the how manieth of its requests to this topic this is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Producer)]
pub struct ProducerSchema {
    /// A UUID that the client chose for this producer.
    #[schema(format = "uuid")]
    id: String,
    /// Rises by one with every request. At most 64 requests are under way, counted from the
    /// oldest that is not acknowledged.
    #[schema(minimum = 0, maximum = 9007199254740991_i64)]
    sequence: i64,
}

/// A message to publish. At most one of `value`, `value_text` and `value_base64`; none of them is
/// a tombstone.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewMessage {
    /// Messages of one key go to one partition and keep their order.
    #[schema(required = false)]
    key: String,
    /// A key of bytes.
    #[schema(required = false)]
    key_base64: String,
    /// Any JSON value, kept byte for byte.
    #[schema(required = false)]
    value: serde_json::Value,
    /// A string.
    #[schema(required = false)]
    value_text: String,
    /// Bytes.
    #[schema(required = false)]
    value_base64: String,
    /// A string, `{"base64": …}`, or an array of these, by name.
    #[schema(required = false)]
    headers: std::collections::BTreeMap<String, serde_json::Value>,
    /// The partition, where the key shall not choose it.
    #[schema(required = false)]
    partition: u32,
}
