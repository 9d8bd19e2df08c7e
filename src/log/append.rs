//! ② Append: one flush at a time from one slot of a node into the open bucket of its class.

use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, timeout},
};

use super::{
    Log, News,
    replicated::{self, Witness},
};
use crate::{
    model::{
        PartitionId,
        topic::{Durability, RetentionClass},
    },
    store::{
        self, Incarnation, Session, StoreError,
        append::{AppendStatement, Flush, Outcome},
        claims::{ClaimKey, Claims, Standing},
        error::Refusal,
    },
};

/// How often a flush looks for the open bucket anew, or for a lock, before it gives up.
const TRIES: usize = 20;
/// Between two such tries; a bucket is rolled in a few of them.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the answer to a repeat may be looked for: others wait behind it.
const STANDING_MAX: Duration = Duration::from_secs(1);
/// A session that rested for longer is asked whether it lives before a flush is sent over it: of
/// one that died with its server the outcome would have to be called unknown.
const SESSION_REST_MAX: Duration = Duration::from_secs(1);
/// A slot that rested for longer is given up; slots of nodes that are silent for twice as long go.
const SLOT_REST_MAX: Duration = Duration::from_secs(300);

/// A flush: entry by entry the same partition, sorted by id, once each.
#[derive(Debug, Default)]
pub struct Append {
    /// Which partitions.
    pub partitions: Vec<i64>,
    /// How many messages for each.
    pub counts: Vec<i32>,
    /// Their record batches.
    pub records: Vec<Vec<u8>>,
    /// The offset that each expects, -1 for none; `None` where no partition does.
    pub expects: Option<Vec<i64>>,
    /// What no other commit may have; `None` where nothing is claimed.
    pub claims: Option<Claims>,
    /// In which incarnation of the log the partitions were looked up.
    pub incarnation: Option<Incarnation>,
}

/// Why a flush was not appended as a whole.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It may have been appended: nobody knows.
    #[error("the outcome of an append is not known: {0}")]
    OutcomeUnknown(StoreError),
    /// It was not appended: the database refused or could not be reached.
    #[error("an append was refused: {0}")]
    Refused(StoreError),
    /// It was not appended: the log has another incarnation than that in which the partitions
    /// were looked up, and there they may be another topic's.
    #[error("the log has another incarnation")]
    Reincarnated,
    /// It was not appended: no bucket of the class is open.
    #[error("no bucket of the class is open")]
    NoBucket,
    /// It was not appended: the server names no synchronous standby that could hold it.
    #[error("the database has no synchronous standby")]
    NoStandby,
    /// It was not appended, because of these partitions and claims.
    #[error("an append is refused for some of its requests")]
    InTheWay(Vec<(PartitionId, Outcome)>),
}

/// Where the messages of a flush stand, one entry a partition in any order: partition, offset of
/// the first, the database's time in ms.
pub type Appended = Vec<(PartitionId, i64, i64)>;

/// The session, bucket and wake slot of one stream of flushes.
#[derive(Debug)]
pub struct Appender {
    log: Log,
    class: RetentionClass,
    durability: Durability,
    session: Option<Session>,
    /// There with the session where a standby is to hold what it commits.
    witness: Option<Witness>,
    /// Tells when the session's server is no longer the log's.
    incarnations: watch::Receiver<Option<Incarnation>>,
    incarnation: Option<Incarnation>,
    statement: Option<AppendStatement>,
    wake: Option<(i64, i64)>,
    used: Instant,
}

impl Appender {
    /// A stream of flushes into buckets of `class`, whose commits mean `durability`. It connects
    /// at its first flush.
    pub fn new(log: Log, class: RetentionClass, durability: Durability) -> Self {
        let incarnations = log.database().incarnations();
        Self {
            log,
            class,
            durability,
            session: None,
            witness: None,
            incarnations,
            incarnation: None,
            statement: None,
            wake: None,
            used: Instant::now(),
        }
    }

