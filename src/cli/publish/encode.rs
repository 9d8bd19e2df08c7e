//! Lines become the messages of a publish.

use base64::{Engine, engine::general_purpose::STANDARD};
use regex::bytes::Regex;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::lines::Line;

/// How a line becomes a message.
#[derive(Debug)]
pub enum Form {
    /// The line is the value, perhaps with a key in it.
    Text(Option<KeyRule>),
    /// The line is a whole message as the server reads it.
    Json,
}

/// Where a line's key is.
#[derive(Debug)]
pub struct KeyRule(Regex);

/// Why a text is no key rule.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKeyRule {
    /// It is no regular expression.
    #[error("--key-regex: {0}")]
    Regex(#[from] regex::Error),
    /// It has no group that could be the key.
    #[error("--key-regex has no group: put what is the key in parentheses, as in '^(\\S+)'")]
    NoGroup,
}

impl KeyRule {
    /// The first group of `pattern` is the key.
    pub fn new(pattern: &str) -> Result<Self, InvalidKeyRule> {
        let regex = Regex::new(pattern)?;
        if regex.captures_len() < 2 {
            return Err(InvalidKeyRule::NoGroup);
        }
        Ok(Self(regex))
    }

    /// The key in `line`; none where the pattern or its first group does not match.
    pub fn key<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        Some(self.0.captures(line)?.get(1)?.as_bytes())
    }
}

/// Why a line is no message.
#[derive(Debug, thiserror::Error)]
#[error("line {number} is no JSON object: {detail}")]
pub struct InvalidLine {
    /// The line's number, from 1.
    pub number: u64,
    /// What is wrong.
    pub detail: String,
}

/// Messages that are published together, and where they are from.
#[derive(Debug)]
pub struct Batch {
    /// `[{…},…]`, as the server reads them.
    pub messages: String,
    /// How many there are, at least one.
    pub count: usize,
    /// The number of the line behind each message, rising; none where they are no lines.
    pub numbers: Vec<u64>,
    /// Bytes of these lines.
    pub bytes: u64,
}

/// The messages of `lines`; none if there is no message in them. Blank lines are messages too,
/// except where each line is a JSON object.
pub fn batch(lines: &[Line], form: &Form) -> Result<Option<Batch>, InvalidLine> {
    let mut body = b"[".to_vec();
    let mut numbers = Vec::with_capacity(lines.len());
    let mut bytes = 0;
    for line in lines {
        if matches!(form, Form::Json) && line.bytes.trim_ascii().is_empty() {
            continue;
        }
        if !numbers.is_empty() {
            body.push(b',');
        }
        match form {
            Form::Text(rule) => {
                let key = rule.as_ref().and_then(|rule| rule.key(&line.bytes));
                append(&mut body, &Text { key, value: &line.bytes });
            }
            Form::Json => body.extend_from_slice(object(line)?.get().as_bytes()),
        }
        numbers.push(line.number);
        bytes += line.bytes.len() as u64;
    }
    body.push(b']');
    let messages = String::from_utf8(body).expect("JSON is text");
    let count = numbers.len();
    Ok(Some(Batch { messages, count, numbers, bytes }).filter(|batch| batch.count > 0))
}

/// One text.
pub fn single(value: &str, key: Option<&str>, headers: &[(String, String)]) -> Batch {
    let mut grouped = serde_json::Map::new();
    for (name, value) in headers {
        let values = grouped.entry(name).or_insert_with(|| serde_json::json!([]));
        values.as_array_mut().expect("made as one above").push(value.clone().into());
    }
    let mut message = serde_json::json!({"value_text": value});
    if let Some(key) = key {
        message["key"] = key.into();
    }
    if !grouped.is_empty() {
        message["headers"] = grouped.into();
    }
    let messages = serde_json::json!([message]).to_string();
    Batch { messages, count: 1, numbers: Vec::new(), bytes: value.len() as u64 }
}

struct Text<'a> {
    key: Option<&'a [u8]>,
    value: &'a [u8],
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.key.map(std::str::from_utf8) {
            None => {}
            Some(Ok(text)) => map.serialize_entry("key", text)?,
            Some(Err(_)) => {
                map.serialize_entry("key_base64", &STANDARD.encode(self.key.unwrap_or_default()))?;
            }
        }
        match std::str::from_utf8(self.value) {
            Ok(text) => map.serialize_entry("value_text", text)?,
            Err(_) => map.serialize_entry("value_base64", &STANDARD.encode(self.value))?,
        }
        map.end()
    }
}

fn append(body: &mut Vec<u8>, message: &Text<'_>) {
    serde_json::to_writer(body, message).expect("texts into memory");
}

