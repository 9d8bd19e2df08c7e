//! The log as psql sees it.

use postrider::{
    model::topic::Compression,
    record::{Attributes, BatchBuilder, RecordBuffer, ValueKind},
};
use serde_json::json;
use sqlx::Row;

use crate::support::{Node, TestDatabase, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_over_rest_is_read_with_sql() {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    client.put_topic("orders", json!({"partitions": 2})).await;
    client.put_topic("packed", json!({"partitions": 1, "compression": "zstd"})).await;
    let long = "é".repeat(5_000);
    client
        .publish(
            "orders",
            json!([
                {"partition": 1, "key": "k", "value": {"a": 1}, "headers": {"h": ["x", "y"]}},
                {"partition": 1, "value_text": long},
                {"partition": 1, "value_base64": "AP8=", "key_base64": "/w=="},
                {"partition": 1, "key": "k"},
                {"partition": 0, "value": null},
            ]),
        )
        .await;
    client.publish("packed", json!([{"value": 1}, {"value": 2}])).await;
    let all = "select topic, partition, \"offset\", kind, key, value, headers::text,
          value_bytes, compression
        from postrider.messages order by 1, 2, 3";
    let rows = eventually("a bucket is attached", async || {
        let rows = database.rows(all).await;
        (rows.len() == 7).then_some(rows)
    })
    .await;
    let text = |row: usize, column: usize| rows[row].get::<Option<String>, _>(column);
    let kinds: Vec<Option<String>> = (0..7).map(|row| text(row, 3)).collect();
    let wanted = ["json", "json", "text", "bytes", "tombstone"].map(|kind| Some(kind.to_owned()));
    assert_eq!(kinds[..5], wanted);
    assert_eq!((text(0, 5).as_deref(), text(1, 4).as_deref()), (Some("null"), Some("k")));
    assert_eq!(text(1, 5).as_deref(), Some(r#"{"a":1}"#));
    assert_eq!(text(1, 6).as_deref(), Some(r#"{"h": ["x", "y"]}"#));
    assert_eq!(text(2, 5).as_deref(), Some(long.as_str()));
    assert_eq!((text(3, 4), text(3, 5)), (None, None));
    assert_eq!(rows[3].get::<Option<Vec<u8>>, _>(7), Some(vec![0, 255]));
    assert_eq!((text(4, 5), rows[4].get::<i64, _>(2)), (None, 3));
    // What is compressed shows that it is there.
    assert_eq!((text(6, 8).as_deref(), text(6, 5)), (Some("zstd"), None));
    assert_eq!(rows[6].get::<i64, _>(2), 1);
    let one =
        database.rows("select \"offset\", key from postrider.messages('orders', 1, 2, 1)").await;
    assert_eq!((one.len(), one[0].get::<i64, _>(0)), (1, 2));
    // What is hidden is hidden here too.
    let hide = "insert into postrider.partition_lows
        select partition_id, 3 from postrider.partitions p join postrider.topics t
          on t.topic_id = p.owner_id where t.name = 'orders' and p.index = 1";
    database.run(hide).await;
    let left = "select count(*) from postrider.messages where topic = 'orders' and partition = 1";
    assert_eq!(database.number(left).await, 1);
    let left = "select min(\"offset\") from postrider.messages('orders', 1)";
    assert_eq!(database.number(left).await, 3);
    node.stop().await.expect("stops");
}

/// The codec in Rust and the one in SQL agree on any batch.
#[tokio::test(flavor = "multi_thread")]
async fn sql_unpacks_what_the_codec_packs() {
    let database = TestDatabase::new().await;
    let mut session = database.connect().await;
    let mut buffer = RecordBuffer::default();
    let values: Vec<Option<Vec<u8>>> = (0..300_usize)
        .map(|n| (n % 7 > 0).then(|| vec![b'a' + (n % 26) as u8; n * n % 5_000]))
        .collect();
    for (n, value) in values.iter().enumerate() {
        let key = (n % 3 > 0).then(|| n.to_string().into_bytes());
        let headers = [("name", b"x".as_slice())].into_iter().take(n % 2);
        let attributes = Attributes::new(ValueKind::Text, false);
        buffer.push(attributes, key.as_deref(), value.as_deref(), headers);
    }
    let batch = || {
        let mut batch = BatchBuilder::new(0, buffer.bytes(), buffer.len());
        batch.extend(&buffer);
        batch.finish(Compression::None)
    };
    let both = [batch(), batch()].concat();
    let rows = sqlx::query("select nth, key_bytes, value_bytes from postrider.unpack($1)")
        .bind(both)
        .fetch_all(&mut session)
        .await
        .expect("unpacked");
    assert_eq!(rows.len(), 600);
    for (at, row) in rows.iter().enumerate() {
        let n = at % 300;
        let key = (n % 3 > 0).then(|| n.to_string().into_bytes());
        assert_eq!(row.get::<i32, _>(0), at as i32);
        assert_eq!(row.get::<Option<Vec<u8>>, _>(1), key);
        assert_eq!(row.get::<Option<Vec<u8>>, _>(2), values[n]);
    }
}