    /// Appends all of it or nothing.
    pub async fn append(&mut self, append: &Append) -> Result<Appended, AppendError> {
        for _ in 0..TRIES {
            self.prepare().await?;
            if self.incarnation != append.incarnation {
                return Err(AppendError::Reincarnated);
            }
            if self.witness.as_ref().is_some_and(|witness| !witness.has_standbys()) {
                return Err(AppendError::NoStandby);
            }
            if self.statement.is_none() {
                sleep(PAUSE).await;
                continue;
            }
            match self.flush_once(append).await {
                Ok(rows) => {
                    if let Some(result) = self.sort_out(rows) {
                        return result;
                    }
                }
                Err(error) if error.refusal() == Some(Refusal::Missing) => self.statement = None,
                Err(error) if error.refusal() == Some(Refusal::Busy) => {}
                Err(error) => return Err(self.give_up(error)),
            }
            sleep(PAUSE).await;
        }
        Err(AppendError::NoBucket)
    }

    /// What the rows mean; nothing when the flush is to be tried again in another bucket.
    fn sort_out(
        &mut self,
        rows: Vec<(PartitionId, Outcome)>,
    ) -> Option<Result<Appended, AppendError>> {
        let mut appended = Vec::with_capacity(rows.len());
        let mut stale = false;
        let mut in_the_way = Vec::new();
        for (partition, outcome) in rows {
            match outcome {
                Outcome::Appended { base_offset, appended_ms } => {
                    appended.push((partition, base_offset, appended_ms));
                }
                Outcome::NotOpen | Outcome::Stale => stale = true,
                Outcome::Gone
                | Outcome::Moved
                | Outcome::WrongOffset { .. }
                | Outcome::Claimed(_)
                | Outcome::TooOld(_) => {
                    in_the_way.push((partition, outcome));
                }
            }
        }
        if stale {
            self.statement = None;
            return None;
        }
        if in_the_way.is_empty() {
            return Some(Ok(appended));
        }
        Some(Err(AppendError::InTheWay(in_the_way)))
    }

    /// What stands of a claim that was met by the last append. Where acknowledgements wait for a
    /// standby, this one waits too: whoever wrote the claim may not have waited.
    pub async fn standing(&mut self, key: &ClaimKey) -> Result<Option<Standing>, StoreError> {
        let asked = timeout(STANDING_MAX, self.try_standing(key)).await;
        let asked = asked.unwrap_or_else(|_| Err(StoreError::Lost("no answer".to_owned())));
        if asked.as_ref().is_err_and(StoreError::ends_session) {
            self.forget_session();
        }
        asked
    }

    async fn try_standing(&mut self, key: &ClaimKey) -> Result<Option<Standing>, StoreError> {
        self.try_prepare().await?;
        let lost = || StoreError::Unreachable("no session".to_owned());
        let session = self.session.as_mut().ok_or_else(lost)?;
        let standing = store::claims::find(session, key).await?;
        if self.durability == Durability::Replicated && standing.is_some() {
            let confirmed = self.log.confirm_replicated().await;
            confirmed.map_err(|error| StoreError::Unreachable(error.to_string()))?;
        }
        Ok(standing)
    }

    async fn flush_once(
        &mut self,
        append: &Append,
    ) -> Result<Vec<(PartitionId, Outcome)>, StoreError> {
        let lost = || StoreError::Unreachable("no session".to_owned());
        let session = self.session.as_mut().ok_or_else(lost)?;
        let statement = self.statement.as_ref().ok_or_else(lost)?;
        let (slot, wake) = self.wake.as_mut().ok_or_else(lost)?;
        let flush = Flush {
            partitions: &append.partitions,
            counts: &append.counts,
            records: &append.records,
            expects: append.expects.as_deref(),
            claims: append.claims.as_ref(),
            slot: *slot,
            wake: *wake,
        };
        let backend = self.witness.as_ref().map(Witness::backend);
        let witness = self.witness.as_mut();
        let answer = replicated::answer(
            witnessed(statement, session, &flush, witness),
            self.log.database(),
            self.incarnations.clone(),
            backend,
        );
        let rows = answer.await?;
        if is_appended(&rows) {
            *wake += 1;
            self.log.tell(News::Wakes);
        }
        Ok(rows)
    }

