//! Every kind of frame with its schema and an example.

use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::api::ws::schema;

/// A kind of frame.
pub(super) struct Frame {
    /// Of the message.
    pub(super) name: &'static str,
    /// What `op` says.
    pub(super) op: &'static str,
    /// Its fields but for `op` and `id`.
    pub(super) schema: RefOr<Schema>,
    /// The name of that.
    pub(super) schema_name: String,
    /// What that refers to.
    pub(super) nested: Vec<(String, RefOr<Schema>)>,
    /// Whether it names what it answers, or may be named.
    pub(super) id: Id,
    /// One such frame.
    pub(super) example: Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    Optional,
    Never,
}

fn frame<T: ToSchema>(name: &'static str, op: &'static str, id: Id, example: Value) -> Frame {
    let mut nested = Vec::new();
    T::schemas(&mut nested);
    let schema_name = T::name().into_owned();
    Frame { name, op, schema: T::schema(), schema_name, nested, id, example }
}

fn of_client() -> Vec<Frame> {
    let offset = json!({"topic": "orders", "partition": 0, "offset": 42, "epoch": 3});
    let given = json!({"topic": "orders", "partition": 0, "epoch": 3});
    let id = Id::Optional;
    vec![
        frame::<schema::PublishFrame>(
            "publish",
            "publish",
            id,
            json!({
                "op": "publish", "id": 1, "topic": "orders",
                "messages": [{"key": "ada", "value": {"n": 1}}],
                "producer": {"id": "7f9c24e8-3b12-4fef-91d0-5e8c1a7b2d40", "sequence": 0},
                "expect_offset": 41
            }),
        ),
        frame::<schema::SubscribeFrame>(
            "subscribe",
            "subscribe",
            id,
            json!({
                "op": "subscribe", "id": 2, "sub": "a", "topics": ["orders", "audit.*"],
                "from": {"orders": {"0": 42}}, "log": "7-l-6b05dc721728743d-00000001",
                "credit": 1000, "credit_bytes": 8_388_608,
                "filter": {"headers": {"source": "shop"}, "key_prefix": "user-"}
            }),
        ),
        frame::<schema::CreditFrame>(
            "credit",
            "credit",
            id,
            json!({
                "op": "credit", "sub": "a", "messages": 500, "bytes": 1_000_000
            }),
        ),
        frame::<schema::CommitFrame>(
            "commit",
            "commit",
            id,
            json!({
                "op": "commit", "id": 5, "sub": "b", "offsets": [offset]
            }),
        ),
        frame::<schema::ReleaseFrame>(
            "release",
            "release",
            id,
            json!({
                "op": "release", "id": 6, "sub": "b", "assignments": [given], "offsets": [offset]
            }),
        ),
        frame::<schema::UnsubscribeFrame>(
            "unsubscribe",
            "unsubscribe",
            id,
            json!({
                "op": "unsubscribe", "id": 7, "sub": "a"
            }),
        ),
        frame::<schema::PingFrame>("ping", "ping", id, json!({"op": "ping", "id": 8})),
    ]
}

/// What answers a client.
fn answers() -> Vec<Frame> {
    let (id, positions) = (Id::Optional, json!({"orders": {"0": 42}}));
    vec![
        frame::<schema::PublishedFrame>(
            "published",
            "ok",
            id,
            json!({
                "op": "ok", "id": 1, "results": [{"partition": 0, "offset": 41}],
                "durability": "local"
            }),
        ),
        frame::<schema::SubscribedFrame>(
            "subscribed",
            "ok",
            id,
            json!({
                "op": "ok", "id": 2, "sub": "a", "log": "7-l-6b05dc721728743d-00000001",
                "positions": positions, "recovered": true
            }),
        ),
        frame::<schema::JoinedFrame>(
            "joined",
            "ok",
            id,
            json!({
                "op": "ok", "id": 3, "sub": "b", "member_id": "m-1", "generation": 7
            }),
        ),
        frame::<schema::DoneFrame>("done", "ok", id, json!({"op": "ok", "id": 5, "sub": "b"})),
        frame::<schema::PongFrame>("pong", "pong", id, json!({"op": "pong", "id": 8})),
    ]
}

/// What is sent without being asked for, and errors.
fn of_node() -> Vec<Frame> {
    let (id, never) = (Id::Optional, Id::Never);
    let positions = json!({"orders": {"0": 42}});
    let message = json!({"offset": 0, "timestamp": "2026-11-24T10:38:00.000Z", "key": "ada",
        "value": {"n": 1}});
    vec![
        frame::<schema::MessagesFrame>(
            "messages",
            "messages",
            never,
            json!({
                "op": "messages", "sub": "b", "topic": "orders", "partition": 0, "epoch": 3,
                "messages": [message]
            }),
        ),
        frame::<schema::PositionFrame>(
            "position",
            "position",
            never,
            json!({
                "op": "position", "sub": "a", "positions": positions
            }),
        ),
        frame::<schema::ClosedFrame>(
            "closed",
            "closed",
            never,
            json!({
                "op": "closed", "sub": "a", "error": problem("not_found", 404)
            }),
        ),
        frame::<schema::ErrorFrame>(
            "error",
            "error",
            id,
            json!({
                "op": "error", "id": 6, "error": problem("invalid", 422)
            }),
        ),
        frame::<schema::DrainingFrame>(
            "draining",
            "draining",
            never,
            json!({
                "op": "draining", "reconnect_after": "1200ms"
            }),
        ),
    ]
}

/// What members of groups are told.
fn of_group() -> Vec<Frame> {
    let never = Id::Never;
    let given = json!({"topic": "orders", "partition": 0, "epoch": 3});
    let assigned = json!({"topic": "orders", "partition": 0, "epoch": 3, "offset": 0});
    vec![
        frame::<schema::AssignedFrame>(
            "assigned",
            "assigned",
            never,
            json!({
                "op": "assigned", "sub": "b", "assignments": [assigned]
            }),
        ),
        frame::<schema::RevokeFrame>(
            "revoke",
            "revoke",
            never,
            json!({
                "op": "revoke", "sub": "b", "assignments": [given], "deadline": "5s"
            }),
        ),
        frame::<schema::RevokedFrame>(
            "revoked",
            "revoked",
            never,
            json!({
                "op": "revoked", "sub": "b", "assignments": [given]
            }),
        ),
    ]
}

/// Every frame, with an example.
pub(super) fn all() -> Vec<Frame> {
    let of_node = answers().into_iter().chain(of_node()).chain(of_group());
    of_client().into_iter().chain(of_node).collect()
}

fn problem(code: &str, status: u16) -> Value {
    json!({"type": format!("urn:postrider:error:{code}"), "title": "What it is", "status": status,
        "detail": "what happened", "code": code, "retryable": false, "effect": "none",
        "request_id": "r-1"})
}
