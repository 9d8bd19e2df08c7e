//! Every bound of the service, in one place. `GET /v1/limits` tells those that a client can meet.

use std::time::Duration;

/// Characters of a resource name.
pub const NAME_CHARS_MAX: usize = 255;
/// Messages of one publish request.
pub const BATCH_MESSAGES_MAX: usize = 10_000;
/// Bytes of one request body, after decoding.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one message (key, value and headers) unless its topic says otherwise.
pub const MESSAGE_BYTES_DEFAULT: u32 = 1024 * 1024;
/// The most that a topic may allow for one message.
pub const MESSAGE_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Bytes of all headers of one message.
pub const MESSAGE_HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// How deeply a JSON value may be nested.
pub const JSON_DEPTH_MAX: usize = 127;
/// Lines of NDJSON that are committed together.
pub const NDJSON_COMMIT_LINES: usize = 1_000;
/// Offsets, and sequences of producers, are below this: every JSON parser keeps them whole.
pub const OFFSET_MAX: i64 = 1 << 53;
/// Sequences of a producer, from the newest down, that are answered again.
pub const PRODUCER_WINDOW: i64 = 64;
/// Characters of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// How long what was done once is answered again.
pub const CLAIM_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Partitions of one topic.
pub const PARTITIONS_MAX: u32 = 1_024;
/// Bytes that a partition can be told to keep: JSON readers keep whole numbers below it exact.
pub const RETENTION_BYTES_MAX: u64 = 1 << 53;
/// Messages that one read may ask for.
pub const READ_MESSAGES_MAX: u32 = 10_000;
/// Messages of a read that does not say.
pub const READ_MESSAGES_DEFAULT: u32 = 500;
/// Bytes of records that one read fetches; a page may hold fewer messages than asked for.
pub const READ_BYTES_MAX: i64 = 4 * 1024 * 1024;
/// How long a read may wait for a message.
pub const READ_WAIT_MAX: Duration = Duration::from_secs(30);
/// Items of one page of a list.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// Items of a page that does not say.
pub const PAGE_SIZE_DEFAULT: u32 = 100;

/// Bytes of a request target.
pub const URI_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of a request.
pub const HEAD_FIELDS_MAX: usize = 100;
/// From the first byte of a request's head to its last, and from connecting to the first byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a kept-alive connection may rest between requests; above nginx's 60 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may take none of the bytes that wait for it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections of one node.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Sockets that one address has on a node, where trusted proxies are named: only then does a node
/// know its clients' addresses. One network of IPv6 (/64) counts as one address.
pub const SOCKETS_PER_ADDRESS_MAX: u32 = 1_024;
/// Bytes of bodies that a node reads at the same time.
pub const BODIES_BYTES_MAX: usize = 96 * 1024 * 1024;

