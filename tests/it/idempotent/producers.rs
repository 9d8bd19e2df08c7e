//! Idempotent producers: a sequence is appended once, and every repeat gets the first answer.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use uuid::Uuid;

use super::{ORDERS, TwoNodes};
use crate::support::{Answer, Client, eventually};

/// A producer that nobody else is.
fn any() -> Uuid {
    Uuid::from_u128(rand::random())
}

/// One keyless message of a producer.
fn numbered(producer: Uuid, sequence: i64, value: impl Into<Value>) -> Value {
    request(producer, sequence, json!([{"value": value.into()}]))
}

fn request(producer: Uuid, sequence: i64, messages: Value) -> Value {
    let id = producer.to_string();
    json!({"messages": messages, "producer": {"id": id, "sequence": sequence}})
}

/// The same places as `first`, as a duplicate.
fn is_repeat_of(answer: &Answer, first: &Answer) {
    let mut told = answer.ok();
    assert_eq!(told["duplicate"], true, "{told}");
    told.as_object_mut().expect("an object").remove("duplicate");
    assert_eq!(told, first.ok());
    assert!(first.ok().get("duplicate").is_none(), "{first:?}");
}

async fn values(client: &Client, partitions: u32) -> Vec<Value> {
    let mut values = Vec::new();
    for partition in 0..partitions {
        let messages = client.read_all("orders", partition).await;
        values.extend(messages.into_iter().map(|mut message| message["value"].take()));
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_first_answer_through_any_node_also_after_the_topic_grew() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 3})).await;
    let producer = any();
    let batch: Value = (0..40).map(|n| json!({"key": format!("k{n}"), "value": n})).collect();
    let bodies = [
        request(producer, 1, batch),
        numbered(producer, 2, "keyless"),
        request(producer, 3, json!([{"value": 1, "partition": 2}, {"value": 2, "partition": 0}])),
    ];
    let mut firsts = Vec::new();
    for body in &bodies {
        firsts.push(pair.publish(0, body).await);
    }
    for grown in [false, true] {
        if grown {
            let path = "/v1/topics/orders";
            pair.clients[1].json(Method::PATCH, path, &json!({"partitions": 8})).await.ok();
        }
        for node in [0, 1] {
            for (body, first) in bodies.iter().zip(&firsts) {
                is_repeat_of(&pair.publish(node, body).await, first);
            }
        }
    }
    // The same request in other words: what counts is what it asks for.
    let spaced = serde_json::to_string_pretty(&bodies[1]).expect("JSON");
    let spaced = pair.clients[1].post(ORDERS, "application/json", spaced).await;
    is_repeat_of(&spaced, &firsts[1]);
    assert_eq!(values(&pair.clients[0], 8).await.len(), 43);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keyless_messages_of_a_producer_lie_in_one_partition_in_their_order() {
    let pair = TwoNodes::new().await;
    for keyless in ["sticky", "round_robin"] {
        let topic = format!("spread-{keyless}");
        let settings = json!({"partitions": 7, "keyless": keyless});
        pair.clients[0].put_topic(&topic, settings).await;
        let path = format!("/v1/topics/{topic}/messages");
        let mut homes = std::collections::BTreeSet::new();
        for _ in 0..12 {
            let producer = any();
            let mut places = Vec::new();
            for sequence in 0..4 {
                let body = request(producer, sequence, json!([{"value": 1}, {"value": 2}]));
                let node = sequence as usize % 2;
                let answer = pair.clients[node].json(Method::POST, &path, &body).await;
                places.extend(answer.results());
            }
            assert!(places.windows(2).all(|two| two[0].0 == two[1].0 && two[0].1 < two[1].1));
            homes.insert(places[0].0);
        }
        assert!(homes.len() > 1, "all producers in one partition: {homes:?}");
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_body_under_a_sequence_is_refused_and_sequences_may_jump_and_go_back() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 1})).await;
    let producer = any();
    // A gap is no error, nor is going back into it.
    let mut firsts = Vec::new();
    for sequence in [0, 50, 7, 49, 63] {
        let first = pair.publish(0, &numbered(producer, sequence, sequence)).await;
        firsts.push((sequence, first));
    }
    for (sequence, first) in &firsts {
        let node = *sequence as usize % 2;
        is_repeat_of(&pair.publish(node, &numbered(producer, *sequence, *sequence)).await, first);
        for other in [
            numbered(producer, *sequence, "other"),
            request(producer, *sequence, json!([{"value_text": sequence.to_string()}])),
            request(producer, *sequence, json!([{"value": sequence, "key": ""}])),
            request(producer, *sequence, json!([{"value": sequence}, {"value": sequence}])),
        ] {
            pair.publish(1 - node, &other).await.problem(422, "body_differs", "none");
        }
    }
    // 64 is the newest: the window begins at 1, and whatever lies below is told so, appended or
    // not, with its own body or another.
    pair.publish(1, &numbered(producer, 64, 64)).await.results();
    for body in [numbered(producer, 0, 0), numbered(producer, 0, "other")] {
        let problem = pair.publish(0, &body).await.problem(409, "sequence_too_old", "none");
        assert_eq!(problem["retryable"], false);
    }
    pair.publish(0, &numbered(producer, 1, 1)).await.results();
    pair.publish(0, &numbered(producer, 10_000, 1)).await.results();
    for sequence in [64, 65, 9_936] {
        let late = pair.publish(1, &numbered(producer, sequence, sequence)).await;
        late.problem(409, "sequence_too_old", "none");
    }
    pair.publish(1, &numbered(producer, 9_937, 9_937)).await.results();
    assert_eq!(values(&pair.clients[0], 1).await.len(), 9);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_counts_for_one_producer_and_one_incarnation_of_a_topic() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 1})).await;
    pair.clients[0].put_topic("others", json!({"partitions": 1})).await;
    let (one, two) = (any(), any());
    let first = pair.publish(0, &numbered(one, 1, 1)).await;
    assert_eq!(first.results(), [(0, 0)]);
    assert_eq!(pair.publish(0, &numbered(two, 1, 1)).await.results(), [(0, 1)]);
    let elsewhere = "/v1/topics/others/messages";
    let other = pair.clients[0].json(Method::POST, elsewhere, &numbered(one, 1, 1)).await;
    assert_eq!(other.results(), [(0, 0)]);
    let gone = pair.clients[1].request(Method::DELETE, "/v1/topics/orders");
    assert_eq!(pair.clients[1].send(gone).await.status, 204);
    pair.clients[1].put_topic("orders", json!({"partitions": 1})).await;
    let again = pair.publish(0, &numbered(one, 1, 1)).await;
    assert_eq!(again.results(), [(0, 0)]);
    assert!(again.ok().get("duplicate").is_none(), "{again:?}");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_repeats_at_once_over_two_nodes_are_one_append() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 2})).await;
    let producer = any();
    for sequence in 0..20 {
        let body = numbered(producer, sequence, sequence);
        let sent = (0..16).map(|n| pair.publish(n % 2, &body));
        let answers = join_all(sent).await;
        let firsts = answers.iter().filter(|answer| answer.ok().get("duplicate").is_none());
        assert_eq!(firsts.count(), 1, "sequence {sequence}");
        let places: Vec<_> = answers.iter().map(Answer::results).collect();
        assert!(places.windows(2).all(|two| two[0] == two[1]), "{places:?}");
    }
    let mut found = values(&pair.clients[1], 2).await;
    found.sort_by_key(Value::as_i64);
    assert_eq!(found, (0..20).map(Value::from).collect::<Vec<_>>());
    pair.stop().await;
}

