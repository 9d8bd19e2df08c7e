//! `Idempotency-Key` on changes of a group: made once, and answered as the first time.

use futures_util::future::join_all;
use postrider::lifecycle::Lifecycle;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use super::{fill, orders, stop, two};
use crate::support::{Answer, Client, Member, TestDatabase, eventually};

async fn keyed(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    let request = client.request(Method::POST, &format!("/v1/groups/g/{path}"));
    client.send(request.header("idempotency-key", key).json(body)).await
}

fn is_first(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(!answer.headers.contains_key("idempotency-replayed"), "{answer:?}");
}

fn is_replay_of(answer: &Answer, first: &Answer) {
    assert_eq!((answer.status, &answer.body), (first.status, &first.body), "{answer:?}");
    assert_eq!(answer.headers["idempotency-replayed"], "true");
    assert_eq!(answer.headers.get("content-type"), first.headers.get("content-type"));
}

/// The group as one of its nodes sees it.
async fn group(client: &Client) -> Value {
    client.get("/v1/groups/g").await.ok()
}

async fn committed(client: &Client) -> i64 {
    group(client).await["partitions"][0]["committed_offset"].as_i64().expect("an offset")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_replays_the_first_answer_of_each_change_through_any_node() {
    let (_database, nodes, clients) = two().await;
    let [one, two] = &clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    fill(one, "orders", 0, 0, 10).await;
    // Without a member id, which would make it the same by itself.
    let joined = keyed(one, "members", "k", &orders()).await;
    is_first(&joined, 201);
    let member = Member::of(one, "g", &joined.value());
    let commit = json!({"offsets": [member.commit("orders", 0, 4)]});
    let commit_done = keyed(one, "offsets", "k", &commit).await;
    is_first(&commit_done, 200);
    assert_eq!(committed(two).await, 4);
    let sought = keyed(two, "seek", "k", &json!({"to": "latest"})).await;
    is_first(&sought, 200);
    assert_eq!(sought.value()["partitions"][0]["offset"], 10);
    let paused = keyed(two, "pause", "k", &json!({})).await;
    is_first(&paused, 204);
    let resumed = keyed(two, "resume", "k", &json!({})).await;
    is_first(&resumed, 204);
    // All of it has moved on since, and no repeat moves it back.
    keyed(one, "seek", "another", &json!({"to": "earliest"})).await.ok();
    fill(one, "orders", 0, 10, 5).await;
    for client in [one, two] {
        for (path, body, first) in [
            ("members", orders(), &joined),
            ("offsets", commit.clone(), &commit_done),
            ("seek", json!({"to": "latest"}), &sought),
            ("pause", json!({}), &paused),
        ] {
            is_replay_of(&keyed(client, path, "k", &body).await, first);
        }
        let now = group(client).await;
        let members = now["members"].as_array().map(Vec::len);
        assert_eq!((&now["paused"], members), (&json!(false), Some(1)));
        assert_eq!(committed(client).await, 0);
    }
    keyed(one, "pause", "another", &json!({})).await;
    is_replay_of(&keyed(two, "resume", "k", &json!({})).await, &resumed);
    assert_eq!(group(one).await["paused"], true);
    // Also where what was asked for is not there any more.
    let to = json!({"to": {"offsets": [{"topic": "orders", "partition": 0, "offset": 2}]}});
    let sought = keyed(one, "seek", "named", &to).await;
    is_first(&sought, 200);
    let gone = one.request(Method::DELETE, "/v1/topics/orders");
    assert_eq!(one.send(gone).await.status, 204);
    for client in [one, two] {
        is_replay_of(&keyed(client, "seek", "named", &to).await, &sought);
        is_replay_of(&keyed(client, "offsets", "k", &commit).await, &commit_done);
    }
    keyed(one, "seek", "other", &to).await.problem(422, "invalid", "none");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_body_changes_nothing() {
    let (_database, nodes, clients) = two().await;
    let [one, two] = &clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    fill(one, "orders", 0, 0, 10).await;
    let joined = keyed(one, "members", "k", &orders()).await;
    let member = Member::of(one, "g", &joined.value());
    let commit = |offset| json!({"offsets": [member.commit("orders", 0, offset)]});
    keyed(one, "offsets", "k", &commit(2)).await.ok();
    let to = |offset: i64| {
        let offset = json!({"topic": "orders", "partition": 0, "offset": offset});
        json!({"to": {"offsets": [offset]}})
    };
    keyed(one, "seek", "k", &to(1)).await.ok();
    for client in [one, two] {
        for (path, body) in [
            ("members", json!({"topics": ["orders"], "start": "latest"})),
            ("offsets", commit(3)),
            ("seek", to(7)),
        ] {
            let answer = keyed(client, path, "k", &body).await;
            answer.problem(422, "body_differs", "none");
        }
    }
    assert_eq!(group(two).await["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(committed(two).await, 1);
    stop(nodes).await;
}

/// A refusal leaves no record, and what only looks has none to leave; an entry's error is part of
/// an answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_changed_nothing_is_asked_anew_with_its_key() {
    let (_database, nodes, clients) = two().await;
    let [one, two] = &clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    let member = Member::join(one, "g", orders()).await;
    let mut lower = orders();
    lower["member_id"] = json!(member.id);
    lower["generation"] = json!(member.generation - 1);
    keyed(one, "members", "k", &lower).await.problem(409, "stale_epoch", "none");
    member.leave().await;
    is_first(&keyed(two, "members", "k", &lower).await, 201);

    let to = json!({"to": {"offsets": [{"topic": "orders", "partition": 0, "offset": 2}]}});
    keyed(one, "seek", "k", &to).await.problem(422, "offset_out_of_range", "none");
    fill(one, "orders", 0, 0, 3).await;
    let mut dry = to.clone();
    dry["dry_run"] = json!(true);
    is_first(&keyed(one, "seek", "k", &dry).await, 200);
    is_first(&keyed(two, "seek", "k", &to).await, 200);
    is_first(&keyed(one, "seek", "k", &dry).await, 200);
    assert_eq!(committed(one).await, 2);

    let entry = json!({"topic": "orders", "partition": 0, "offset": 1, "epoch": 1});
    let stale = keyed(one, "offsets", "k", &json!({"offsets": [entry]})).await;
    assert_eq!(stale.ok()["commit_errors"][0]["code"], "stale_epoch");
    is_replay_of(&keyed(two, "offsets", "k", &json!({"offsets": [entry]})).await, &stale);
    stop(nodes).await;
}

/// While the first runs, its node says so; another node waits a while, and then says it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_first_change_runs_is_told_so() {
    let (database, nodes, clients) = two().await;
    let [one, two] = &clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    Member::join(one, "g", orders()).await;
    let mut session = database.connect().await;
    let mut held = session.begin().await.expect("begins");
    let lock = "select pg_advisory_xact_lock(360287970189639680 + group_id) from postrider.groups";
    held.execute(lock).await.expect("locks");
    let first = Lifecycle::new().spawn({
        let client = one.clone();
        async move { keyed(&client, "pause", "k", &json!({})).await }
    });
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the first one waits for the group", async || {
        (database.number(waiting).await == 1).then_some(())
    })
    .await;
    let told = keyed(one, "pause", "k", &json!({})).await;
    assert_eq!(told.problem(409, "in_progress", "none")["retryable"], true);
    let nothing = json!({});
    let release = async { held.rollback().await.expect("lets go") };
    let (elsewhere, ()) = tokio::join!(keyed(two, "pause", "k", &nothing), release);
    let first = first.await.expect("answered");
    let told = [&first, &elsewhere].map(|answer| {
        assert_eq!(answer.status, 204, "{answer:?}");
        answer.headers.contains_key("idempotency-replayed")
    });
    assert!(told[0] != told[1], "{first:?} {elsewhere:?}");

    // Somebody who has the key, and takes longer than anybody waits.
    let mut held = session.begin().await.expect("begins");
    let claim = "insert into postrider.idempotency_keys
        (tenant_id, scope, idempotency_key, body_hash, status, answer)
        values (1, 'POST /groups/g/resume', 'k', '', 0, '')";
    held.execute(claim).await.expect("claims");
    keyed(two, "resume", "k", &json!({})).await.problem(409, "in_progress", "none");
    held.rollback().await.expect("lets go");
    is_first(&keyed(two, "resume", "k", &json!({})).await, 204);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_joins_with_one_key_are_one_member() {
    let (_database, nodes, clients) = two().await;
    clients[0].put_topic("orders", json!({"partitions": 1})).await;
    let body = orders();
    let sent = (0..16).map(|n| keyed(&clients[n % 2], "members", "k", &body));
    let answers = join_all(sent).await;
    let good: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(good.windows(2).all(|two| two[0].body == two[1].body), "{good:?}");
    let firsts = good.iter().filter(|a| !a.headers.contains_key("idempotency-replayed"));
    assert_eq!(firsts.count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.problem(409, "in_progress", "none");
    }
    assert_eq!(group(&clients[1]).await["members"].as_array().map(Vec::len), Some(1));
    stop(nodes).await;
}

/// What a session's end at the worst moment leaves: what a node leaves that is killed there.
async fn ends_when(database: &TestDatabase, moment: &str) {
    database
        .run(&format!(
            "create function postrider.end_session() returns trigger language plpgsql as $$
             begin
               perform pg_terminate_backend(pg_backend_pid());
               perform pg_sleep(1);
               return null;
             end $$;
             create constraint trigger end_session after {moment}
             deferrable initially deferred
             for each row execute function postrider.end_session()"
        ))
        .await;
}

/// The record stands with the change, or neither does.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_lost_on_its_way_is_made_by_its_repeat() {
    let (database, nodes, clients) = two().await;
    let [one, two] = &clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    fill(one, "orders", 0, 0, 3).await;
    let member = Member::join(one, "g", orders()).await;
    ends_when(&database, "update on postrider.idempotency_keys").await;
    let commit = json!({"offsets": [member.commit("orders", 0, 3)]});
    let changes = [
        ("members", orders(), 201),
        ("offsets", commit, 200),
        ("seek", json!({"to": "latest"}), 200),
        ("pause", json!({}), 204),
    ];
    for (path, body, _) in &changes {
        let problem = keyed(one, path, "k", body).await.problem(504, "outcome_unknown", "unknown");
        assert_eq!(problem["retryable"], true, "{problem}");
        let now = group(two).await;
        assert_eq!(now["members"].as_array().map(Vec::len), Some(1), "{path}");
        assert_eq!((&now["paused"], committed(two).await), (&json!(false), 0), "{path}");
    }
    database.run("drop function postrider.end_session() cascade").await;
    for (path, body, status) in &changes {
        let first = keyed(two, path, "k", body).await;
        is_first(&first, *status);
        is_replay_of(&keyed(one, path, "k", body).await, &first);
    }
    assert_eq!(group(one).await["members"].as_array().map(Vec::len), Some(2));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_made_again_has_keys_of_its_own() {
    let (database, nodes, clients) = two().await;
    let [one, two] = &clients;
    one.put_topic("orders", json!({"partitions": 1})).await;
    let first = keyed(one, "members", "k", &orders()).await;
    is_first(&first, 201);
    // Names that begin alike are other groups.
    for near in ["g0", "g-", "g."] {
        let request = one.request(Method::POST, &format!("/v1/groups/{near}/members"));
        let request = request.header("idempotency-key", "k").json(&orders());
        assert_eq!(one.send(request).await.status, 201);
    }
    let gone = two.request(Method::DELETE, "/v1/groups/g");
    assert_eq!(two.send(gone).await.status, 204);
    let keys = "select count(*) from postrider.idempotency_keys";
    assert_eq!(database.number(keys).await, 3);
    let again = keyed(two, "members", "k", &orders()).await;
    is_first(&again, 201);
    assert_ne!(again.value()["member_id"], first.value()["member_id"]);
    stop(nodes).await;
}
