//! A member of a consumer group on a socket: polls as one over REST does, in a task of its own, so
//! that what it waits for never holds up the socket.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

use super::{
    answers::{self, Id},
    credit::Credit,
    settle::{refuse, settle},
};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
        http::groups::{AssignmentOut, CommitIn, RevokedIn, assignment, poll_problem},
        message::write_items,
    },
    auth::Principal,
    deliver::{
        groups::{Cursor, Delivery, GroupError, Place, PollRequest, Polled},
        stream::Chunk,
    },
    lifecycle::Lifecycle,
    model::{GroupId, duration, limits},
    record::Corrupt,
};

/// Between two tries when the database cannot be asked.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Messages of one poll.
const POLL_MESSAGES: i64 = 5_000;

/// What a client asks of its member.
pub(super) enum Command {
    Commit { id: Id, offsets: Vec<CommitIn> },
    Release { id: Id, assignments: Vec<RevokedIn>, offsets: Vec<CommitIn> },
    Leave { id: Id },
}

/// What the member's task tells its socket.
pub(super) enum Told {
    /// A frame to be sent.
    Frame(Vec<u8>),
    /// The answer to a command.
    Answer(Vec<u8>),
    /// The member is gone as it was asked to; the answer.
    Left(Vec<u8>),
    /// The subscription has ended.
    Ended(Box<Problem>),
    /// A later process of the member has joined.
    Superseded,
}

/// Credit that a socket adds to and its member's task takes from.
#[derive(Debug)]
pub(super) struct SharedCredit {
    credit: Mutex<Credit>,
    added: Notify,
}

