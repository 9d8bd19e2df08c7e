//! The description of the socket says what nodes send, all of it and nothing else.

use std::collections::BTreeSet;

use postrider::api::asyncapi;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Node, Socket, one_node};

/// The document, and which of its messages came.
struct Described {
    document: Value,
    seen: BTreeSet<String>,
}

impl Described {
    fn new() -> Self {
        let document = serde_json::from_str(&asyncapi::document()).expect("JSON");
        Self { document, seen: BTreeSet::new() }
    }

    fn at(&self, reference: &Value) -> &Value {
        let pointer = reference["$ref"].as_str().expect("a reference");
        self.document.pointer(&pointer[1..]).unwrap_or_else(|| panic!("{pointer} leads nowhere"))
    }

    /// Checks a frame against the payload of a message, with nothing in it that is not described.
    fn is(&mut self, name: &str, frame: &Value) {
        let message = &self.document["components"]["messages"][name];
        let mut wrongs = Vec::new();
        self.check(&message["payload"], frame, name, &mut wrongs);
        assert!(wrongs.is_empty(), "{frame}: {wrongs:?}");
        self.seen.insert(name.to_owned());
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, wrongs: &mut Vec<String>) {
        if schema.get("$ref").is_some() {
            return self.check(self.at(schema), value, at, wrongs);
        }
        let mut wrong = |what: &str| wrongs.push(format!("{at}: {what}"));
        if schema.get("const").is_some_and(|only| only != value) {
            wrong("another constant");
        }
        if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
            wrong("none of the values");
        }
        let kinds = match &schema["type"] {
            Value::Array(kinds) => kinds.clone(),
            Value::Null => Vec::new(),
            kind => vec![kind.clone()],
        };
        if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(kind, value)) {
            wrong("another type");
        }
        if let Some(all) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            let fits = |one: &&Value| {
                let mut wrongs = Vec::new();
                self.check(one, value, at, &mut wrongs);
                wrongs.is_empty()
            };
            if !all.iter().any(|one| fits(&one)) {
                wrong("none of what it may be");
            }
        }
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            for (number, value) in values.iter().enumerate() {
                self.check(items, value, &format!("{at}/{number}"), wrongs);
            }
        }
        if let Some(object) = value.as_object() {
            self.check_object(schema, object, at, wrongs);
        }
    }

    fn check_object(
        &self,
        schema: &Value,
        object: &serde_json::Map<String, Value>,
        at: &str,
        wrongs: &mut Vec<String>,
    ) {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(name.as_str().expect("a name")) {
                wrongs.push(format!("{at}: {name} is missing"));
            }
        }
        let rest = schema.get("additionalProperties").filter(|rest| !rest.is_boolean());
        for (name, value) in object {
            let at = format!("{at}/{name}");
            match (schema["properties"].get(name), rest) {
                (Some(described), _) => self.check(described, value, &at, wrongs),
                (None, Some(rest)) => self.check(rest, value, &at, wrongs),
                (None, None) if schema.get("properties").is_some() => {
                    wrongs.push(format!("{at}: it is not described"));
                }
                (None, None) => {}
            }
        }
    }
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("the name of a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_example_fits() {
    let mut described = Described::new();
    let messages = described.document["components"]["messages"].clone();
    for (name, message) in messages.as_object().expect("messages") {
        described.is(name, &message["examples"][0]["payload"]);
    }
    let mut to_visit = vec![&described.document];
    while let Some(value) = to_visit.pop() {
        match value {
            Value::Object(object) if object.contains_key("$ref") => drop(described.at(value)),
            Value::Object(object) => to_visit.extend(object.values()),
            Value::Array(values) => to_visit.extend(values),
            _ => {}
        }
    }
    let operations = described.document["operations"].as_object().expect("operations");
    let used = operations.values().flat_map(|operation| {
        let replies = operation["reply"]["messages"].as_array().into_iter().flatten();
        operation["messages"].as_array().expect("messages").iter().chain(replies)
    });
    let name = |reference: &Value| {
        reference["$ref"].as_str().expect("text").rsplit('/').next().map(str::to_owned)
    };
    let used: BTreeSet<String> = used.filter_map(name).collect();
    let all: BTreeSet<String> = messages.as_object().expect("messages").keys().cloned().collect();
    assert_eq!(used, all, "a message belongs to an operation");
}

