//! What frames look like, for the description of the socket. `op` and `id` are added to each where
//! it is written (`api::asyncapi`); tests prove that nothing else is missing or too much.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::{
    error::ProblemBody,
    http::{
        groups::{AssignmentOut, CommitErrorOut, CommitIn, RevokedIn},
        publish::{NewMessage, ProducerSchema, PublishResult},
    },
};

/// Partitions of topics, each with the next offset to be sent.
type Positions = BTreeMap<String, BTreeMap<String, i64>>;

/// Publishes messages.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishFrame {
    /// The topic.
    topic: String,
    /// 1 to 10000 messages, appended together or not at all.
    messages: Vec<NewMessage>,
    /// Makes the frame one that can be sent again. On a socket a producer's sequences are taken
    /// only in turn: the first sets the count, one above the next expected is `out_of_turn`.
    #[schema(required = false)]
    producer: ProducerSchema,
    /// Appended only if the first message gets this offset, else `wrong_offset`.
    #[schema(required = false)]
    expect_offset: i64,
}

/// Begins a subscription. Without `group` it reads one topic or several from where `from` says;
/// with `group` it is a member of that consumer group.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscribeFrame {
    /// The name by which this socket knows it, 1 to 255 characters.
    sub: String,
    /// One topic; not with `group`.
    #[schema(required = false)]
    topic: String,
    /// Names and patterns of topics, at most 100: `*` stands for one segment between dots, a last
    /// `**` for all that follow.
    #[schema(required = false)]
    topics: Vec<String>,
    /// Where to begin, not with `group`: `latest` (the default), `earliest`, an offset, an RFC 3339
    /// time, offsets by partition, or these by topic. Partitions that are not named are read from
    /// their beginning.
    #[schema(required = false)]
    from: serde_json::Value,
    /// The `log` that came with the positions in `from`: with it, positions that mean nothing any
    /// more are answered with `recovered: false` and not with an error.
    #[schema(required = false)]
    log: String,
    /// How many messages may be sent.
    #[schema(required = false, default = 1000, minimum = 0, maximum = 1000000)]
    credit: i64,
    /// How many bytes of messages may be sent.
    #[schema(required = false, default = 8388608, minimum = 0, maximum = 1073741824)]
    credit_bytes: i64,
    /// Only messages that pass are sent, and `position` tells how far it has looked; not with
    /// `group`.
    #[schema(required = false)]
    filter: Filter,
    /// The consumer group.
    #[schema(required = false)]
    group: String,
    /// The member's own id, which it keeps when it comes back; one is made when it has none.
    #[schema(required = false)]
    member_id: String,
    /// Rises with every join of a member id: a clock in ms, or the last one + 1.
    #[schema(required = false, minimum = 0)]
    generation: i64,
    /// Where the group begins in partitions that exist at its first join: `earliest` or `latest`.
    #[schema(required = false, default = "earliest")]
    start: String,
    /// For how long the member may be silent, `3s` to `10m`.
    #[schema(required = false, default = "30s")]
    session_timeout: String,
}

/// What a message has to be like to be sent: all of it holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct Filter {
    /// Headers that it has with exactly these values.
    #[schema(required = false)]
    headers: BTreeMap<String, String>,
    /// How its key begins.
    #[schema(required = false)]
    key_prefix: String,
}

/// Lets the node send more.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreditFrame {
    /// The subscription.
    sub: String,
    /// Messages beyond those that may be sent already; at most 1000000 in all.
    #[schema(required = false, minimum = 0, maximum = 1000000)]
    messages: i64,
    /// The same in bytes. Without it the bytes are what the subscription began with, again.
    #[schema(required = false, minimum = 0, maximum = 1073741824)]
    bytes: i64,
}

/// Commits offsets of the group.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommitFrame {
    /// The subscription.
    sub: String,
    /// The next offset to read of each partition.
    offsets: Vec<CommitIn>,
}