impl SharedCredit {
    pub(super) fn new(credit: Credit) -> Arc<Self> {
        Arc::new(Self { credit: Mutex::new(credit), added: Notify::new() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Credit> {
        self.credit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a client says.
    pub(super) fn add(&self, messages: Option<i64>, bytes: Option<i64>) -> Result<(), Problem> {
        self.lock().add(messages, bytes)?;
        self.added.notify_one();
        Ok(())
    }
}

/// Who the member is.
#[derive(Clone)]
pub(super) struct Membership {
    pub(super) state: AppState,
    pub(super) principal: Principal,
    pub(super) sub: Arc<str>,
    pub(super) group: GroupId,
    pub(super) name: Arc<str>,
    pub(super) member: Arc<str>,
    pub(super) generation: i64,
    pub(super) request_id: Arc<str>,
}

/// The task's ends of what connects it with its socket.
pub(super) struct Ends {
    pub(super) number: u32,
    pub(super) told: mpsc::Sender<(u32, Told)>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) credit: Arc<SharedCredit>,
}

/// A partition of the member as the client was last told of it.
type Known = (Arc<str>, u32, i64);

/// A member's task.
pub(super) struct Task {
    of: Membership,
    ends: Ends,
    cursor: Cursor,
    /// What it was last told that it has.
    known: Vec<Known>,
    revoking: Vec<Known>,
    /// The next message is over the credit.
    is_full: bool,
}

#[derive(Serialize)]
struct GivenUp<'a> {
    topic: &'a str,
    partition: u32,
    epoch: i64,
}

/// Why a member's task ends.
enum Over {
    /// The socket is gone.
    Gone,
    /// The subscription has ended, which its socket is to be told.
    Told(Told),
}

/// What a client asked, under way.
struct Settling {
    work: BoxFuture<'static, Told>,
    gives_up: bool,
}

impl Task {
    pub(super) fn new(of: Membership, ends: Ends, cursor: Cursor) -> Self {
        Self { of, ends, cursor, known: Vec::new(), revoking: Vec::new(), is_full: false }
    }

    /// Polls until the socket or the membership ends. `assignments` is what it joined with.
    pub(super) async fn run(mut self, assignments: Vec<AssignmentOut>, lifecycle: Lifecycle) {
        let mut settling = None;
        let over = match self.tell_first(&assignments).await {
            Ok(()) => self.live(&lifecycle, &mut settling).await,
            Err(over) => over,
        };
        let Over::Told(last) = over else { return };
        // Everything that was asked is answered, and nothing more can be.
        self.ends.commands.close();
        if let Some(Settling { work, .. }) = settling.take() {
            let _ = self.tell(work.await).await;
        }
        let is_left = matches!(last, Told::Left(_));
        if is_left {
            let _ = self.tell(last).await;
            return self.refuse_rest().await;
        }
        self.refuse_rest().await;
        let _ = self.tell(last).await;
    }

    async fn refuse_rest(&mut self) {
        while let Ok(command) = self.ends.commands.try_recv() {
            let _ = self.tell(refuse(&self.of, &command)).await;
        }
    }

    async fn live(&mut self, lifecycle: &Lifecycle, settling: &mut Option<Settling>) -> Over {
        loop {
            let messages = self.room();
            let mut polling = Box::pin(poll(self.of.clone(), self.cursor.clone(), messages));
            let is_draining = lifecycle.is_draining();
            let polled = loop {
                tokio::select! {
                    biased;
                    told = async { (&mut settling.as_mut().expect("there is one").work).await },
                        if settling.is_some() =>
                    {
                        *settling = None;
                        if matches!(told, Told::Left(_)) {
                            return Over::Told(told);
                        }
                        if let Err(over) = self.tell(told).await {
                            return over;
                        }
                    }
                    command = self.ends.commands.recv(), if settling.is_none() => {
                        let Some(command) = command else { return Over::Gone };
                        let gives_up = matches!(command, Command::Release { .. });
                        let work = settle(self.of.clone(), self.cursor.clone(), command);
                        *settling = Some(Settling { work, gives_up });
                    }
                    polled = &mut polling, if !is_draining => break Some(polled),
                    () = self.ends.credit.added.notified(), if messages == 0 => {
                        self.is_full = false;
                        break None;
                    }
                    () = lifecycle.draining(), if !is_draining => break None,
                }
            };
            drop(polling);
            let Some(polled) = polled else { continue };
            // The answer to a release comes before what it brings about.
            if let Some(Settling { work, .. }) = settling.take_if(|settling| settling.gives_up)
                && let Err(over) = self.tell(work.await).await
            {
                return over;
            }
            let done = match polled {
                Ok(polled) => self.deliver(polled).await,
                Err(error) => self.failed(error).await,
            };
            if let Err(over) = done {
                return over;
            }
        }
    }

    fn room(&self) -> u32 {
        let credit = *self.ends.credit.lock();
        if credit.is_open() && !self.is_full {
            credit.messages.min(POLL_MESSAGES) as u32
        } else {
            0
        }
    }

    async fn tell(&self, told: Told) -> Result<(), Over> {
        self.ends.told.send((self.ends.number, told)).await.map_err(|_| Over::Gone)
    }

    async fn failed(&self, error: GroupError) -> Result<(), Over> {
        Err(Over::Told(match error {
            GroupError::Store(_) | GroupError::Unfinished | GroupError::Read(_) => {
                sleep(RETRY_PAUSE).await;
                return Ok(());
            }
            GroupError::Stale { .. } => Told::Superseded,
            error => Told::Ended(Box::new(poll_problem(error, &self.of.name))),
        }))
    }

    /// Sends what a poll brought, as far as there is credit; the cursor stays behind the last
    /// message that was sent.
    async fn deliver(&mut self, polled: Polled) -> Result<(), Over> {
        self.tell_assignments(&polled).await?;
        self.cursor = polled.cursor;
        for delivery in &polled.deliveries {
            let until = match self.is_full {
                true => delivery.from,
                false => match self.send(delivery).await? {
                    Ok(until) => until,
                    Err(corrupt) => return Err(self.corrupt(&corrupt)),
                },
            };
            // What is over the credit is read again once there is more.
            self.is_full |= until < delivery.until;
            let same = |place: &&mut Place| {
                place.partition == delivery.partition && place.epoch == delivery.epoch
            };
            if let Some(place) = self.cursor.places.iter_mut().find(same) {
                place.position = until;
            }
        }
        Ok(())
    }

    fn corrupt(&self, corrupt: &Corrupt) -> Over {
        tracing::error!(group = &*self.of.name, %corrupt, "stored messages cannot be read");
        let problem = Problem::new(ErrorCode::Internal, "stored messages cannot be read");
        Over::Told(Told::Ended(Box::new(problem)))
    }

    async fn send(&self, delivery: &Delivery) -> Result<Result<i64, Corrupt>, Over> {
        let chunk = match Chunk::new(delivery.from, delivery.batches.clone(), write_items) {
            Ok(chunk) => chunk,
            Err(corrupt) => return Ok(Err(corrupt)),
        };
        let last = (delivery.until - delivery.from) as usize;
        let mut first = 0;
        while first < last {
            let frame = {
                let mut credit = self.ends.credit.lock();
                let messages = (credit.messages.max(0) as usize).min(last - first);
                let bytes = credit.bytes.max(0) as usize;
                let mut count =
                    chunk.fitting(first, messages, bytes.min(limits::FRAME_ITEMS_BYTES));
                if count == 0 {
                    count = chunk.fitting(first, messages.min(1), bytes);
                }
                if count == 0 {
                    break;
                }
                let items = chunk.items(first, first + count);
                credit.take(count, items.len());
                first += count;
                let Delivery { topic, index, epoch, .. } = delivery;
                let mut frame = answers::lead(&self.of.sub, topic, *index, Some(*epoch));
                frame.extend_from_slice(items);
                answers::end_items(&mut frame);
                frame
            };
            self.tell(Told::Frame(frame)).await?;
        }
        Ok(Ok(delivery.from + first as i64))
    }

    /// Tells what the member has as it joins, also where that is nothing.
    async fn tell_first(&mut self, all: &[AssignmentOut]) -> Result<(), Over> {
        let known = all.iter().map(|one| (Arc::from(&*one.topic), one.partition, one.epoch));
        self.known = known.collect();
        self.tell(Told::Frame(self.assigned(all))).await
    }

    /// Tells what the member has, if that is not what it was last told.
    async fn tell_assignments(&mut self, polled: &Polled) -> Result<(), Over> {
        let now: Vec<Known> = polled
            .assignments
            .iter()
            .map(|one| (Arc::clone(&one.topic), one.index, one.epoch))
            .collect();
        let gone: Vec<&Known> = self.known.iter().filter(|one| !now.contains(one)).collect();
        if !gone.is_empty() {
            let frame = self.given_up("revoked", &gone);
            self.tell(Told::Frame(frame)).await?;
        }
        let has_gap = polled.assignments.iter().any(|one| one.gap > 0);
        if self.known != now || has_gap {
            let all: Vec<AssignmentOut> = polled.assignments.iter().map(assignment).collect();
            self.tell(Told::Frame(self.assigned(&all))).await?;
        }
        self.known = now;
        self.tell_revokes(polled).await
    }

    fn assigned(&self, all: &[AssignmentOut]) -> Vec<u8> {
        let mut frame = answers::begin("assigned", &self.of.sub);
        frame.extend_from_slice(b",\"assignments\":");
        answers::put(&mut frame, &all);
        frame.push(b'}');
        frame
    }

    async fn tell_revokes(&mut self, polled: &Polled) -> Result<(), Over> {
        let key =
            |one: &crate::deliver::groups::Revoked| (Arc::clone(&one.topic), one.index, one.epoch);
        let fresh: Vec<_> =
            polled.revokes.iter().filter(|one| !self.revoking.contains(&key(one))).collect();
        if let Some(soonest) = fresh.iter().map(|one| one.deadline).min() {
            let keys: Vec<Known> = fresh.iter().map(|one| key(one)).collect();
            let mut frame = self.given_up("revoke", &keys.iter().collect::<Vec<_>>());
            frame.pop();
            frame.extend_from_slice(b",\"deadline\":");
            answers::put(&mut frame, &duration::format(soonest));
            frame.push(b'}');
            self.tell(Told::Frame(frame)).await?;
        }
        self.revoking = polled.revokes.iter().map(key).collect();
        Ok(())
    }

    fn given_up(&self, op: &str, partitions: &[&Known]) -> Vec<u8> {
        let each = partitions.iter().map(|(topic, partition, epoch)| GivenUp {
            topic,
            partition: *partition,
            epoch: *epoch,
        });
        let mut frame = answers::begin(op, &self.of.sub);
        frame.extend_from_slice(b",\"assignments\":");
        answers::put(&mut frame, &each.collect::<Vec<_>>());
        frame.push(b'}');
        frame
    }
}

async fn poll(of: Membership, cursor: Cursor, max: u32) -> Result<Polled, GroupError> {
    let groups = &of.state.groups;
    let arrival = groups.arrive_at(of.group, &of.member, Some(cursor)).await?;
    groups.poll(arrival, PollRequest { max, wait: limits::READ_WAIT_MAX }).await
}