fn object(line: &Line) -> Result<&RawValue, InvalidLine> {
    let invalid = |detail: String| InvalidLine { number: line.number, detail };
    let raw: &RawValue =
        serde_json::from_slice(&line.bytes).map_err(|error| invalid(error.to_string()))?;
    if !raw.get().starts_with('{') {
        return Err(invalid("it is another JSON value".to_owned()));
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn lines(texts: &[&[u8]]) -> Vec<Line> {
        let line =
            |(at, bytes): (usize, &&[u8])| Line { number: at as u64 + 1, bytes: bytes.to_vec() };
        texts.iter().enumerate().map(line).collect()
    }

    fn body(texts: &[&[u8]], form: &Form) -> Value {
        let batch = batch(&lines(texts), form).expect("valid").expect("not empty");
        serde_json::from_str(&batch.messages).expect("JSON")
    }

    fn bytes_of(message: &Value, name: &str) -> Option<Vec<u8>> {
        let text = message.get(format!("{name}_text")).or(message.get(name));
        match (text, message.get(format!("{name}_base64"))) {
            (Some(text), None) => Some(text.as_str().expect("text").as_bytes().to_vec()),
            (None, Some(coded)) => {
                Some(STANDARD.decode(coded.as_str().expect("text")).expect("64"))
            }
            (None, None) => None,
            both => panic!("{both:?}"),
        }
    }

    proptest! {
        #[test]
        fn any_line_and_its_key_come_back_byte_for_byte(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..20),
        ) {
            let rule = KeyRule::new("(?s-u)^(...)").expect("valid");
            let slices: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let body = body(&slices, &Form::Text(Some(rule)));
            let messages = body.as_array().expect("array");
            prop_assert_eq!(messages.len(), texts.len());
            for (message, text) in messages.iter().zip(&texts) {
                let (key, value) = (bytes_of(message, "key"), bytes_of(message, "value"));
                prop_assert_eq!(value.as_ref(), Some(text));
                prop_assert_eq!(key.as_deref(), text.get(..3));
            }
        }
    }

    #[test]
    fn the_key_is_the_first_group() {
        let key = |pattern: &str, line: &'static str| {
            let key = KeyRule::new(pattern).expect(pattern).key(line.as_bytes());
            key.map(|key| std::str::from_utf8(key).expect("text"))
        };
        assert_eq!(key(r"^(\S+)", "1.2.3.4 - - GET /"), Some("1.2.3.4"));
        assert_eq!(key(r"(?:user)=(\w*) (\w+)", "user=ada x"), Some("ada"));
        assert_eq!(key(r"^(\d+)", "none here"), None);
        assert_eq!(key(r"^a|(b)", "a"), None);
        assert_eq!(key(r"^()", "a"), Some(""));
        assert!(matches!(KeyRule::new(r"^\S+"), Err(InvalidKeyRule::NoGroup)));
        assert!(matches!(KeyRule::new("("), Err(InvalidKeyRule::Regex(_))));
    }

    #[test]
    fn json_lines_are_sent_as_they_are_written() {
        let texts: [&[u8]; 3] = [br#"{"key":"a", "value":1.0}"#, b" \r", b"{\"value\":null}\r"];
        let batch = batch(&lines(&texts), &Form::Json).expect("valid").expect("not empty");
        assert_eq!(batch.messages, r#"[{"key":"a", "value":1.0},{"value":null}]"#);
        assert_eq!(batch.numbers, [1, 3]);
    }

    #[test]
    fn what_is_no_json_object_is_named_by_its_line() {
        for bad in [&b"[1]"[..], b"{", b"1", b"{} {}", b"\xff"] {
            let error = batch(&lines(&[b"{}", bad]), &Form::Json).expect_err("no object");
            assert_eq!(error.number, 2, "{bad:?}");
        }
        assert!(batch(&lines(&[b"", b" "]), &Form::Json).expect("blank").is_none());
    }

    #[test]
    fn one_message_has_all_that_it_was_given() {
        let headers =
            [("a".into(), "1".into()), ("b".into(), "2".into()), ("a".into(), "3".into())];
        let read = |batch: Batch| serde_json::from_str::<Value>(&batch.messages).expect("JSON");
        let body = read(single("v", Some("k"), &headers));
        let expected =
            json!({"value_text": "v", "key": "k", "headers": {"a": ["1", "3"], "b": ["2"]}});
        assert_eq!(body, json!([expected]));
        assert_eq!(read(single("", None, &[])), json!([{"value_text": ""}]));
    }
}