/// X4: what is refused in a flush never fails its neighbours, and every kind gets its own answer.
#[tokio::test(flavor = "multi_thread")]
async fn conflicts_of_every_kind_leave_their_neighbours_alone() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 2})).await;
    let producer = any();
    let old = numbered(producer, 1, "old");
    pair.publish(0, &old).await.results();
    let known = numbered(producer, 100, "known");
    let first = pair.publish(0, &known).await;
    for round in 0..8 {
        let fresh = |n: u64| match n % 2 {
            0 => json!({"messages": [{"key": format!("{round} {n}"), "value": "plain"}]}),
            _ => numbered(any(), 5, "of another producer"),
        };
        let differs = numbered(producer, 100, "differs");
        let wrong = json!({"messages": [{"value": 1, "partition": 1}], "expect_offset": 777_777});
        let bodies: Vec<(u64, Value)> = (0..64)
            .map(|n| match n % 8 {
                3 => (3, known.clone()),
                5 => (5, differs.clone()),
                6 => (6, old.clone()),
                7 => (7, wrong.clone()),
                _ => (0, fresh(n)),
            })
            .collect();
        let node = round % 2;
        let sent = bodies.iter().map(|(_, body)| pair.publish(node, body));
        for (answer, (kind, _)) in join_all(sent).await.iter().zip(&bodies) {
            match kind {
                3 => is_repeat_of(answer, &first),
                5 => drop(answer.problem(422, "body_differs", "none")),
                6 => drop(answer.problem(409, "sequence_too_old", "none")),
                7 => drop(answer.problem(412, "wrong_offset", "none")),
                _ => assert_eq!(answer.results().len(), 1),
            }
        }
    }
    assert_eq!(values(&pair.clients[1], 2).await.len(), 2 + 8 * 32);
    pair.stop().await;
}

