//! The frames that clients send have the fields that are described.

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
