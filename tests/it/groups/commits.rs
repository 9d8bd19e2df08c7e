//! Commits: fenced by the group's lock and the epoch.

use postrider::lifecycle::Lifecycle;
use reqwest::Method;
use serde_json::{Value, json};

use super::{fill, look, one, orders};
use crate::support::{Answer, Client, Member, eventually, group::places, soon};

async fn commit(client: &Client, entries: Value) -> Answer {
    client.json(Method::POST, "/v1/groups/billing/offsets", &json!({"offsets": entries})).await
}

async fn committed(client: &Client, partition: usize) -> i64 {
    let group = client.get("/v1/groups/billing").await.ok();
    group["partitions"][partition]["committed_offset"].as_i64().expect("an offset")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_entry_fails_nothing_else() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 2})).await;
    fill(&client, "orders", 0, 0, 5).await;
    fill(&client, "orders", 1, 0, 5).await;
    let mut member = Member::join(&client, "billing", orders()).await;
    member.poll(look()).await;
    let mut stale = member.commit("orders", 0, 3);
    stale["epoch"] = json!(member.epoch("orders", 0) - 1);
    let good = member.commit("orders", 1, 3);
    let nowhere = json!({"topic": "nothing", "partition": 0, "offset": 1, "epoch": 1});
    // A topic that the group does not read, a partition that there is not, and one that is
    // another group's under this very epoch.
    client.put_topic("others", json!({"partitions": 1})).await;
    fill(&client, "others", 0, 0, 5).await;
    let theirs = Member::join(&client, "audit", json!({"topics": ["others"]})).await;
    let foreign = theirs.commit("others", 0, 3);
    let mut unread = foreign.clone();
    unread["epoch"] = json!(member.epoch("orders", 0));
    let mut beyond = member.commit("orders", 1, 1);
    beyond["partition"] = json!(2);
    let commit = json!([stale, good, nowhere, unread, foreign, beyond]);
    let answer = member.poll(json!({"max": 0, "commit": commit})).await;
    let errors = answer["commit_errors"].as_array().expect("a list");
    assert_eq!(errors.len(), 5, "{answer}");
    for (error, told) in errors.iter().zip([&stale, &nowhere, &unread, &foreign, &beyond]) {
        assert_eq!(error["code"], "stale_epoch");
        for field in ["topic", "partition", "offset", "epoch"] {
            assert_eq!(error[field], told[field], "{error}");
        }
    }
    assert_eq!((committed(&client, 0).await, committed(&client, 1).await), (0, 3));
    let audit = client.get("/v1/groups/audit").await.ok();
    assert_eq!(audit["partitions"][0]["committed_offset"], 0);
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_already_stands_under_its_epoch_is_ok_and_offsets_never_fall() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 5).await;
    let member = Member::join(&client, "billing", orders()).await;
    let none = json!({"commit_errors": []});
    for offset in [4, 4, 2] {
        let entry = member.commit("orders", 0, offset);
        assert_eq!(commit(&client, json!([entry])).await.ok(), none, "{offset}");
        assert_eq!(committed(&client, 0).await, 4);
    }
    // Its answer was lost, and meanwhile somebody else has the partition.
    member.leave().await;
    let next = Member::join(&client, "billing", orders()).await;
    assert_eq!(next.assignments[0]["offset"], 4);
    let retried = commit(&client, json!([member.commit("orders", 0, 4)])).await.ok();
    assert_eq!(retried, none, "it stands");
    let late = commit(&client, json!([member.commit("orders", 0, 5)])).await.ok();
    assert_eq!(late["commit_errors"][0]["code"], "stale_epoch");
    assert_eq!(committed(&client, 0).await, 4);
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_above_the_end_is_told_where_that_is() {
    let (_database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 5).await;
    let mut member = Member::join(&client, "billing", orders()).await;
    member.poll(look()).await;
    let above = member.commit("orders", 0, 6);
    let answer = member.poll(json!({"max": 0, "commit": [above]})).await;
    let error = &answer["commit_errors"][0];
    assert_eq!(
        (&error["code"], &error["high_watermark"]),
        (&json!("offset_out_of_range"), &json!(5))
    );
    let end = member.commit("orders", 0, 5);
    let answer = member.poll(json!({"max": 0, "commit": [end]})).await;
    assert_eq!(answer["commit_errors"], json!([]));
    node.stop().await.expect("stops");
}

