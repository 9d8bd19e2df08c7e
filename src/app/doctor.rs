//! What `postrider doctor` finds in a database.

use anyhow::Context;

use crate::{
    cli::doctor::{Finding, Status},
    model::{Clock, topic::RetentionClass},
    store::{
        self, Session,
        connect::Target,
        doctor::{Holder, Runway},
        server,
    },
};

/// From which age on a transaction is worth a look, in seconds.
const OLD_TRANSACTION_S: i64 = 60;
/// From which age on a reader of the log is worth a look while a bucket waits to be dropped.
const OLD_READER_S: i64 = 5;
/// From how many dead rows on a table is worth a look, if they are more than the live ones.
const DEAD_ROWS: i64 = 50_000;
/// From how much kept WAL on a replication slot is worth a look: an outage of the standby.
const KEPT_WAL_BYTES: i64 = 4 << 30;
/// Beyond this age PostgreSQL itself begins to complain, and at 2,100 million it stops.
const XID_AGE_FAIL: i64 = 1_800_000_000;
/// How many waiting messages of the outbox are counted, and how long one may wait.
const BACKLOG_COUNTED: i64 = 100_000;
const BACKLOG_OLD_S: i64 = 60;
/// From which difference on clocks are worth a look. No rule depends on it.
const CLOCK_DIFFERENCE_MS: i64 = 1_000;

/// Examines the database behind `target`.
pub(super) async fn examine(target: &Target) -> anyhow::Result<Vec<Finding>> {
    let mut session = target.connect("doctor").await?;
    let mut findings = settings(&mut session).await;
    if !store::migrate::is_current(&mut session).await? {
        let detail = "the schema is not at this program's version: run `postrider migrate`";
        findings.push(Finding::new("schema", Status::Fail, detail));
        return Ok(findings);
    }
    findings.push(Finding::new("schema", Status::Ok, "every migration is applied"));
    findings.push(transactions(&mut session).await?);
    findings.push(slots(&mut session).await?);
    findings.push(bloat(&mut session).await?);
    findings.push(xid_age(&mut session).await?);
    findings.push(outbox(&mut session).await?);
    findings.extend(store::doctor::runways(&mut session).await?.iter().map(runway));
    findings.push(drops(&mut session).await?);
    findings.push(clock(&mut session).await?);
    Ok(findings)
}

async fn settings(session: &mut Session) -> Vec<Finding> {
    let facts = match server::check(session).await {
        Ok(facts) => facts,
        Err(refused) => return vec![Finding::new("server", Status::Fail, refused.to_string())],
    };
    let (major, minor) = (facts.version_num / 10_000, facts.version_num % 10_000);
    let lz4 = if facts.has_lz4_columns { "with" } else { "without" };
    let told = format!("PostgreSQL {major}.{minor}, {lz4} lz4 columns, fsync on");
    let mut findings = vec![Finding::new("server", Status::Ok, told)];
    let warnings = facts.warnings.iter();
    findings.extend(warnings.map(|told| Finding::new("settings", Status::Warn, told.as_str())));
    if findings.len() == 1 {
        findings.push(Finding::new("settings", Status::Ok, "as a log wants them"));
    }
    findings
}

fn named(holders: &[Holder]) -> String {
    let names: Vec<String> = holders
        .iter()
        .map(|holder| match holder.seconds {
            Some(seconds) => format!("{} for {seconds} s", holder.name),
            None => holder.name.clone(),
        })
        .collect();
    names.join("; ")
}

async fn transactions(session: &mut Session) -> anyhow::Result<Finding> {
    let old = store::doctor::holders(session, OLD_TRANSACTION_S).await?;
    if old.is_empty() {
        let detail = format!("none is older than {OLD_TRANSACTION_S} s");
        return Ok(Finding::new("oldest transaction", Status::Ok, detail));
    }
    let detail = format!("old row versions cannot be removed because of {}", named(&old));
    let oldest = old.iter().filter_map(|holder| holder.seconds).max();
    Ok(Finding::new("oldest transaction", Status::Warn, detail).fact("oldest_seconds", oldest))
}

async fn slots(session: &mut Session) -> anyhow::Result<Finding> {
    let slots = store::doctor::slots(session).await?;
    let kept = slots.iter().filter_map(|slot| slot.kept_bytes).max().unwrap_or_default();
    let mib = |bytes: i64| bytes >> 20;
    let ill: Vec<String> = slots
        .iter()
        .filter(|slot| !slot.is_active || slot.kept_bytes > Some(KEPT_WAL_BYTES))
        .map(|slot| {
            let state = if slot.is_active { "active" } else { "read by nobody" };
            let kept = mib(slot.kept_bytes.unwrap_or_default());
            format!("{} ({state}) keeps {kept} MiB of WAL", slot.name)
        })
        .collect();
    let finding = if ill.is_empty() {
        let told =
            format!("{} replication slots, at most {} MiB of WAL kept", slots.len(), mib(kept));
        Finding::new("replication slots", Status::Ok, told)
    } else {
        Finding::new("replication slots", Status::Warn, ill.join("; "))
    };
    Ok(finding.fact("slots", slots.len()).fact("kept_bytes", kept))
}

