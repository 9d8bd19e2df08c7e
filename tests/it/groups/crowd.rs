//! Many members over many partitions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use postrider::lifecycle::Lifecycle;
use serde_json::json;
use tokio::task::JoinHandle;

use super::one;
use crate::support::{Client, Member, TestDatabase, group::revoked, within};

/// A member that polls and gives up what it is told to, until it is stopped.
fn live(client: &Client, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (client, stop) = (client.clone(), Arc::clone(stop));
    Lifecycle::new().spawn(async move {
        let body = json!({"topics": ["orders"], "session_timeout": "6s"});
        // So many at once may be told to come again.
        let mut member = loop {
            let joined = Member::try_join(&client, "crowd", &body).await;
            match joined.status {
                201 => break Member::of(&client, "crowd", &joined.value()),
                status => assert!(!stop.load(Ordering::Relaxed), "told {status} to the end"),
            }
        };
        let mut given = json!([]);
        while !stop.load(Ordering::Relaxed) {
            given = revoked(&member.poll(json!({"wait": "2s", "revoked": given})).await);
        }
    })
}

/// Waits until `members` share all partitions within one and nobody is told to give any up.
async fn settled(database: &TestDatabase, members: i64, patience: Duration) -> Duration {
    let since = Instant::now();
    within(patience, "every partition has its owner", async || {
        let sql = "select (count(*) = 200
              and count(*) filter (where has.n not in ({least}, {most})) = 0
              and (select count(distinct member_id) from postrider.assignments) = {members}
              and bool_and(a.revoke_deadline is null and a.member_id = a.target_id))::int::bigint
            from postrider.assignments a join (select member_id, count(*) n
              from postrider.assignments group by 1) has on has.member_id = a.member_id";
        let least = 200 / members;
        let most = least + i64::from(200 % members != 0);
        let sql = sql
            .replace("{least}", &least.to_string())
            .replace("{most}", &most.to_string())
            .replace("{members}", &members.to_string());
        (database.number(&sql).await == 1).then_some(())
    })
    .await;
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_or_dies_in_a_group_of_50_over_200_partitions() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 200})).await;
    let (stop, dies) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut tasks: Vec<_> = (0..49).map(|_| live(&client, &stop)).collect();
    settled(&database, 49, Duration::from_secs(25)).await;
    tasks.push(live(&client, &dies));
    // Taken after 5 s where somebody does not give up: so each was told and did.
    let joined = settled(&database, 50, Duration::from_secs(4)).await;
    dies.store(true, Ordering::Relaxed);
    let died = settled(&database, 49, Duration::from_secs(11)).await;
    println!("after the join {joined:?}, after the death {died:?}");
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no panic");
    }
    node.stop().await.expect("stops");
}