    /// A session, a wake slot and the open bucket, as far as they are not at hand.
    async fn prepare(&mut self) -> Result<(), AppendError> {
        let prepared = self.try_prepare().await;
        prepared.map_err(|error| {
            self.forget_session();
            AppendError::Refused(error)
        })
    }

    async fn try_prepare(&mut self) -> Result<(), StoreError> {
        let rested = self.used.elapsed();
        if rested > SLOT_REST_MAX {
            // Maintenance may have taken this node for gone, and its slot with it.
            self.wake = None;
        }
        let is_current = !self.incarnations.has_changed().unwrap_or(false);
        if !is_current || !self.is_alive(rested > SESSION_REST_MAX).await {
            self.forget_session();
        }
        self.used = Instant::now();
        if self.session.is_none() {
            let database = self.log.database();
            let (mut session, incarnation) =
                replicated::connect(database, "flush", &mut self.incarnations).await?;
            self.incarnation = incarnation;
            if self.durability == Durability::Replicated {
                self.witness = Some(Witness::of(&mut session).await?);
            }
            self.session = Some(session);
        }
        let Some(session) = self.session.as_mut() else { return Ok(()) };
        if self.wake.is_none() {
            self.wake = Some((store::wakes::open_slot(session, self.log.node()).await?, 1));
        }
        if self.statement.is_none() {
            let bucket = store::buckets::newest_open(session, self.class.number()).await?;
            self.statement = bucket.map(|bucket| match self.durability {
                Durability::Local => AppendStatement::new(bucket),
                Durability::Replicated => AppendStatement::replicated(bucket),
            });
        }
        Ok(())
    }

    /// Whether the session is of use. A witness that saw no standby looks again at each flush.
    async fn is_alive(&mut self, has_rested: bool) -> bool {
        let Some(session) = self.session.as_mut() else { return false };
        match &mut self.witness {
            Some(witness) if has_rested || !witness.has_standbys() => {
                witness.look(session).await.is_ok()
            }
            None if has_rested => store::append::is_alive(session).await.is_ok(),
            Some(_) | None => true,
        }
    }

    fn forget_session(&mut self) {
        self.session = None;
        self.witness = None;
        self.statement = None;
        // The next n of the old slot may be taken by a flush that nobody heard of.
        self.wake = None;
    }

    fn give_up(&mut self, error: StoreError) -> AppendError {
        if error.ends_session() {
            self.forget_session();
        }
        // Rows come after the commit: what cannot be read of them happened all the same.
        if error.outcome_is_unknown() || matches!(error, StoreError::Shape(_)) {
            AppendError::OutcomeUnknown(error)
        } else {
            AppendError::Refused(error)
        }
    }
}

fn is_appended(rows: &[(PartitionId, Outcome)]) -> bool {
    rows.iter().all(|(_, outcome)| matches!(outcome, Outcome::Appended { .. }))
}

/// Flushes; with a witness, what it does not vouch for is not answered.
async fn witnessed(
    statement: &AppendStatement,
    session: &mut Session,
    flush: &Flush<'_>,
    witness: Option<&mut Witness>,
) -> Result<Vec<(PartitionId, Outcome)>, StoreError> {
    let Some(witness) = witness else { return statement.run(session, flush).await };
    let (rows, warned) = witness.during(statement.run(session, flush)).await;
    let rows = rows?;
    if is_appended(&rows) && !witness.vouches(session, warned).await? {
        return Err(StoreError::Lost("no synchronous standby holds it".to_owned()));
    }
    Ok(rows)
}