/// As one statement 866 of 2,687 accepted commits came after the next owner's start.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_looks_at_the_epoch_only_after_it_has_the_lock() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 5).await;
    let member = Member::join(&client, "billing", orders()).await;
    let group = database.number("select group_id from postrider.groups").await;
    let mut other = database.connect().await;
    let moves =
        format!("begin; select pg_advisory_xact_lock({});", postrider::store::lock::GROUP + group);
    sqlx::raw_sql(sqlx::AssertSqlSafe(moves)).execute(&mut other).await.expect("the lock");
    let (late, entry) = (client.clone(), member.commit("orders", 0, 4));
    let late = Lifecycle::new().spawn(async move { commit(&late, json!([entry])).await });
    eventually("the commit waits for the lock", async || {
        let sql = "select count(*) from pg_locks where locktype = 'advisory' and not granted
            and database = (select oid from pg_database where datname = current_database())";
        (database.number(sql).await == 1).then_some(())
    })
    .await;
    sqlx::raw_sql(
        "update postrider.assignments set epoch = epoch + 1;
         insert into postrider.group_offsets
           select partition_id, group_id, epoch, 0, tenant_id from postrider.assignments;
         commit",
    )
    .execute(&mut other)
    .await
    .expect("the next owner begins");
    let late = soon("the commit is answered", late).await.expect("no panic").ok();
    assert_eq!(late["commit_errors"][0]["code"], "stale_epoch", "{late}");
    assert_eq!(committed(&client, 0).await, 0);
    node.stop().await.expect("stops");
}

/// A poll reads its rows first and checks afterwards: the other order delivered rows under an
/// epoch that had passed.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_epoch_that_moved_while_they_were_read_are_dropped() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 5).await;
    let mut member = Member::join(&client, "billing", orders()).await;
    // The node knows the assignment, and reads without asking for it.
    assert_eq!(places(&member.poll(json!({"wait": "0s", "max": 1})).await).len(), 1);
    member.poll(json!({"max": 0})).await;
    let before = member.epoch("orders", 0);
    let mut other = database.connect().await;
    sqlx::raw_sql("begin; lock table postrider.batches in access exclusive mode")
        .execute(&mut other)
        .await
        .expect("the lock");
    let polling = member.clone();
    let poll = Lifecycle::new().spawn(async move { polling.try_poll(look()).await });
    eventually("the read waits", async || {
        let sql = "select count(*) from pg_locks l join pg_class c on c.oid = l.relation
            where not l.granted and c.relname like 'batches%'
            and l.database = (select oid from pg_database where datname = current_database())";
        (database.number(sql).await > 0).then_some(())
    })
    .await;
    sqlx::raw_sql(
        "update postrider.assignments set epoch = epoch + 1;
         update postrider.groups set last_epoch = last_epoch + 1, version = version + 1;
         insert into postrider.group_offsets
           select partition_id, group_id, epoch, 3, tenant_id from postrider.assignments;
         commit",
    )
    .execute(&mut other)
    .await
    .expect("the epoch moves");
    let answer = soon("the poll is answered", poll).await.expect("no panic").ok();
    member.follow(&answer);
    assert_eq!(member.epoch("orders", 0), before + 1);
    let offsets: Vec<i64> = places(&answer).iter().map(|place| place.2).collect();
    assert!(offsets.is_empty() || offsets == [3, 4], "rows of the old epoch: {answer}");
    let read = member.poll(look()).await;
    assert_eq!(places(&read).len() + offsets.len(), 2, "from 3 on: {read}");
    node.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_offsets_go_and_the_newest_stays() {
    let (database, node, client) = one().await;
    client.put_topic("orders", json!({"partitions": 1})).await;
    fill(&client, "orders", 0, 0, 50).await;
    let member = Member::join(&client, "billing", orders()).await;
    for offset in 1..=50 {
        commit(&client, json!([member.commit("orders", 0, offset)])).await.ok();
    }
    assert_eq!(database.number("select count(*) from postrider.group_offsets").await, 51);
    let mut session = database.connect().await;
    let bounds = postrider::store::groups::newest_offsets(&mut session).await.expect("asked");
    let bounds = bounds.expect("no old snapshot stands");
    commit(&client, json!([member.commit("orders", 0, 50)])).await.ok();
    postrider::store::groups::prune(&mut session, &bounds).await.expect("pruned");
    assert_eq!(database.number("select count(*) from postrider.group_offsets").await, 1);
    assert_eq!(committed(&client, 0).await, 50);
    node.stop().await.expect("stops");
}
