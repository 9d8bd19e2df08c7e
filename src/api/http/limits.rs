//! `GET /v1/limits`: every limit that a client can meet.

use std::time::Duration;

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{duration, limits};

/// Every limit of this service. Durations are written as `30s`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Limits {
    /// Characters of a resource's name.
    name_chars_max: usize,
    /// Partitions of one topic.
    partitions_max: u32,
    /// Messages of one publish request.
    batch_messages_max: usize,
    /// Bytes of one request body, after decoding.
    body_bytes_max: usize,
    /// Bytes of one message unless its topic says otherwise.
    message_bytes_default: u32,
    /// The most bytes that a topic may allow for one message.
    message_bytes_max: u32,
    /// Bytes of all headers of one message.
    message_headers_bytes_max: usize,
    /// Bytes of a key.
    key_bytes_max: usize,
    /// How deeply a JSON value may be nested.
    json_depth_max: usize,
    /// Lines of NDJSON that are committed together.
    ndjson_commit_lines: usize,
    /// Characters of an `Idempotency-Key`.
    idempotency_key_chars_max: usize,
    /// Sequences of a producer, from its newest down, that are answered again.
    producer_window: i64,
    /// How long what was done once is answered again.
    #[schema(example = "1d")]
    claim_kept: String,
    /// Messages that one read may ask for.
    read_messages_max: u32,
    /// Messages of a read that does not say.
    read_messages_default: u32,
    /// How long a read may wait.
    #[schema(example = "30s")]
    read_wait_max: String,
    /// Topics and patterns that one member of a group may name.
    group_topics_max: usize,
    /// Members of one group.
    group_members_max: usize,
    /// Offsets of one commit.
    group_offsets_max: usize,
    /// The shortest session timeout of a member.
    #[schema(example = "3s")]
    session_timeout_min: String,
    /// The longest session timeout of a member.
    #[schema(example = "10m")]
    session_timeout_max: String,
    /// The session timeout of a member that does not say.
    #[schema(example = "30s")]
    session_timeout_default: String,
    /// How long a poll of a group waits that does not say; at most a third of its session timeout.
    #[schema(example = "20s")]
    poll_wait_default: String,
    /// Items of one page of a list.
    page_size_max: u32,
    /// Items of a page that does not say.
    page_size_default: u32,
    /// Bytes of a request target.
    uri_bytes_max: usize,
    /// Bytes of a request's head.
    head_bytes_max: usize,
    /// Header fields of a request.
    head_fields_max: usize,
    /// How long a request's head may take to arrive.
    #[schema(example = "10s")]
    head_timeout: String,
    /// How long a request's body may take to arrive.
    #[schema(example = "30s")]
    body_timeout: String,
    /// How long a kept-alive connection may rest between requests.
    #[schema(example = "75s")]
    idle_timeout: String,
    /// How long a client may take none of the bytes that wait for it.
    #[schema(example = "30s")]
    write_timeout: String,
    /// How long a publish waits for the database.
    #[schema(example = "4s")]
    publish_wait_max: String,
    /// Connections of one node.
    connections_max: usize,
    /// Sockets of one address on a node that knows its clients' addresses.
    sockets_per_address_max: u32,
    /// Subscriptions of one socket.
    socket_subscriptions_max: usize,
    /// Partitions that all subscriptions of a socket read together.
    socket_partitions_max: usize,
    /// Topics and patterns of one subscription.
    subscription_topics_max: usize,
    /// Requests of one socket that are not answered yet; more are not read from it.
    socket_requests_max: usize,
    /// Producers of one socket for one topic.
    socket_producers_max: usize,
    /// Messages of credit of a subscription that does not say.
    credit_messages_default: i64,
    /// Messages of credit that a subscription may have.
    credit_messages_max: i64,
    /// Bytes of credit of a subscription that does not say.
    credit_bytes_default: i64,
    /// Bytes of credit that a subscription may have.
    credit_bytes_max: i64,
    /// Between two pings of a socket without a group.
    #[schema(example = "25s")]
    ping_interval: String,
    /// Pings and pongs that a client may send between two of these.
    socket_control_frames_max: u32,
}

