//! The subscriptions of a socket: how they begin, what they are sent, how they end.

use std::{sync::Arc, time::Duration};

use futures_util::{Sink, Stream};
use tokio::{sync::mpsc, time::Instant};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{
    super::{
        answers::{self, Id},
        close::Close,
        credit::Credit,
        member::{Command, SharedCredit, Told},
        settle::ended,
        tail::{self, Opened, TailWish},
    },
    End, Session,
    join::Joined,
    names::Names,
};
use crate::{
    api::error::{ErrorCode, Problem},
    deliver::stream::Reader,
    model::{GroupId, limits},
};

/// One subscription of a socket.
pub(super) struct Subscription {
    pub(super) number: u32,
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
}

/// What it is.
pub(super) enum Kind {
    /// Its beginning is being looked up.
    Opening {
        credit: Credit,
        left: Option<Id>,
    },
    Tail(Box<Tail>),
    Member(Box<Member>),
}

/// A subscription without a group.
pub(super) struct Tail {
    pub(super) reader: Reader,
    pub(super) credit: Credit,
    pub(super) wish: Arc<TailWish>,
    pub(super) names: Names,
    pub(super) is_filtered: bool,
    /// Something may be there for it.
    pub(super) is_hot: bool,
    /// The sum of all positions when they were last told: it rises with each of them.
    pub(super) told: i64,
}

/// A subscription with a group.
pub(super) struct Member {
    pub(super) credit: Arc<SharedCredit>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) group: GroupId,
    /// The member's number under its generation.
    pub(super) number: i64,
    pub(super) session_timeout: Duration,
}

/// Work of a socket that has come to its end.
pub(super) enum Done {
    Tail {
        number: u32,
        id: Id,
        wish: Arc<TailWish>,
        opened: Result<Vec<Opened>, Problem>,
    },
    /// Topics that came later and that a pattern means.
    More {
        number: u32,
        opened: Result<Vec<Opened>, Problem>,
    },
    Member {
        number: u32,
        id: Id,
        joined: Result<Joined, Problem>,
    },
}

fn no_sub(sub: &str) -> Problem {
    let shown: String = sub.chars().take(limits::SUBSCRIPTION_NAME_CHARS_MAX).collect();
    Problem::new(ErrorCode::NotFound, format!("this socket has no subscription `{shown}`"))
        .at("/sub")
}