/// Sends what is described, and checks the answer.
async fn ask(described: &mut Described, socket: &mut Socket, frame: Value, answer: &str) -> Value {
    let op = frame["op"].as_str().expect("an op").to_owned();
    described.is(&op, &frame);
    let told = socket.call(frame).await;
    described.is(answer, &told);
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_node_sends_is_described() {
    let (database, node, client) = one_node().await;
    let mut described = Described::new();
    let all = &mut described;
    let mut socket = Socket::open(&node.address().to_string()).await;
    client.put_topic("orders", json!({"partitions": 2})).await;
    let headers = json!({"source": "shop", "raw": {"base64": "/w=="}, "many": ["a", "b"]});
    let publish = json!({"op": "publish", "topic": "orders", "messages": [
        {"key": "user-1", "value": {"n": 1}, "headers": headers},
        {"key_base64": "/w==", "value_base64": "/wA="}, {"value_text": "x"}, {}],
        "producer": {"id": "7f9c24e8-3b12-4fef-91d0-5e8c1a7b2d40", "sequence": 0}});
    for duplicate in [None, Some(true)] {
        let told = ask(all, &mut socket, publish.clone(), "published").await;
        assert_eq!(told["duplicate"].as_bool(), duplicate);
    }
    tail(all, &mut socket).await;
    group(all, &mut socket, &node).await;
    let ping = socket.ask(json!({"op": "ping"})).await;
    all.is("pong", &socket.answer(ping).await);
    all.is("ping", &json!({"op": "ping", "id": ping}));
    let problem = socket.ask(json!({"op": "odd"})).await;
    all.is("error", &socket.answer(problem).await);

    let subscribe = json!({"op": "subscribe", "sub": "d", "topic": "orders"});
    ask(all, &mut socket, subscribe, "subscribed").await;
    client.send(client.request(Method::DELETE, "/v1/topics/orders")).await;
    all.is("closed", &socket.of("d", "closed").await);
    let stopping = node.stop();
    let told = async {
        let draining = socket.expect("draining").await;
        socket.closed().await;
        draining
    };
    let (stopped, draining) = tokio::join!(stopping, told);
    stopped.expect("stops");
    all.is("draining", &draining);
    drop(database);

    let messages = described.document["components"]["messages"].as_object().expect("messages");
    let never: Vec<&String> =
        messages.keys().filter(|name| !described.seen.contains(*name)).collect();
    assert!(never.is_empty(), "nothing was seen of {never:?}");
}

async fn tail(all: &mut Described, socket: &mut Socket) {
    let subscribe = json!({"op": "subscribe", "sub": "a", "topics": ["orders", "audit.*"],
        "from": "earliest", "credit": 2, "credit_bytes": 1_000_000});
    let begun = ask(all, socket, subscribe, "subscribed").await;
    let credit = json!({"op": "credit", "sub": "a", "messages": 10, "bytes": 1_000});
    ask(all, socket, credit, "done").await;
    let mut count = 0;
    while count < 4 {
        let frame = socket.of("a", "messages").await;
        all.is("messages", &frame);
        count += frame["messages"].as_array().expect("messages").len();
    }
    ask(all, socket, json!({"op": "unsubscribe", "sub": "a"}), "done").await;
    let subscribe = json!({"op": "subscribe", "sub": "f", "topic": "orders", "log": begun["log"],
        "from": {"0": 0}, "filter": {"headers": {"source": "shop"}, "key_prefix": "user-"}});
    ask(all, socket, subscribe, "subscribed").await;
    all.is("messages", &socket.of("f", "messages").await);
    all.is("position", &socket.of("f", "position").await);
    ask(all, socket, json!({"op": "unsubscribe", "sub": "f"}), "done").await;
    let beyond = json!({"op": "subscribe", "sub": "r", "topic": "orders", "log": begun["log"],
        "from": {"0": 1_000}});
    let told = ask(all, socket, beyond, "subscribed").await;
    assert_eq!(told["recovered"], false, "{told}");
    ask(all, socket, json!({"op": "unsubscribe", "sub": "r"}), "done").await;
}

async fn group(all: &mut Described, socket: &mut Socket, node: &Node) {
    let join = |sub: &str, member: &str| {
        json!({"op": "subscribe", "sub": sub, "topics": ["orders"], "group": "billing",
            "member_id": member, "generation": 7, "start": "earliest", "session_timeout": "30s"})
    };
    ask(all, socket, join("b", "m-1"), "joined").await;
    let assigned = socket.of("b", "assigned").await;
    all.is("assigned", &assigned);
    let first = socket.of("b", "messages").await;
    all.is("messages", &first);
    let offset = |epoch: &Value| json!({"topic": "orders", "partition": first["partition"], "offset": 1, "epoch": epoch});
    let stale = offset(&json!(0));
    let commit = json!({"op": "commit", "sub": "b", "offsets": [offset(&first["epoch"]), stale]});
    let told = ask(all, socket, commit, "done").await;
    assert_eq!(told["commit_errors"][0]["code"], "stale_epoch", "{told}");

    let mut other = Socket::open(&node.address().to_string()).await;
    ask(all, &mut other, join("c", "m-2"), "joined").await;
    let revoke = socket.of("b", "revoke").await;
    all.is("revoke", &revoke);
    let release = json!({"op": "release", "sub": "b", "assignments": revoke["assignments"],
        "offsets": []});
    ask(all, socket, release, "done").await;
    all.is("revoked", &socket.of("b", "revoked").await);
    ask(all, &mut other, json!({"op": "unsubscribe", "sub": "c"}), "done").await;
    ask(all, socket, json!({"op": "unsubscribe", "sub": "b"}), "done").await;
    other.close().await;
}