/// With an expectation, the repeat of what was appended is not told that the offset is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_expected_an_offset_gets_its_first_answer() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 1})).await;
    let producer = any();
    let expecting = |sequence, offset| {
        let mut body = numbered(producer, sequence, "x");
        body["expect_offset"] = json!(offset);
        body
    };
    let first = pair.publish(0, &expecting(1, 0)).await;
    assert_eq!(first.results(), [(0, 0)]);
    is_repeat_of(&pair.publish(1, &expecting(1, 0)).await, &first);
    // Refused, it leaves a gap and no mark: the same sequence can be used with the right offset.
    pair.publish(0, &expecting(2, 7)).await.problem(412, "wrong_offset", "none");
    assert_eq!(pair.publish(1, &expecting(2, 1)).await.results(), [(0, 1)]);
    pair.publish(1, &expecting(2, 7)).await.problem(422, "body_differs", "none");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_producer_is_refused() {
    let pair = TwoNodes::new().await;
    pair.clients[0].put_topic("orders", json!({"partitions": 1})).await;
    let id = any().to_string();
    let wrong = [
        (json!(null), "/producer"),
        (json!("p"), "/producer"),
        (json!([id, 1]), "/producer"),
        (json!({"sequence": 1}), "/producer/id"),
        (json!({"id": "p", "sequence": 1}), "/producer/id"),
        (json!({"id": 7, "sequence": 1}), "/producer/id"),
        (json!({"id": id}), "/producer/sequence"),
        (json!({"id": id, "sequence": -1}), "/producer/sequence"),
        (json!({"id": id, "sequence": 1_u64 << 53}), "/producer/sequence"),
        (json!({"id": id, "sequence": "1"}), "/producer/sequence"),
        (json!({"id": id, "sequence": 1.5}), "/producer/sequence"),
    ];
    for (producer, at) in wrong {
        let body = json!({"messages": [{"value": 1}], "producer": producer});
        let problem = pair.publish(0, &body).await.problem(422, "invalid", "none");
        assert_eq!(problem["errors"][0]["pointer"], at, "{producer}: {problem}");
    }
    let more = json!({"messages": [{"value": 1}],
        "producer": {"id": id, "sequence": 1, "epoch": 2}});
    let problem = pair.publish(0, &more).await.problem(422, "unknown_field", "none");
    assert_eq!(problem["errors"][0]["pointer"], "/producer/epoch");
    assert_eq!(pair.clients[0].watermarks("orders", 0).await, (0, 0));
    pair.stop().await;
}

/// Nobody knows, but whoever can be recognised may ask again, and then gets an answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_retryable_where_a_repeat_is_known() {
    let pair = TwoNodes::new().await;
    let [one, two] = &pair.clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    let mut session = pair.database.connect().await;
    let mut held = session.begin().await.expect("begins");
    held.execute("select from postrider.partitions for update").await.expect("locks");
    let known = numbered(any(), 1, "known");
    let plain = json!({"messages": [{"value": "plain"}]});
    let keyed = |client: &Client| {
        let request = client.request(Method::POST, ORDERS).json(&plain);
        request.header("idempotency-key", "k")
    };
    let sent = [
        one.request(Method::POST, ORDERS).json(&plain),
        one.request(Method::POST, ORDERS).json(&known),
        keyed(one),
    ];
    let answers = join_all(sent.map(|request| one.send(request))).await;
    held.rollback().await.expect("lets go");
    let mut unknown = 0;
    for (answer, is_known) in answers.iter().zip(&[false, true, true]) {
        // Behind the first flush nothing was sent yet, and everybody may come again.
        if answer.status != 503 {
            let problem = answer.problem(504, "outcome_unknown", "unknown");
            assert_eq!(problem["retryable"], *is_known, "{problem}");
            unknown += 1;
        }
    }
    assert!(unknown > 0, "{answers:?}");
    for client in [two, one] {
        client.json(Method::POST, ORDERS, &known).await.results();
        client.send(keyed(client)).await.results();
    }
    let found = values(one, 1).await;
    let count = |text: &str| found.iter().filter(|value| **value == text).count();
    assert!(count("known") == 1 && count("plain") <= 2, "{found:?}");
    pair.stop().await;
}

/// While a flush is held up, a first one and its repeats gather behind it: they never go together.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_behind_its_first_waits_for_it() {
    let pair = TwoNodes::new().await;
    let one = &pair.clients[0];
    one.put_topic("orders", json!({"partitions": 1})).await;
    let body = numbered(any(), 1, "once");
    let mut session = pair.database.connect().await;
    let mut held = session.begin().await.expect("begins");
    held.execute("select from postrider.partitions for update").await.expect("locks");
    let ahead = one.publish("orders", json!([{"value": "ahead"}]));
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    let behind = async {
        eventually("the flush ahead waits", async || {
            (pair.database.number(waiting).await == 1).then_some(())
        })
        .await;
        let repeats = join_all((0..16).map(|_| pair.publish(0, &body)));
        let release = async {
            for _ in 0..20 {
                one.get("/healthz").await;
            }
            held.rollback().await.expect("lets go");
        };
        tokio::join!(repeats, release).0
    };
    let (_, answers) = tokio::join!(ahead, behind);
    let firsts = answers.iter().filter(|answer| answer.ok().get("duplicate").is_none());
    assert_eq!(firsts.count(), 1, "{answers:?}");
    assert_eq!(values(one, 1).await, ["ahead", "once"]);
    pair.stop().await;
}