impl<S> Session<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    pub(super) fn at(&self, number: u32) -> Option<usize> {
        self.subscriptions.binary_search_by_key(&number, |one| one.number).ok()
    }

    fn named(&mut self, sub: &str) -> Result<&mut Subscription, Problem> {
        let found = self.subscriptions.iter_mut().find(|one| &*one.name == sub);
        found.ok_or_else(|| no_sub(sub))
    }

    /// News for one of the readers, or for those who read patterns.
    pub(super) fn heard_of(&mut self, key: u64) {
        let number = (key >> 32) as u32;
        if number == u32::MAX {
            return self.names_changed();
        }
        let Some(at) = self.at(number) else { return };
        if let Kind::Tail(tail) = &mut self.subscriptions[at].kind {
            tail.reader.heard(key);
            tail.is_hot = true;
        }
    }

    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Tail { number, id, wish, opened } => self.opened(number, &id, wish, opened),
            Done::Member { number, id, joined } => self.joined(number, &id, joined),
            Done::More { number, opened } => self.came(number, opened),
        }
    }

    fn opened(
        &mut self,
        number: u32,
        id: &str,
        wish: Arc<TailWish>,
        opened: Result<Vec<Opened>, Problem>,
    ) {
        let Some(at) = self.at(number) else { return };
        let Kind::Opening { credit, left } = &mut self.subscriptions[at].kind else { return };
        let (credit, left) = (*credit, left.take());
        let opened = match opened.and_then(|opened| self.within_bounds(opened)) {
            Ok(opened) => opened,
            Err(problem) => {
                let sub = self.subscriptions.remove(at).name;
                self.refuse(id, Some(&sub).filter(|_| id.is_empty()).map(|sub| &**sub), &problem);
                if let Some(left) = left {
                    self.out.push_json(answers::ok(&left, &sub));
                }
                return;
            }
        };
        let (streams, mailbox) = (self.state.streams.clone(), Arc::clone(&self.mailbox));
        let is_filtered = wish.filter.is_some();
        let mut reader = Reader::new(streams, mailbox, number, wish.filter.clone());
        let reason = opened.iter().find_map(|opened| opened.reason);
        for Opened { stream, places, .. } in opened {
            reader.add(stream, &places, true);
        }
        let log = tail::log(&reader, &wish);
        let names = match wish.patterns.is_empty() {
            true => Names::Fixed,
            false => self.watch_names(),
        };
        if is_filtered {
            self.clock.tell_positions();
        }
        let sub = &self.subscriptions[at].name;
        let mut frame = answers::ok(id, sub);
        frame.pop();
        frame.extend_from_slice(b",\"log\":");
        answers::put(&mut frame, &log);
        frame.extend_from_slice(b",\"positions\":");
        answers::put(&mut frame, &tail::positions(&reader));
        frame.extend_from_slice(b",\"recovered\":");
        answers::put(&mut frame, &reason.is_none());
        if let Some(reason) = reason {
            frame.extend_from_slice(b",\"reason\":");
            answers::put(&mut frame, &reason.as_str());
        }
        frame.push(b'}');
        self.out.push_json(frame);
        let tail = Tail { reader, credit, wish, names, is_filtered, is_hot: true, told: -1 };
        self.subscriptions[at].kind = Kind::Tail(Box::new(tail));
        if let Some(left) = left {
            let sub = self.subscriptions.remove(at).name;
            self.out.push_json(answers::ok(&left, &sub));
            return;
        }
        // What came since its names were listed was told to nobody.
        self.look_for_names(at);
    }

    /// A member's task says something.
    pub(super) fn member_told(&mut self, number: u32, told: Told) -> Result<(), End> {
        if matches!(told, Told::Answer(_) | Told::Left(_)) {
            self.commands = self.commands.saturating_sub(1);
        }
        match (self.at(number), told) {
            // Also of one that has ended.
            (_, Told::Answer(frame)) | (Some(_), Told::Frame(frame)) => self.out.push_json(frame),
            (Some(at), Told::Left(frame)) => {
                self.subscriptions.remove(at);
                self.out.push_json(frame);
            }
            (Some(at), Told::Ended(problem)) => {
                let sub = self.subscriptions.remove(at).name;
                self.out.push_json(answers::closed(&sub, &problem, &self.request_id));
            }
            (Some(_), Told::Superseded) => return Err(End::Close(Close::LaterGeneration)),
            (None, _) => {}
        }
        Ok(())
    }

    pub(super) fn add_credit(
        &mut self,
        sub: &str,
        messages: Option<i64>,
        bytes: Option<i64>,
    ) -> Result<(), Problem> {
        match &mut self.named(sub)?.kind {
            Kind::Opening { credit, .. } => credit.add(messages, bytes),
            Kind::Tail(tail) => {
                tail.credit.add(messages, bytes)?;
                tail.is_hot = true;
                self.has_more = true;
                Ok(())
            }
            Kind::Member(member) => member.credit.add(messages, bytes),
        }
    }

    /// Hands a command to the member of a subscription.
    pub(super) fn command(&mut self, sub: &str, command: Command) -> Result<(), Problem> {
        let no_group = || {
            Problem::new(ErrorCode::Invalid, format!("the subscription `{sub}` has no group"))
                .at("/sub")
        };
        match &mut self.named(sub)?.kind {
            Kind::Opening { .. } => {
                let detail = format!("the subscription `{sub}` is not open yet");
                Err(Problem::new(ErrorCode::Invalid, detail).at("/sub"))
            }
            Kind::Tail(_) => Err(no_group()),
            Kind::Member(member) => {
                // One that has ended is told as such by what its task said last.
                let sent = member.commands.try_send(command);
                sent.map_err(|_| ended(sub))?;
                self.commands += 1;
                Ok(())
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, sub: &str, id: Id) -> Result<(), Problem> {
        let at = self.subscriptions.iter().position(|one| &*one.name == sub);
        let at = at.ok_or_else(|| no_sub(sub))?;
        match &mut self.subscriptions[at].kind {
            Kind::Opening { left, .. } => *left = Some(id),
            Kind::Tail(_) => {
                self.subscriptions.remove(at);
                self.out.push_json(answers::ok(&id, sub));
            }
            Kind::Member(_) => self.command(sub, Command::Leave { id })?,
        }
        Ok(())
    }

    /// The client was heard, and so were its members.
    pub(super) fn beat(&mut self) {
        let now = Instant::now();
        self.heard = now;
        self.clock.heard();
        let members = || {
            self.subscriptions.iter().filter_map(|one| match &one.kind {
                Kind::Member(member) => Some(member),
                Kind::Opening { .. } | Kind::Tail(_) => None,
            })
        };
        if members().next().is_some() && self.clock.is_beat_due(now) {
            for member in members() {
                self.state.groups.heard(member.group, member.number);
            }
        }
    }

    /// How long a client may be silent before it is asked whether it lives.
    pub(super) fn ping_interval(&self) -> Duration {
        let timeouts = self.subscriptions.iter().filter_map(|one| match &one.kind {
            Kind::Member(member) => Some(member.session_timeout / 3),
            Kind::Opening { .. } | Kind::Tail(_) => None,
        });
        timeouts.min().map_or(limits::PING_INTERVAL, |third| third.min(limits::PING_INTERVAL))
    }
}