/// Gives partitions up, as `revoke` asked for it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReleaseFrame {
    /// The subscription.
    sub: String,
    /// The partitions.
    assignments: Vec<RevokedIn>,
    /// Offsets to be committed first.
    #[schema(required = false)]
    offsets: Vec<CommitIn>,
}

/// Ends a subscription; a member leaves its group.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnsubscribeFrame {
    /// The subscription.
    sub: String,
}

/// Asks whether anybody is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct PingFrame {}

/// Messages were published.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishedFrame {
    /// One for each message, in the order of the frame.
    results: Vec<PublishResult>,
    /// What the acknowledgement means.
    #[schema(example = "local")]
    durability: String,
    /// Present and true where the frame was appended when it came before, by its producer.
    #[schema(required = false)]
    duplicate: bool,
}

/// A subscription without group has begun. Comes before any other frame of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscribedFrame {
    /// The subscription.
    sub: String,
    /// The history that its positions belong to; goes into the next `subscribe`.
    log: String,
    /// Where it begins, by topic and partition.
    positions: Positions,
    /// False where what was asked for is not there: it goes on at the low watermark of that.
    recovered: bool,
    /// Why not: `topic_recreated`, `log_truncated` or `offset_out_of_range`.
    #[schema(required = false)]
    reason: String,
}

/// A member has joined its group. Comes before any other frame of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct JoinedFrame {
    /// The subscription.
    sub: String,
    /// The member's id.
    member_id: String,
    /// Its generation.
    generation: i64,
}

/// It is done.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoneFrame {
    /// The subscription.
    sub: String,
    /// Offsets that were not committed; absent where all were.
    #[schema(required = false)]
    commit_errors: Vec<CommitErrorOut>,
}

/// Messages of one partition, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessagesFrame {
    /// The subscription.
    sub: String,
    /// The topic.
    topic: String,
    /// The number of the partition.
    partition: u32,
    /// The epoch that goes into their commit, in a group.
    #[schema(required = false)]
    epoch: i64,
    /// At least one.
    messages: Vec<DeliveredMessage>,
}

/// A message as frames carry it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveredMessage {
    /// Its place in the partition.
    offset: i64,
    /// When it was appended, by the database's clock.
    #[schema(example = "2026-11-24T10:38:00.000Z")]
    timestamp: String,
    /// The key, where it is text.
    #[schema(required = false)]
    key: String,
    /// The key, where it was written as bytes or is no text.
    #[schema(required = false)]
    key_base64: String,
    /// A JSON value, byte for byte as it was written.
    #[schema(required = false)]
    value: serde_json::Value,
    /// A string.
    #[schema(required = false)]
    value_text: String,
    /// Bytes.
    #[schema(required = false)]
    value_base64: String,
    /// Headers: a string, `{"base64": …}`, or an array of these.
    #[schema(required = false)]
    headers: BTreeMap<String, serde_json::Value>,
}

/// How far a filtered subscription has looked; at least every 5 s while it moves.
#[derive(Debug, Serialize, ToSchema)]
pub struct PositionFrame {
    /// The subscription.
    sub: String,
    /// By topic and partition the next offset to be looked at.
    positions: Positions,
}

/// Everything that a member has, each time it changes.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssignedFrame {
    /// The subscription.
    sub: String,
    /// The whole list.
    assignments: Vec<AssignmentOut>,
}

/// What a member is to give up: nothing more of it is sent, and it waits for `release`.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevokeFrame {
    /// The subscription.
    sub: String,
    /// The partitions.
    assignments: Vec<RevokedIn>,
    /// After which time they are taken.
    #[schema(example = "5s")]
    deadline: String,
}

/// What a member has no more.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevokedFrame {
    /// The subscription.
    sub: String,
    /// The partitions.
    assignments: Vec<RevokedIn>,
}

/// A subscription has ended; the others go on.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClosedFrame {
    /// The subscription.
    sub: String,
    /// Why, as REST would say it.
    error: ProblemBody,
}

