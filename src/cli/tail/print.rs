//! Messages as they are printed.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::cli::{args::TailOutput, output::escaped};

/// Writes messages to `out`, up to a limit.
#[derive(Debug)]
pub struct Printer<W> {
    out: W,
    form: TailOutput,
    printed: u64,
    limit: u64,
}

/// A message as the server writes it; what is not printed apart is left out.
#[derive(Deserialize)]
struct Message<'a> {
    partition: u32,
    offset: u64,
    #[serde(borrow, default)]
    timestamp: Cow<'a, str>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
}

/// `null` is a value; only what is absent is none.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl<W: Write> Printer<W> {
    /// Prints at most `limit` messages to `out`.
    pub fn new(out: W, form: TailOutput, limit: u64) -> Self {
        Self { out, form, printed: 0, limit }
    }

    /// Whether nothing more will be printed.
    pub fn is_done(&self) -> bool {
        self.printed >= self.limit
    }

    /// How many messages more will be printed.
    pub fn room(&self) -> u64 {
        self.limit.saturating_sub(self.printed)
    }

    /// Prints a page and flushes it.
    pub fn page<'m>(&mut self, messages: impl IntoIterator<Item = &'m str>) -> io::Result<()> {
        for message in messages {
            if self.is_done() {
                break;
            }
            self.message(message)?;
            self.printed += 1;
        }
        self.out.flush()
    }

    /// Ends what was begun.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.form == TailOutput::Json {
            let end: &[u8] = if self.printed == 0 { b"[]\n" } else { b"\n]\n" };
            self.out.write_all(end)?;
        }
        self.out.flush()
    }

    fn message(&mut self, raw: &str) -> io::Result<()> {
        match self.form {
            TailOutput::Json => {
                let before = if self.printed == 0 { "[\n" } else { ",\n" };
                write!(self.out, "{before}{raw}")
            }
            TailOutput::Ndjson => writeln!(self.out, "{}", compact(raw)),
            TailOutput::Value => {
                let message = parsed(raw)?;
                match value(&message)? {
                    Some(bytes) => {
                        self.out.write_all(&bytes)?;
                        self.out.write_all(b"\n")
                    }
                    None => Ok(()),
                }
            }
            TailOutput::Table => {
                let line = line(&parsed(raw)?);
                writeln!(self.out, "{line}")
            }
        }
    }
}

fn parsed(raw: &str) -> io::Result<Message<'_>> {
    let not_understood = |error| io::Error::other(format!("a message was not understood: {error}"));
    serde_json::from_str(raw).map_err(not_understood)
}

/// The bytes of a value; none for a tombstone.
fn value<'a>(message: &'a Message<'_>) -> io::Result<Option<Cow<'a, [u8]>>> {
    if let Some(raw) = message.value {
        return Ok(Some(Cow::Borrowed(raw.get().as_bytes())));
    }
    if let Some(text) = &message.value_text {
        return Ok(Some(Cow::Borrowed(text.as_bytes())));
    }
    let Some(coded) = &message.value_base64 else { return Ok(None) };
    let bytes = STANDARD.decode(coded.as_bytes());
    let bytes =
        bytes.map_err(|error| io::Error::other(format!("a value is no base64: {error}")))?;
    Ok(Some(Cow::Owned(bytes)))
}

fn line(message: &Message<'_>) -> String {
    let key = match (&message.key, &message.key_base64) {
        (Some(key), _) => escaped(key),
        (None, Some(coded)) => format!("base64:{coded}"),
        (None, None) => "-".to_owned(),
    };
    let value = match (message.value, &message.value_text, &message.value_base64) {
        (Some(raw), _, _) => escaped(&compact(raw.get())),
        (None, Some(text), _) => escaped(text),
        (None, None, Some(coded)) => format!("base64:{coded}"),
        (None, None, None) => "(tombstone)".to_owned(),
    };
    let place = format!("{}/{}", message.partition, message.offset);
    let line = format!("{}  {place:<10}  {key}  {value}", escaped(&message.timestamp));
    match message.headers.map(|headers| compact(headers.get())) {
        Some(headers) if headers != "{}" => format!("{line}  headers={}", escaped(&headers)),
        _ => line,
    }
}

/// `json` without the spaces and newlines between its tokens, so that it is one line. Values come
/// as they were published, with theirs.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_text, mut is_escaped) = (false, false);
    for c in json.chars() {
        if !in_text && matches!(c, ' ' | '\n' | '\r' | '\t') {
            continue;
        }
        in_text = if is_escaped { in_text } else { in_text != (c == '"') };
        is_escaped = in_text && c == '\\' && !is_escaped;
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: [&str; 6] = [
        r#"{"partition":0,"offset":1,"timestamp":"2026-11-24T10:00:00.000Z","key":"k",
            "value":{ "a" : "x y\"  z" ,
            "n":1.0},"headers":{"h":"1"}}"#,
        r#"{"partition":0,"offset":2,"timestamp":"T","value":null}"#,
        r#"{"partition":0,"offset":3,"timestamp":"T","value_text":"a\r\u001b[2J\\"}"#,
        r#"{"partition":0,"offset":4,"timestamp":"T","key_base64":"/w==","value_base64":"/wA="}"#,
        r#"{"partition":0,"offset":5,"timestamp":"T","key":"k"}"#,
        r#"{"partition":0,"offset":6,"timestamp":"T","value_text":""}"#,
    ];

    fn printed(form: TailOutput, limit: u64) -> Vec<u8> {
        let mut printer = Printer::new(Vec::new(), form, limit);
        printer.page(MESSAGES[..2].iter().copied()).expect("ok");
        printer.page(MESSAGES[2..].iter().copied()).expect("ok");
        printer.finish().expect("ok");
        printer.out
    }

    #[test]
    fn values_are_printed_byte_for_byte() {
        let mut expected = b"{ \"a\" : \"x y\\\"  z\" ,\n            \"n\":1.0}\nnull\n".to_vec();
        expected.extend_from_slice(b"a\r\x1b[2J\\\n\xff\x00\n\n");
        assert_eq!(printed(TailOutput::Value, 9), expected);
    }

    #[test]
    fn ndjson_is_a_line_a_message_with_the_same_content() {
        let text = String::from_utf8(printed(TailOutput::Ndjson, 9)).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), MESSAGES.len());
        assert!(lines[0].contains(r#""value":{"a":"x y\"  z","n":1.0}"#), "{}", lines[0]);
        for (line, message) in lines.iter().zip(MESSAGES) {
            let read = |text| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
            assert_eq!(read(line), read(message));
        }
    }

    #[test]
    fn json_is_one_array() {
        let count = |limit| {
            let bytes = printed(TailOutput::Json, limit);
            serde_json::from_slice::<Vec<serde_json::Value>>(&bytes).expect("an array").len()
        };
        assert_eq!([count(0), count(1), count(3), count(9)], [0, 1, 3, 6]);
    }

    #[test]
    fn a_table_is_for_people() {
        let text = String::from_utf8(printed(TailOutput::Table, 9)).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        let first = r#"2026-11-24T10:00:00.000Z  0/1         k  {"a":"x y\"  z","n":1.0}"#;
        let first = format!(r#"{first}  headers={{"h":"1"}}"#);
        assert_eq!(lines[0], first);
        assert_eq!(lines[1], "T  0/2         -  null");
        assert_eq!(lines[2], "T  0/3         -  a\\r\\u{1b}[2J\\");
        assert_eq!(lines[3], "T  0/4         base64:/w==  base64:/wA=");
        assert_eq!(lines[4], "T  0/5         k  (tombstone)");
    }
}
