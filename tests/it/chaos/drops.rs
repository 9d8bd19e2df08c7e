//! Clients that vanish at any moment. Whatever they asked for happens or does not; no session is
//! left inside a transaction, and nobody else notices.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng, rngs::StdRng};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    PATIENCE,
    client::{Addresses, Asked, Client, Topic},
    load::{Load, Plan, make_topic},
    message::{Form, Kind, Message, Parcel},
    proxy::SlowProxy,
    rig::Rig,
    stream,
    wire::{Connection, Request},
};
use crate::{
    history::{Fate, From, Publish, Recorder, Seen},
    support::{TestDatabase, is_long, seed, within},
};

/// How many clients vanish side by side.
const SIDE_BY_SIDE: usize = 16;
/// The longest that a client stays after it sent its request.
const STAY_MAX: Duration = Duration::from_millis(40);
/// Names that are made, changed and deleted all the time.
const NAMES: usize = 12;
/// No transaction of a node takes longer, however its sessions are used.
const TRANSACTION_MAX: &str = "1 second";

fn requests() -> usize {
    if is_long() { 20_000 } else { 2_000 }
}

/// What a client that vanishes asks for.
enum Wish {
    /// A publish whose messages are known.
    Publish(Vec<Message>, Parcel),
    /// Anything else: method, target, body.
    Other(&'static str, String, String),
}

fn wish(random: &mut StdRng, topic: &Topic) -> Wish {
    let name = format!("/v1/topics/vanishing-{}", random.random_range(0..NAMES));
    let partitions = json!({ "partitions": random.random_range(1..8) }).to_string();
    match random.random_range(0..10) {
        0..4 => {
            let count = random.random_range(1..=50);
            let message = |_| Message::new(Kind::Text, None, None, 20);
            let messages: Vec<Message> = (0..count).map(message).collect();
            let parcel = Parcel::new(&topic.name, &messages, Form::Batch);
            Wish::Publish(messages, parcel)
        }
        4 => {
            let target =
                format!("/v1/topics/{}/partitions/0/messages?from=latest&wait=2s", topic.name);
            Wish::Other("GET", target, String::new())
        }
        5 => Wish::Other("POST", format!("{name}/messages"), r#"{"messages":[{}]}"#.to_owned()),
        6 => Wish::Other("DELETE", name, String::new()),
        7 => Wish::Other("PATCH", name, partitions),
        _ => Wish::Other("PUT", name, partitions),
    }
}

/// Sends a request and vanishes, now and then in the middle of it.
async fn vanish(random: &mut StdRng, node: std::net::SocketAddr, request: &Request<'_>) -> bool {
    let Ok(mut connection) = Connection::open(node).await else { return false };
    let is_cut = random.random_ratio(1, 10);
    let stay = STAY_MAX.mul_f64(random.random::<f64>().powi(2));
    if is_cut {
        let bytes = request.bytes();
        let part = random.random_range(1..bytes.len());
        let _ = connection.send_bytes(&bytes[..part]).await;
        sleep(stay).await;
    } else if random.random() {
        let _ = connection.send(request).await;
        sleep(stay).await;
    } else {
        // Gone while it reads.
        let _ = timeout(stay, connection.exchange(request)).await;
    }
    true
}

/// Vanishes until `left` is used up, and writes down what it may have published.
async fn vanish_often(
    addresses: Addresses,
    recorder: Recorder,
    topic: Arc<Topic>,
    left: Arc<AtomicUsize>,
    mut random: StdRng,
) -> usize {
    let mut published = 0;
    let until = Instant::now() + PATIENCE * 4;
    while Instant::now() < until {
        let more = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if more.is_err() {
            break;
        }
        let node = addresses.read().expect("not poisoned")[random.random_range(0..2)];
        let invoked = recorder.now();
        match wish(&mut random, &topic) {
            Wish::Other(method, target, body) => {
                let request = Request::json(method, &target, body.as_bytes());
                assert!(vanish(&mut random, node, &request).await, "the node takes connections");
            }
            Wish::Publish(messages, parcel) => {
                assert!(vanish(&mut random, node, &parcel.request()).await);
                published += messages.len();
                recorder.publish(Publish {
                    topic: topic.id,
                    invoked,
                    completed: recorder.now(),
                    atomic: true,
                    messages: messages.iter().map(|m| (m.fingerprint(), Fate::Info)).collect(),
                });
            }
        }
    }
    published
}

/// Sessions of the nodes that have been inside one transaction for too long. One that was left
/// there is used by others meanwhile, so it need not be idle.
async fn left_inside(rig: &Rig) -> Vec<i64> {
    rig.numbers(&format!(
        "select pid::bigint from pg_stat_activity
         where datname = current_database() and application_name = 'postrider/pool'
           and xact_start < clock_timestamp() - interval '{TRANSACTION_MAX}'"
    ))
    .await
}

/// Everything that clients vanished from works for one that stays.
async fn everything_works(client: &mut Client, topic: &Topic) {
    for n in 0..NAMES {
        let node = n % 2;
        let target = format!("/v1/topics/vanishing-{n}");
        let messages = format!("{target}/messages");
        let steps: VecDeque<(&str, &str, &str, &[u16])> = VecDeque::from([
            ("DELETE", target.as_str(), "", [204, 404].as_slice()),
            ("PUT", &target, r#"{"partitions":2}"#, &[201]),
            ("PATCH", &target, r#"{"partitions":3}"#, &[200]),
            ("POST", &messages, r#"{"messages":[{"partition":2}]}"#, &[200]),
            ("DELETE", &target, "", &[204]),
        ]);
        for (method, target, body, wanted) in steps {
            let answer = client.ask(node, &Request::json(method, target, body.as_bytes())).await;
            let answer = answer.expect("an answer");
            let text = String::from_utf8_lossy(&answer.body);
            assert!(wanted.contains(&answer.status), "{method} {target}: {} {text}", answer.status);
        }
        let message = [Message::new(Kind::Text, None, None, 8)];
        assert!(client.publish(node, topic, &message, Form::Batch).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_dropped_requests_harm_nobody() {
    let seed = seed();
    let database = TestDatabase::new().await;
    let socket = database.url().split('@').nth(1).and_then(|rest| rest.split(':').next());
    let socket = socket.expect("a socket").replace("%2F", "/").replace("%2D", "-");
    let socket = PathBuf::from(socket).join(".s.PGSQL.5432");
    let proxy = SlowProxy::start(seed, socket, Duration::from_millis(4)).await;
    let url = format!("postgres://postrider@{}/{}?sslmode=disable", proxy.address, database.name());
    let rig = Rig::through(database, url, 2).await;
    let recorder = Recorder::new(seed);
    let settings = json!({ "partitions": 3 });
    let topic = make_topic(&rig.addresses, &recorder, "neighbour", settings, None).await;
    let plan = Plan { publishers: 4, ..Plan::usual(seed, 2) };
    let load = Load::start(&plan, &rig.addresses, &recorder, &[Arc::clone(&topic)]);

    let left = Arc::new(AtomicUsize::new(requests()));
    let mut vanishing = JoinSet::new();
    for n in 0..SIDE_BY_SIDE {
        let (addresses, recorder) = (Arc::clone(&rig.addresses), recorder.clone());
        let (topic, left) = (Arc::clone(&topic), Arc::clone(&left));
        let random = stream(seed, &format!("vanishing {n}"));
        vanishing.spawn(vanish_often(addresses, recorder, topic, left, random));
    }
    let mut dropped = 0;
    while !vanishing.is_empty() {
        let left = left_inside(&rig).await;
        assert!(left.is_empty(), "sessions were left inside a transaction: {left:?}");
        while let Ok(Some(ended)) = timeout(Duration::from_millis(100), vanishing.join_next()).await
        {
            dropped += ended.expect("no panic");
        }
    }
    for node in 0..rig.nodes() {
        // What a guard closes should not have come to it: changes go on in tasks of their own.
        let log = rig.log(node);
        let left = log.lines().find(|line| line.contains("came back inside a transaction"));
        assert_eq!(left, None, "{log}");
    }
    assert_eq!(left.load(Ordering::Relaxed), 0, "not all requests were made in time");
    everything_works(&mut Client::new(&rig.addresses, &recorder), &topic).await;
    within(Duration::from_secs(5), "no session is inside a transaction", async || {
        let inside = "select pid::bigint from pg_stat_activity
            where datname = current_database() and state like 'idle in transaction%'";
        rig.numbers(inside).await.is_empty().then_some(())
    })
    .await;

    let history = load.judge(0).await;
    let extent = history.extent();
    println!("{dropped} messages of clients that vanished: {extent:?}");
    // Only they do not know what became of their requests.
    assert_eq!((extent.failed, extent.unknown), (0, dropped), "{:?}", recorder.notes());
    let unanswered = history.reads.iter().filter(|read| read.seen == Seen::Nothing).count();
    assert_eq!(unanswered, 0, "reads of neighbours without an answer");
    let arrived = extent.finally - extent.acked;
    assert!(0 < arrived && arrived < dropped, "{arrived} of {dropped} arrived: no race at all");
}

/// Changes of topics that wait for each other leave the connections to everyone else.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_changes_that_wait_harm_nobody() {
    let rig = Rig::shared(1).await;
    let recorder = Recorder::new(0);
    let topic = make_topic(&rig.addresses, &recorder, "neighbour", json!({}), None).await;
    let mut holder = rig.session().await;
    let catalog_lock = format!("begin; select pg_advisory_xact_lock({})", 3_i64 << 56);
    sqlx::raw_sql(sqlx::AssertSqlSafe(catalog_lock)).execute(&mut holder).await.expect("held");

    let mut changes = JoinSet::new();
    for n in 0..12 {
        let mut client = Client::new(&rig.addresses, &recorder);
        changes.spawn(async move {
            let target = format!("/v1/topics/waits-{n}");
            client.ask(0, &Request::json("PUT", &target, b"{}")).await.expect("an answer").status
        });
    }
    let mut client = Client::new(&rig.addresses, &recorder);
    let begun = Instant::now();
    let mut answers = Vec::new();
    while !changes.is_empty() {
        let asked =
            Asked { partition: 0, from: From::Earliest, limit: 1, wait_ms: 0, is_final: false };
        let page = timeout(Duration::from_secs(1), client.read(0, &topic, asked)).await;
        assert!(page.is_ok_and(|page| page.is_some()), "a read waits for changes of topics");
        while let Ok(Some(done)) = timeout(Duration::from_millis(50), changes.join_next()).await {
            answers.push(done.expect("no panic"));
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{answers:?}");
    }
    // One had begun, and nobody knows; the others know that nothing happened.
    answers.sort_unstable();
    assert_eq!((answers.len(), answers[10], answers[11]), (12, 503, 504), "{answers:?}");
}
