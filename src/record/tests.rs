//! The codec against itself and against the `kafka-protocol` crate, both ways.

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    indexmap::IndexMap,
    protocol::StrBytes,
    records::{
        Compression as KafkaCompression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH,
        NO_PRODUCER_ID, NO_SEQUENCE, Record as KafkaRecord, RecordBatchDecoder, RecordBatchEncoder,
        RecordEncodeOptions, TimestampType,
    },
};
use proptest::{prelude::*, test_runner::FileFailurePersistence};

use super::*;
use crate::model::topic::Compression;

#[derive(Clone, Debug, PartialEq)]
struct Message {
    kind: ValueKind,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

fn message() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![
        Just(ValueKind::Unknown),
        Just(ValueKind::Json),
        Just(ValueKind::Text),
        Just(ValueKind::Bytes),
    ];
    // Kafka's own client keeps one value a header name, so the names differ here.
    let headers = proptest::collection::btree_map("[a-zé]{0,8}", bytes(40), 0..4);
    (kind, proptest::option::of(bytes(40)), proptest::option::of(bytes(300)), headers).prop_map(
        |(kind, key, value, headers)| Message {
            kind,
            key,
            value,
            headers: headers.into_iter().collect(),
        },
    )
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)]
}

fn encode(messages: &[Message], compression: Compression) -> Vec<u8> {
    // Two buffers, as two requests that one flush merges.
    let (first, second) = messages.split_at(messages.len() / 2);
    let mut builder = BatchBuilder::new(1_700_000_000_000, 0, messages.len());
    for half in [first, second] {
        let mut buffer = RecordBuffer::default();
        for m in half {
            let headers = m.headers.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
            let attributes = Attributes::new(m.kind, m.key.is_some());
            buffer.push(attributes, m.key.as_deref(), m.value.as_deref(), headers);
        }
        builder.extend(&buffer);
    }
    builder.finish(compression)
}

fn decode(stored: &[u8]) -> Result<Vec<Message>, Corrupt> {
    let mut messages = Vec::new();
    for batch in Batches::new(stored) {
        for record in batch?.records() {
            let record = record?;
            let mut headers = Vec::new();
            for header in record.headers()? {
                let (name, bytes) = header?;
                headers.push((name.to_owned(), bytes.to_vec()));
            }
            messages.push(Message {
                kind: record.attributes.kind(),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers,
            });
        }
    }
    Ok(messages)
}

fn kafka_records(messages: &[Message]) -> Vec<KafkaRecord> {
    let record = |(place, m): (usize, &Message)| KafkaRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        sequence: NO_SEQUENCE,
        timestamp_type: TimestampType::Creation,
        offset: place as i64,
        timestamp: 1_700_000_000_000,
        key: m.key.clone().map(Bytes::from),
        value: m.value.clone().map(Bytes::from),
        headers: m
            .headers
            .iter()
            .map(|(name, bytes)| {
                (StrBytes::from_string(name.clone()), Some(Bytes::from(bytes.clone())))
            })
            .collect::<IndexMap<_, _>>(),
    };
    messages.iter().enumerate().map(record).collect()
}

/// Cases that failed once are tried again first; they are kept beside the other data of tests.
fn seeds_kept() -> ProptestConfig {
    let file = FileFailurePersistence::Direct("tests/data/record.proptest-regressions");
    ProptestConfig { failure_persistence: Some(Box::new(file)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(seeds_kept())]

    #[test]
    fn what_is_written_is_read(
        messages in proptest::collection::vec(message(), 1..40), compression in compression()
    ) {
        prop_assert_eq!(decode(&encode(&messages, compression)), Ok(messages));
    }

    #[test]
    fn kafka_reads_what_we_write(
        messages in proptest::collection::vec(message(), 1..40), compression in compression()
    ) {
        let mut stored = Bytes::from(encode(&messages, compression));
        let mut read = RecordBatchDecoder::decode(&mut stored).expect("kafka reads it").records;
        // The crate counts sequences up from -1 where there is no producer.
        read.iter_mut().for_each(|record| record.sequence = NO_SEQUENCE);
        prop_assert_eq!(read, kafka_records(&messages));
    }

    #[test]
    fn we_read_what_kafka_writes(
        messages in proptest::collection::vec(message(), 1..40), compression in compression()
    ) {
        let compression = match compression {
            Compression::None => KafkaCompression::None,
            Compression::Lz4 => KafkaCompression::Lz4,
            Compression::Zstd => KafkaCompression::Zstd,
        };
        let mut stored = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression };
        RecordBatchEncoder::encode(&mut stored, kafka_records(&messages).iter(), &options)
            .expect("kafka writes it");
        let mut foreign = messages;
        foreign.iter_mut().for_each(|m| m.kind = ValueKind::Unknown);
        prop_assert_eq!(decode(&stored), Ok(foreign));
    }

    #[test]
    fn damage_is_told_and_never_a_panic(
        messages in proptest::collection::vec(message(), 1..10),
        compression in compression(), at in any::<prop::sample::Index>(), bit in 0u8..8
    ) {
        let mut stored = encode(&messages, compression);
        // The base offset and the leader epoch lie outside the checksum and are not read.
        let place = at.index(stored.len());
        prop_assume!(!(0..8).contains(&place) && !(12..16).contains(&place));
        stored[place] ^= 1 << bit;
        prop_assert!(decode(&stored).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(junk in bytes(300)) {
        let _ = decode(&junk);
    }
}

#[test]
fn patching_the_base_offset_leaves_the_checksum_valid() {
    let message =
        Message { kind: ValueKind::Json, key: None, value: Some(b"1".to_vec()), headers: vec![] };
    let mut stored = encode(std::slice::from_ref(&message), Compression::None);
    stored[0..8].copy_from_slice(&41i64.to_be_bytes());
    let batch = Batches::new(&stored).next().expect("one batch").expect("valid");
    assert_eq!(batch.header.base_offset, 41);
    let mut twice = stored.clone();
    twice.extend_from_slice(&stored);
    assert_eq!(decode(&twice), Ok(vec![message.clone(), message]));
}
