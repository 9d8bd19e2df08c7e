//! Messages as clients read them: the same fields that wrote them, `value` byte for byte.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    deliver::stream::Items,
    log::{LogBatch, Page},
    model::clock::format_ms,
    record::{Batches, Corrupt, Record, ValueKind},
};

/// A message as it is read, for the description of the interface. At most one of `value`,
/// `value_text` and `value_base64` is there; a tombstone has none.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub struct MessageSchema {
    /// The topic.
    topic: String,
    /// The number of the partition.
    partition: u32,
    /// Its place in the partition.
    offset: i64,
    /// When it was appended, by the database's clock.
    #[schema(example = "2026-11-24T10:38:00.000Z")]
    timestamp: String,
    /// The key, where it is text.
    #[schema(required = false)]
    key: Option<String>,
    /// The key, where it was written as bytes or is no text.
    #[schema(required = false)]
    key_base64: Option<String>,
    /// A JSON value, byte for byte as it was written.
    #[schema(required = false)]
    value: Option<serde_json::Value>,
    /// A string.
    #[schema(required = false)]
    value_text: Option<String>,
    /// Bytes.
    #[schema(required = false)]
    value_base64: Option<String>,
    /// Headers: a string, `{"base64": …}`, or an array of these.
    #[schema(required = false)]
    headers: Option<BTreeMap<String, serde_json::Value>>,
}

/// One page of a partition, for the description of the interface.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessagePage {
    /// Messages in order. A page may hold fewer than were asked for.
    messages: Vec<MessageSchema>,
    /// Where to go on.
    next_offset: i64,
    /// The offset of the next message to be appended.
    high_watermark: i64,
    /// The first offset that can be read.
    low_watermark: i64,
    /// Which history these offsets belong to, for the parameter `log`.
    log: String,
}

/// Writes the messages of `page` from `from` on, at most `limit`, as a [`MessagePage`]. `log` needs
/// no escapes.
pub fn write_page(
    topic: &str,
    partition: u32,
    from: i64,
    limit: u32,
    page: &Page,
    log: &str,
) -> Result<Vec<u8>, Corrupt> {
    let bytes: usize = page.batches.iter().map(|batch| batch.records.len()).sum();
    let until = from.saturating_add(i64::from(limit));
    let mut out = Vec::with_capacity(128 + bytes * 2);
    let mut next = from;
    out.extend_from_slice(b"{\"messages\":[");
    let lead = format!("{{\"topic\":\"{topic}\",\"partition\":{partition},\"offset\":");
    for batch in &page.batches {
        write_batch(&mut out, &lead, batch, &mut next, until)?;
    }
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(b"],\"next_offset\":");
    put_number(&mut out, next);
    out.extend_from_slice(b",\"high_watermark\":");
    put_number(&mut out, page.watermarks.high.max(next));
    out.extend_from_slice(b",\"low_watermark\":");
    put_number(&mut out, page.watermarks.low);
    out.extend_from_slice(b",\"log\":\"");
    out.extend_from_slice(log.as_bytes());
    out.extend_from_slice(b"\"}");
    Ok(out)
}

/// Writes the messages of `batches` from `from` on, up to `until`, each followed by a comma.
pub fn write_messages(
    out: &mut Vec<u8>,
    topic: &str,
    partition: u32,
    (from, until): (i64, i64),
    batches: &[LogBatch],
) -> Result<(), Corrupt> {
    let lead = format!("{{\"topic\":\"{topic}\",\"partition\":{partition},\"offset\":");
    let mut next = from;
    for batch in batches {
        write_batch(out, &lead, batch, &mut next, until)?;
    }
    Ok(())
}

/// Writes the messages of `batch` from `from` on as the items of a frame: without topic and
/// partition, each followed by a comma.
pub fn write_items(batch: &LogBatch, from: i64, items: &mut Items) -> Result<(), Corrupt> {
    let timestamp = format!(",\"timestamp\":\"{}\"", format_ms(batch.appended_ms));
    let mut next = from;
    each_record(batch, &mut next, i64::MAX, |offset, record| {
        let out = &mut items.bytes;
        out.extend_from_slice(b"{\"offset\":");
        put_number(out, offset);
        out.extend_from_slice(timestamp.as_bytes());
        write_fields(out, record)?;
        out.extend_from_slice(b"},");
        items.ends.push(u32::try_from(out.len()).map_err(|_| Corrupt::Count)?);
        Ok(())
    })
}

