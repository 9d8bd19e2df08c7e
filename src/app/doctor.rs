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
    Ok(Finding::new("oldest transaction", Status::Warn, detail))
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
    Finding::new(&check, status, detail)
}

async fn drops(session: &mut Session) -> anyhow::Result<Finding> {
    let dropping = store::doctor::dropping(session).await?;
    let readers = store::doctor::batch_readers(session, OLD_TRANSACTION_S).await?;
    Ok(match (dropping, readers.as_slice()) {
        (0, _) => Finding::new("drops", Status::Ok, "no bucket waits to be dropped"),
        (waiting, []) => {
            Finding::new("drops", Status::Ok, format!("{waiting} buckets are being dropped"))
        }
        (waiting, readers) => Finding::new(
            "drops",
            Status::Warn,
            format!("{waiting} buckets cannot be dropped because of {}", named(readers)),
        ),
    })
}

async fn clock(session: &mut Session) -> anyhow::Result<Finding> {
    let here = Clock::default().now_ms();
    let there = store::doctor::now_ms(session).await.context("cannot read the database's clock")?;
    let difference = there - here;
    let status = if difference.abs() > CLOCK_DIFFERENCE_MS { Status::Warn } else { Status::Ok };
    let detail = format!("the database's is {difference} ms ahead of this machine's");
    Ok(Finding::new("clock", status, detail))
}