/// Every limit that a client can meet
#[utoipa::path(get, path = "/v1/limits", operation_id = "get_limits", tag = "limits",
    responses((status = 200, description = "The limits of this node.", body = Limits)))]
pub async fn get_limits() -> Json<Limits> {
    let text = |limit: Duration| duration::format(limit);
    Json(Limits {
        name_chars_max: limits::NAME_CHARS_MAX,
        partitions_max: limits::PARTITIONS_MAX,
        batch_messages_max: limits::BATCH_MESSAGES_MAX,
        body_bytes_max: limits::BODY_BYTES_MAX,
        message_bytes_default: limits::MESSAGE_BYTES_DEFAULT,
        message_bytes_max: limits::MESSAGE_BYTES_MAX,
        message_headers_bytes_max: limits::MESSAGE_HEADERS_BYTES_MAX,
        key_bytes_max: limits::KEY_BYTES_MAX,
        json_depth_max: limits::JSON_DEPTH_MAX,
        ndjson_commit_lines: limits::NDJSON_COMMIT_LINES,
        idempotency_key_chars_max: limits::IDEMPOTENCY_KEY_CHARS_MAX,
        producer_window: limits::PRODUCER_WINDOW,
        claim_kept: text(limits::CLAIM_KEPT),
        read_messages_max: limits::READ_MESSAGES_MAX,
        read_messages_default: limits::READ_MESSAGES_DEFAULT,
        read_wait_max: text(limits::READ_WAIT_MAX),
        group_topics_max: limits::GROUP_TOPICS_MAX,
        group_members_max: limits::GROUP_MEMBERS_MAX,
        group_offsets_max: limits::GROUP_OFFSETS_MAX,
        session_timeout_min: text(limits::SESSION_TIMEOUT_MIN),
        session_timeout_max: text(limits::SESSION_TIMEOUT_MAX),
        session_timeout_default: text(limits::SESSION_TIMEOUT_DEFAULT),
        poll_wait_default: text(limits::POLL_WAIT_DEFAULT),
        page_size_max: limits::PAGE_SIZE_MAX,
        page_size_default: limits::PAGE_SIZE_DEFAULT,
        uri_bytes_max: limits::URI_BYTES_MAX,
        head_bytes_max: limits::HEAD_BYTES_MAX,
        head_fields_max: limits::HEAD_FIELDS_MAX,
        head_timeout: text(limits::HEAD_TIMEOUT),
        body_timeout: text(limits::BODY_TIMEOUT),
        idle_timeout: text(limits::IDLE_TIMEOUT),
        write_timeout: text(limits::WRITE_TIMEOUT),
        publish_wait_max: text(limits::PUBLISH_WAIT_MAX),
        connections_max: limits::CONNECTIONS_MAX,
        sockets_per_address_max: limits::SOCKETS_PER_ADDRESS_MAX,
        socket_subscriptions_max: limits::SOCKET_SUBSCRIPTIONS_MAX,
        socket_partitions_max: limits::SOCKET_PARTITIONS_MAX,
        subscription_topics_max: limits::SUBSCRIPTION_TOPICS_MAX,
        socket_requests_max: limits::SOCKET_REQUESTS_MAX,
        socket_producers_max: limits::SOCKET_PRODUCERS_MAX,
        credit_messages_default: limits::CREDIT_MESSAGES_DEFAULT,
        credit_messages_max: limits::CREDIT_MESSAGES_MAX,
        credit_bytes_default: limits::CREDIT_BYTES_DEFAULT,
        credit_bytes_max: limits::CREDIT_BYTES_MAX,
        ping_interval: text(limits::PING_INTERVAL),
        socket_control_frames_max: limits::SOCKET_CONTROL_FRAMES_MAX,
    })
}