fn write_batch(
    out: &mut Vec<u8>,
    lead: &str,
    batch: &LogBatch,
    next: &mut i64,
    until: i64,
) -> Result<(), Corrupt> {
    let timestamp = format!(",\"timestamp\":\"{}\"", format_ms(batch.appended_ms));
    each_record(batch, next, until, |offset, record| {
        out.extend_from_slice(lead.as_bytes());
        put_number(out, offset);
        out.extend_from_slice(timestamp.as_bytes());
        write_fields(out, record)?;
        out.extend_from_slice(b"},");
        Ok(())
    })
}

/// Calls `told` for each message of `batch` from `next` on, which it moves behind the last one,
/// and before `until`.
fn each_record(
    batch: &LogBatch,
    next: &mut i64,
    until: i64,
    mut told: impl FnMut(i64, &Record<'_>) -> Result<(), Corrupt>,
) -> Result<(), Corrupt> {
    let mut base = batch.base_offset;
    for part in Batches::new(&batch.records) {
        let part = part?;
        for record in part.records() {
            let record = record?;
            let offset = base + record.offset_delta;
            if offset >= until {
                return Ok(());
            }
            if offset < *next {
                continue;
            }
            if offset > *next {
                return Err(Corrupt::Count);
            }
            told(offset, &record)?;
            *next = offset + 1;
        }
        base += i64::from(part.header.last_offset_delta) + 1;
    }
    Ok(())
}

fn write_fields(out: &mut Vec<u8>, record: &Record<'_>) -> Result<(), Corrupt> {
    if let Some(key) = record.key {
        match std::str::from_utf8(key) {
            Ok(text) if !record.attributes.binary_key() => {
                out.extend_from_slice(b",\"key\":");
                put_string(out, text);
            }
            _ => put_base64(out, b",\"key_base64\":", key),
        }
    }
    if let Some(value) = record.value {
        match (record.attributes.kind(), std::str::from_utf8(value)) {
            (ValueKind::Json, _) => {
                out.extend_from_slice(b",\"value\":");
                out.extend_from_slice(value);
            }
            (ValueKind::Text | ValueKind::Unknown, Ok(text)) => {
                out.extend_from_slice(b",\"value_text\":");
                put_string(out, text);
            }
            _ => put_base64(out, b",\"value_base64\":", value),
        }
    }
    let headers = record.headers()?;
    if headers.is_empty() {
        return Ok(());
    }
    let headers: Vec<(&str, &[u8])> = headers.collect::<Result<_, _>>()?;
    write_headers(out, &headers);
    Ok(())
}

/// Headers in the order of their names' first use; a name that comes more than once is an array.
fn write_headers(out: &mut Vec<u8>, headers: &[(&str, &[u8])]) {
    out.extend_from_slice(b",\"headers\":{");
    for (at, (name, _)) in headers.iter().enumerate() {
        if headers[..at].iter().any(|(before, _)| before == name) {
            continue;
        }
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        put_string(out, name);
        out.push(b':');
        let values = headers[at..].iter().filter(|(other, _)| other == name);
        if values.clone().count() == 1 {
            values.for_each(|(_, bytes)| write_header(out, bytes));
            continue;
        }
        out.push(b'[');
        for (_, bytes) in values {
            write_header(out, bytes);
            out.push(b',');
        }
        out.pop();
        out.push(b']');
    }
    out.push(b'}');
}

fn write_header(out: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => put_string(out, text),
        Err(_) => {
            put_base64(out, b"{\"base64\":", bytes);
            out.push(b'}');
        }
    }
}

fn put_number(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON and a Vec takes every byte");
}

fn put_base64(out: &mut Vec<u8>, lead: &[u8], bytes: &[u8]) {
    out.extend_from_slice(lead);
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}
