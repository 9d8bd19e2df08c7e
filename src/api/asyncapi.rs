//! The AsyncAPI document: the socket as clients see it, made from the frames' schemas.

use serde_json::{Map, Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use super::ws::{Close, PROTOCOL, schema};

const DESCRIPTION: &str = "\
One socket carries publishes and any number of subscriptions; each frame is one JSON object, told \
apart by `op`. Clients ignore what they do not know: fields and ops are added within version 1. \
Every object that a client sends is answered, by its `id`, else by its `sub`; an `id` is any \
string or number.

**Credit.** A subscription is sent nothing beyond its credit in messages and in bytes, and only \
`credit` adds to it.

**Filter.** `filter` of a `subscribe` without group lets only those messages through that have \
every header of `headers` with exactly that value (one of several values of a name is enough) and, \
with `key_prefix`, a key that begins with it, both compared as UTF-8 bytes. `{}` lets all through.

**Close codes.** Those of `x-close-codes`. 4000 to 4099: come back after a pause that is not \
always the same; 4100 to 4199: do not.";

/// A kind of frame.
struct Frame {
    name: &'static str,
    op: &'static str,
    schema: RefOr<Schema>,
    schema_name: String,
    nested: Vec<(String, RefOr<Schema>)>,
    /// Whether it names what it answers, or may be named.
    id: Id,
    example: Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Optional,
    Never,
}

fn frame<T: ToSchema>(name: &'static str, op: &'static str, id: Id, example: Value) -> Frame {
    let mut nested = Vec::new();
    T::schemas(&mut nested);
    let schema_name = T::name().into_owned();
    Frame { name, op, schema: T::schema(), schema_name, nested, id, example }
}

/// An operation of the socket: what a client sends, and what may answer it.
const REQUESTS: [(&str, &[&str]); 7] = [
    ("publish", &["published", "error"]),
    ("subscribe", &["subscribed", "joined", "error"]),
    ("credit", &["done", "error"]),
    ("commit", &["done", "error"]),
    ("release", &["done", "error"]),
    ("unsubscribe", &["done", "error"]),
    ("ping", &["pong", "error"]),
];

/// What comes without being asked for.
const TOLD: [&str; 8] =
    ["messages", "position", "assigned", "revoke", "revoked", "closed", "draining", "error"];

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

fn of_node() -> Vec<Frame> {
    let (id, never) = (Id::Optional, Id::Never);
    let positions = json!({"orders": {"0": 42}});
    let given = json!({"topic": "orders", "partition": 0, "epoch": 3});
    let assigned = json!({"topic": "orders", "partition": 0, "epoch": 3, "offset": 0});
    let message = json!({"offset": 0, "timestamp": "2026-11-24T10:38:00.000Z", "key": "ada",
        "value": {"n": 1}});
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

fn problem(code: &str, status: u16) -> Value {
    json!({"type": format!("urn:postrider:error:{code}"), "title": "What it is", "status": status,
        "detail": "what happened", "code": code, "retryable": false, "effect": "none",
        "request_id": "r-1"})
}

fn reference(path: &str) -> Value {
    json!({"$ref": format!("#/{path}")})
}

fn written(schema: &RefOr<Schema>) -> Value {
    serde_json::to_value(schema).expect("schemas are plain JSON")
}

/// The payload of a frame: its fields, with `op` and `id`. Nodes refuse what they do not know,
/// clients ignore it.
fn payload(frame: &Frame) -> Value {
    let mut payload = written(&frame.schema);
    let object = payload.as_object_mut().expect("a frame is an object");
    let properties = object.entry("properties").or_insert_with(|| json!({}));
    let is_asked = REQUESTS.iter().any(|(name, _)| *name == frame.name);
    properties["op"] = json!({"const": frame.op});
    if frame.id == Id::Optional {
        properties["id"] = reference("components/schemas/Id");
    }
    if properties.get("from").is_some() {
        let description = properties["from"]["description"].take();
        properties["from"] = json!({"description": description, "anyOf": [
            {"type": "string"}, {"type": "integer", "minimum": 0},
            {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
            {"type": "object", "additionalProperties": {
                "type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}},
        ]});
    }
    let required = object.entry("required").or_insert_with(|| json!([]));
    required.as_array_mut().expect("a list").insert(0, json!("op"));
    if is_asked {
        object.insert("additionalProperties".to_owned(), json!(false));
    }
    payload
}

fn components() -> Value {
    let (mut messages, mut schemas) = (Map::new(), Map::new());
    schemas.insert(
        "Id".to_owned(),
        json!({
            "description": "A string or a number that the client chose; the answer names it.",
            "type": ["string", "number"],
        }),
    );
    let mut nested = Vec::new();
    for frame in of_client().iter().chain(&of_node()) {
        let payload = payload(frame);
        let summary = payload["description"].as_str().unwrap_or_default();
        let summary = summary.split_inclusive(['.', ':']).next().unwrap_or_default();
        messages.insert(
            frame.name.to_owned(),
            json!({
                "name": frame.name,
                "summary": summary.trim_end_matches(['.', ':']),
                "payload": reference(&format!("components/schemas/{}", frame.schema_name)),
                "examples": [{"payload": frame.example}],
            }),
        );
        schemas.insert(frame.schema_name.clone(), payload);
        nested.extend(frame.nested.iter().map(|(name, schema)| (name.clone(), written(schema))));
    }
    schemas.extend(nested);
    json!({"messages": messages, "schemas": schemas})
}

fn channel() -> Value {
    let names = of_client().into_iter().chain(of_node()).map(|frame| frame.name);
    let messages: Map<String, Value> = names
        .map(|name| (name.to_owned(), reference(&format!("components/messages/{name}"))))
        .collect();
    let codes = Close::ALL.map(|close| {
        let code = close.code();
        json!({"code": code, "reason": close.reason(), "reconnect": !is_final(code)})
    });
    json!({
        "address": "/v1/ws",
        "title": "The socket",
        "description": DESCRIPTION,
        "messages": messages,
        "bindings": {"ws": {
            "method": "GET",
            "headers": {
                "type": "object",
                "required": ["Sec-WebSocket-Protocol"],
                "properties": {"Sec-WebSocket-Protocol": {"const": PROTOCOL}},
            },
            "bindingVersion": "0.1.0",
        }},
        "x-close-codes": codes,
    })
}

/// Whether a client stays away after this code.
fn is_final(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1009 | 4100..)
}

fn operations() -> Value {
    let channel = || reference("channels/socket");
    let message = |name: &&str| reference(&format!("channels/socket/messages/{name}"));
    let mut operations = Map::new();
    for (name, answers) in REQUESTS {
        let answers: Vec<Value> = answers.iter().map(message).collect();
        operations.insert(
            name.to_owned(),
            json!({
                "action": "receive",
                "channel": channel(),
                "messages": [message(&name)],
                "reply": {"channel": channel(), "messages": answers},
            }),
        );
    }
    let told: Vec<Value> = TOLD.iter().map(message).collect();
    let summary = "What the node sends without being asked for it.";
    operations.insert(
        "told".to_owned(),
        json!({
            "action": "send", "summary": summary, "channel": channel(), "messages": told,
        }),
    );
    operations.into()
}

/// The document as it is committed at `openapi/asyncapi.json`. The application that it describes
/// is the node: what clients send is received.
pub fn document() -> String {
    let document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Postrider",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The socket of Postrider, a message queue service on PostgreSQL. REST \
                is described by `/openapi.json`.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:8080", "protocol": "ws",
            "description": "A node as `postrider serve` starts it."}},
        "channels": {"socket": channel()},
        "operations": operations(),
        "components": components(),
    });
    let mut text = serde_json::to_string_pretty(&document).expect("the document is plain JSON");
    text.push('\n');
    text
}