async fn bloat(session: &mut Session) -> anyhow::Result<Finding> {
    let bloated = store::doctor::bloated(session, DEAD_ROWS).await?;
    let dead: i64 = bloated.iter().map(|table| table.dead).sum();
    let names: Vec<String> = bloated
        .iter()
        .map(|table| format!("{}: {} dead rows, {} live", table.table, table.dead, table.live))
        .collect();
    let finding = if names.is_empty() {
        let told = format!("no table has {DEAD_ROWS} dead rows and more of them than live ones");
        Finding::new("bloat", Status::Ok, told)
    } else {
        Finding::new("bloat", Status::Warn, names.join("; "))
    };
    Ok(finding.fact("dead_rows", dead))
}

async fn xid_age(session: &mut Session) -> anyhow::Result<Finding> {
    let age = store::doctor::xid_age(session).await?;
    let million = |age: i64| age / 1_000_000;
    let mut told = format!(
        "{} million transactions since the oldest row was frozen, {} buckets wait to be frozen",
        million(age.database),
        age.unfrozen
    );
    if let Some((table, age)) = &age.table {
        told.push_str(&format!("; the oldest table is {table} with {} million", million(*age)));
    }
    let late = age.freeze_max + age.freeze_max / 10;
    let status = match age.database {
        database if database > XID_AGE_FAIL => Status::Fail,
        database if database > late => Status::Warn,
        _ => Status::Ok,
    };
    let finding = Finding::new("xid age", status, told);
    Ok(finding.fact("age", age.database).fact("unfrozen_buckets", age.unfrozen))
}

async fn outbox(session: &mut Session) -> anyhow::Result<Finding> {
    let backlog = store::doctor::backlog(session, BACKLOG_COUNTED).await?;
    let (messages, seconds) = (backlog.messages, backlog.seconds);
    let status = if seconds > BACKLOG_OLD_S { Status::Warn } else { Status::Ok };
    let told = match messages {
        0 => "nothing waits to be appended".to_owned(),
        BACKLOG_COUNTED.. => format!("{messages} messages or more wait, for {seconds} s"),
        _ => format!("{messages} messages wait, for {seconds} s"),
    };
    let finding = Finding::new("outbox", status, told);
    Ok(finding.fact("messages", messages).fact("oldest_seconds", seconds))
}

fn runway(runway: &Runway) -> Finding {
    let class = RetentionClass::from_number(runway.class);
    let longest = class.and_then(RetentionClass::longest);
    let name = longest.map_or("forever".to_owned(), crate::model::duration::format);
    let check = format!("buckets {name}");
    let detail = format!(
        "{} open, {} ahead, room for {} min",
        runway.open,
        runway.ahead,
        runway.seconds / 60
    );
    let status = match (runway.open, runway.ahead) {
        (0, _) => Status::Fail,
        (_, 0) => Status::Warn,
        _ if runway.seconds < 0 => Status::Warn,
        _ => Status::Ok,
    };
    Finding::new(&check, status, detail).fact("seconds", runway.seconds).fact("ahead", runway.ahead)
}

async fn drops(session: &mut Session) -> anyhow::Result<Finding> {
    let dropping = store::doctor::dropping(session).await?;
    let readers = store::doctor::batch_readers(session, OLD_READER_S).await?;
    let finding = match (dropping, readers.as_slice()) {
        (0, _) => Finding::new("drops", Status::Ok, "no bucket waits to be dropped"),
        (waiting, []) => {
            Finding::new("drops", Status::Ok, format!("{waiting} buckets are being dropped"))
        }
        (waiting, readers) => Finding::new(
            "drops",
            Status::Warn,
            format!("{waiting} buckets cannot be dropped because of {}", named(readers)),
        ),
    };
    Ok(finding.fact("waiting", dropping))
}

async fn clock(session: &mut Session) -> anyhow::Result<Finding> {
    let here = Clock::default().now_ms();
    let there = store::doctor::now_ms(session).await.context("cannot read the database's clock")?;
    let difference = there - here;
    let status = if difference.abs() > CLOCK_DIFFERENCE_MS { Status::Warn } else { Status::Ok };
    let detail = format!("the database's is {difference} ms ahead of this machine's");
    Ok(Finding::new("clock", status, detail).fact("difference_ms", difference))
}