/// What a frame asked for was not done.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorFrame {
    /// The subscription, where the frame had no `id`.
    #[schema(required = false)]
    sub: String,
    /// Why, as REST would say it.
    error: ProblemBody,
}

/// The node stops. Publishes, commits and releases are served until it closes.
#[derive(Debug, Serialize, ToSchema)]
pub struct DrainingFrame {
    /// When to come back, through any node; not the same for all clients.
    #[schema(example = "1200ms")]
    reconnect_after: String,
}

/// The answer to a ping.
#[derive(Debug, Serialize, ToSchema)]
pub struct PongFrame {}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeSet};

    use serde::{
        Deserialize, Deserializer,
        de::{Error as _, Visitor, value::Error},
        forward_to_deserialize_any,
    };
    use serde_json::Value;

    use super::super::frames;
    use crate::api::{asyncapi, extract::Object};

    /// What nodes name and do not build yet.
    const LATER: [&str; 3] = ["queue", "exchange", "lease"];

    /// Learns the names of a struct's fields, and reads nothing.
    struct Probe<'c>(&'c Cell<&'static [&'static str]>);

    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("no struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            self.0.set(fields);
            Err(Error::custom("nothing is read"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn names(list: &Value) -> BTreeSet<&str> {
        list.as_array().expect("a list").iter().filter_map(Value::as_str).collect()
    }

    /// That the frame has the fields that are described, and needs those that are required.
    fn is_described<T: for<'de> Deserialize<'de>>(document: &Value, name: &str) {
        is_described_by::<T>(document, name, |text| {
            serde_json::from_str::<Object<T>>(text).map(drop).map_err(|why| why.to_string())
        });
    }

    fn is_described_by<'de, T: Deserialize<'de>>(
        document: &Value,
        name: &str,
        read: impl Fn(&str) -> Result<(), String>,
    ) {
        let message = &document["components"]["messages"][name];
        let pointer = message["payload"]["$ref"].as_str().expect("a reference");
        let schema = document.pointer(&pointer[1..]).expect("a schema");
        let (fields, properties) = (Cell::new(&[][..]), schema["properties"].as_object());
        let _ = T::deserialize(Probe(&fields));
        let described: BTreeSet<&str> =
            properties.expect("properties").keys().map(String::as_str).collect();
        let is_built = |field: &&&str| !LATER.contains(field);
        let has: BTreeSet<&str> = fields.get().iter().filter(is_built).copied().collect();
        assert_eq!(has, described, "{name}");

        let (required, example) = (names(&schema["required"]), &message["examples"][0]["payload"]);
        read(&example.to_string()).unwrap_or_else(|why| panic!("{name}: {why}"));
        for field in example.as_object().expect("an object").keys() {
            let mut less = example.clone();
            less.as_object_mut().expect("an object").remove(field);
            // Which of topic, queue and exchange is there is looked at later.
            let is_needed =
                required.contains(field.as_str()) && (name, &**field) != ("publish", "topic");
            assert_eq!(read(&less.to_string()).is_err(), is_needed, "{name} without {field}");
        }
        assert!(required.iter().all(|field| example.get(field).is_some()), "{name}");
    }

    #[test]
    fn what_clients_send_is_described_as_it_is_read() {
        let document: Value = serde_json::from_str(&asyncapi::document()).expect("JSON");
        let publish = |text: &str| {
            let read = serde_json::from_str::<Object<frames::PublishFrame<'_>>>(text);
            read.map(drop).map_err(|why| why.to_string())
        };
        is_described_by::<frames::PublishFrame<'_>>(&document, "publish", publish);
        is_described::<frames::SubscribeFrame>(&document, "subscribe");
        is_described::<frames::CreditFrame>(&document, "credit");
        is_described::<frames::CommitFrame>(&document, "commit");
        is_described::<frames::ReleaseFrame>(&document, "release");
        is_described::<frames::UnsubscribeFrame>(&document, "unsubscribe");
        is_described::<frames::PingFrame>(&document, "ping");
    }
}