/// How long a publish waits for the database before it is told so.
pub const PUBLISH_WAIT_MAX: Duration = Duration::from_secs(4);
/// How long a publish may take from its arrival in a slot to its answer, whatever that is.
pub const PUBLISH_ANSWER_MAX: Duration = Duration::from_millis(4_500);
/// Requests that wait until a synchronous standby confirms what was committed before.
pub const CONFIRMATIONS_MAX: usize = 16_384;
/// Messages that wait in one slot for the next flush.
pub const SLOT_MESSAGES_MAX: usize = 200_000;
/// Bytes that wait in one slot for the next flush.
pub const SLOT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of keyless messages that go to one partition before the next takes its turn.
pub const STICKY_BYTES: u64 = 16 * 1024;
/// Bytes of one flush; a single request may exceed it alone.
pub const FLUSH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Messages of one flush; a single request may exceed it alone.
pub const FLUSH_MESSAGES_MAX: usize = 50_000;
/// Parts (a request and a partition) of one flush; a single request may exceed it alone.
pub const FLUSH_PARTS_MAX: usize = 4_096;
/// Bytes of recent batches that a node keeps for tail reads.
pub const TAIL_CACHE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Batches that a node keeps for tail reads, however small they are.
pub const TAIL_CACHE_BATCHES_MAX: usize = 50_000;
/// Pages that a node holds for readers that go through a backlog.
pub const AHEAD_PAGES_MAX: usize = 8;
/// Topics of one tenant that a node keeps in memory.
pub const CACHED_TOPICS_MAX: usize = 100_000;
/// Connections to the database for everything but flushes.
pub const DATABASE_CONNECTIONS: u32 = 6;
/// How long a request waits for a database connection.
pub const DATABASE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request waits for the database's answer, a connection included.
pub const DATABASE_ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a change of a topic waits for those before it.
pub const CATALOG_TURN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one host of a database URL may take to let a session in.
pub const DATABASE_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a node asks what other nodes appended.
pub const WAKE_INTERVAL: Duration = Duration::from_millis(250);
/// Between two words of a node to the others, and between two looks because of such words.
pub const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);
/// How often a node says that it lives.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// A node that was not heard of for so long counts as silent.
pub const NODE_SILENCE: Duration = Duration::from_secs(15);
/// How long other nodes can learn of an append from its wake.
pub const WAKE_KEPT: Duration = Duration::from_secs(60);
/// How long a node still takes new requests after it was told to stop.
pub const LEAVE_TIME: Duration = Duration::from_millis(500);
/// Topics and patterns that one member of a group may name.
pub const GROUP_TOPICS_MAX: usize = 100;
/// Members of one group.
pub const GROUP_MEMBERS_MAX: usize = 1_000;
/// Offsets of one commit, and entries of one `revoked`.
pub const GROUP_OFFSETS_MAX: usize = 10_000;
/// The shortest time for which a member may be silent.
pub const SESSION_TIMEOUT_MIN: Duration = Duration::from_secs(3);
/// The longest time for which a member may be silent.
pub const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// For how long a member may be silent that does not say.
pub const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How long a poll of a group waits that does not say; at most [`READ_WAIT_MAX`] and a third of
/// the session timeout.
pub const POLL_WAIT_DEFAULT: Duration = Duration::from_secs(20);
/// How often a node writes down which members it heard.
pub const BEAT_INTERVAL: Duration = Duration::from_millis(500);
/// How often a node looks for groups that have something to be repaired.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long a node goes on serving after it was told to stop.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Sockets hold this many subscriptions.
pub const SOCKET_SUBSCRIPTIONS_MAX: usize = 1_000;
/// Partitions that all subscriptions of a socket read together.
pub const SOCKET_PARTITIONS_MAX: usize = 10_000;
/// Topics and patterns of one subscription.
pub const SUBSCRIPTION_TOPICS_MAX: usize = 100;
/// Characters of a subscription's name.
pub const SUBSCRIPTION_NAME_CHARS_MAX: usize = 255;
/// Messages of credit of a subscription that does not say.
pub const CREDIT_MESSAGES_DEFAULT: i64 = 1_000;
/// Messages of credit that a subscription may have.
pub const CREDIT_MESSAGES_MAX: i64 = 1_000_000;
/// Bytes of credit of a subscription that does not say.
pub const CREDIT_BYTES_DEFAULT: i64 = 8 * 1024 * 1024;
/// Bytes of credit that a subscription may have.
pub const CREDIT_BYTES_MAX: i64 = 1024 * 1024 * 1024;
/// Bytes of messages in one frame, unless one message is larger.
pub const FRAME_ITEMS_BYTES: usize = 64 * 1024;
/// Publishes, commits and other requests of one socket that are not answered yet; more are not
/// read from it.
pub const SOCKET_REQUESTS_MAX: usize = 1_024;
/// Bytes of publishes of one socket that are not answered yet; a single one may exceed it alone.
pub const SOCKET_REQUESTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of answers that wait for one socket; with more, nothing is read from it.
pub const SOCKET_OUT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of unfinished frames of all sockets of a node, of what each has beyond 64 KiB.
pub const SOCKETS_UNFINISHED_BYTES_MAX: usize = 96 * 1024 * 1024;
/// Producers of one socket and topic whose turn is kept.
pub const SOCKET_PRODUCERS_MAX: usize = 256;
/// Between two pings of a socket without a group.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// Pings and pongs that a client may send in one ping interval.
pub const SOCKET_CONTROL_FRAMES_MAX: u32 = 250;
/// How often a filtered subscription tells how far it has come.
pub const POSITION_INTERVAL: Duration = Duration::from_secs(5);
/// Between two comments of an event stream.
pub const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// Bytes that a reader keeps of one partition for all its consumers.
pub const FEED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Pages of consumers that are behind, which a node holds at the same time.
pub const STREAM_PAGES_MAX: usize = 16;
