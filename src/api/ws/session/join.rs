//! How subscriptions are asked for: what a `subscribe` has to be like, and its way in.

use std::sync::Arc;

use futures_util::{Sink, Stream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{
    super::{
        answers::{self, Id},
        credit::Credit,
        frames::{FilterIn, SubscribeFrame},
        member::{Ends, Membership, SharedCredit, Task},
        place::{From, Logs},
        tail::TailWish,
    },
    Session,
    subscriptions::{Done, Kind, Member, Subscription},
};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
        extract::Object,
        http::{
            groups::{AssignmentOut, JoinIn, change_problem, first_assignments, wish},
            topics::name,
        },
    },
    auth::Principal,
    deliver::{
        groups::{Cursor, Entered},
        stream::Filter,
    },
    model::{GroupId, Name, group::TopicPattern, limits},
    store::groups::JoinWish,
    telemetry::metrics::GROUPS,
};

/// Headers that one filter may name.
const HEADERS_MAX: usize = 16;
/// What a member's task says before its socket has taken it.
const TOLD_MAX: usize = 4;

fn invalid(pointer: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::Invalid, detail).at(pointer)
}

/// A member that is in.
pub(super) struct Joined {
    group: GroupId,
    member: Arc<str>,
    generation: i64,
    number: i64,
    session_timeout: std::time::Duration,
    name: Arc<str>,
    cursor: Cursor,
    assignments: Vec<AssignmentOut>,
}

fn filter(wanted: Option<Object<FilterIn>>) -> Result<Option<Filter>, Problem> {
    let Some(Object(FilterIn { headers, key_prefix })) = wanted else { return Ok(None) };
    if headers.len() > HEADERS_MAX {
        let detail = format!("a filter names at most {HEADERS_MAX} headers");
        return Err(invalid("/filter/headers", detail));
    }
    if key_prefix.as_ref().is_some_and(|prefix| prefix.len() > limits::KEY_BYTES_MAX) {
        let detail = format!("a key has at most {} bytes", limits::KEY_BYTES_MAX);
        return Err(invalid("/filter/key_prefix", detail));
    }
    if headers.is_empty() && key_prefix.is_none() {
        return Err(invalid("/filter", "a filter has headers or a key_prefix"));
    }
    Ok(Some(Filter { headers, key_prefix }))
}

/// Refuses fields that belong to another kind of subscription.
fn refuse_others(wanted: &SubscribeFrame) -> Result<(), Problem> {
    if wanted.queue.is_some() {
        return Err(Problem::not_yet_supported("subscribing to a queue").at("/queue"));
    }
    let (of_group, of_tail) = match &wanted.group {
        Some(_) => {
            if wanted.filter.is_some() {
                return Err(Problem::not_yet_supported("a filter with a group").at("/filter"));
            }
            (false, [("/from", wanted.from.is_some()), ("/log", wanted.log.is_some())])
        }
        None => (true, [("", false), ("", false)]),
    };
    let group_only = [
        ("/member_id", wanted.member_id.is_some()),
        ("/generation", wanted.generation.is_some()),
        ("/start", wanted.start.is_some()),
        ("/session_timeout", wanted.session_timeout.is_some()),
    ];
    if let Some((pointer, _)) = group_only.iter().find(|(_, is_there)| of_group && *is_there) {
        return Err(invalid(pointer, "this is of a subscription with a group"));
    }
    if let Some((pointer, _)) = of_tail.iter().find(|(_, is_there)| *is_there) {
        return Err(invalid(pointer, "this is of a subscription without a group"));
    }
    if wanted.lease.is_some() {
        return Err(invalid("/lease", "this is of a subscription to a queue"));
    }
    Ok(())
}

fn topics(wanted: &mut SubscribeFrame) -> Result<Vec<String>, Problem> {
    let topics = match (wanted.topic.take(), wanted.topics.take()) {
        (Some(_), Some(_)) => return Err(invalid("/topics", "either topic or topics")),
        (Some(topic), None) => vec![topic],
        (None, Some(topics)) => topics,
        (None, None) => return Err(invalid("/topics", "a subscription names its topics")),
    };
    let most = limits::SUBSCRIPTION_TOPICS_MAX;
    if topics.is_empty() || topics.len() > most {
        return Err(invalid("/topics", format!("a subscription names 1 to {most} topics")));
    }
    Ok(topics)
}

fn tail_wish(mut wanted: SubscribeFrame) -> Result<TailWish, Problem> {
    let is_one = wanted.topic.is_some();
    let mut wish = TailWish {
        names: Vec::new(),
        patterns: Vec::new(),
        partition: None,
        from: From::parse(wanted.from.as_ref())?,
        logs: wanted
            .log
            .as_deref()
            .map(Logs::parse)
            .transpose()
            .map_err(|problem| Problem { errors: Vec::new(), ..problem }.at("/log"))?,
        filter: filter(wanted.filter.take())?,
    };
    for (at, text) in topics(&mut wanted)?.iter().enumerate() {
        let pointer = if is_one { "/topic".to_owned() } else { format!("/topics/{at}") };
        let pattern =
            TopicPattern::parse(text).map_err(|why| invalid(&pointer, why.to_string()))?;
        if !pattern.is_literal() {
            wish.patterns.push(pattern);
        } else if let Ok(name) = Name::parse(text)
            && !wish.names.contains(&name)
        {
            wish.names.push(name);
        }
    }
    Ok(wish)
}

fn join_wish(mut wanted: SubscribeFrame) -> Result<(Name, JoinWish), Problem> {
    let group = wanted.group.take().unwrap_or_default();
    let group = name(&group).map_err(|problem| problem.at("/group"))?;
    let topics = topics(&mut wanted)?;
    let SubscribeFrame { start, session_timeout, member_id, generation, .. } = wanted;
    let wish = wish(JoinIn { topics, start, session_timeout, member_id, generation })?;
    Ok((group, wish))
}

async fn join(
    state: AppState,
    principal: Principal,
    group: Name,
    wish: JoinWish,
) -> Result<Joined, Problem> {
    let (name, member): (Arc<str>, Arc<str>) =
        (Arc::from(group.as_str()), Arc::from(wish.member.as_str()));
    let session_timeout = wish.session_timeout;
    let joined = state.groups.join(principal.tenant, group, wish, None).await;
    let joined = joined.map_err(|error| change_problem(error, &name))?;
    let entered = joined.done().expect("nothing stands without a key");
    let assignments = first_assignments(&entered);
    let Entered { joined, cursor, .. } = entered;
    GROUPS.joins.increment(1);
    let (group, generation) = (joined.group, joined.generation);
    let arrival = state.groups.arrive_at(group, &member, Some(cursor.clone())).await;
    let number = arrival.map_err(|error| change_problem(error, &name))?.number();
    Ok(Joined { group, member, generation, number, session_timeout, name, cursor, assignments })
}

impl<S> Session<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    /// Takes in a subscription, whose beginning is looked up beside everything else.
    pub(super) fn subscribe(&mut self, wanted: SubscribeFrame, id: Id) -> Result<(), Problem> {
        if self.draining.is_some() {
            return Err(Problem::new(ErrorCode::Draining, "this node is about to stop"));
        }
        let sub = wanted.sub.clone();
        let chars = sub.chars().count();
        if chars == 0 || chars > limits::SUBSCRIPTION_NAME_CHARS_MAX {
            let most = limits::SUBSCRIPTION_NAME_CHARS_MAX;
            return Err(invalid("/sub", format!("a sub has 1 to {most} characters")));
        }
        if self.subscriptions.iter().any(|one| *one.name == *sub) {
            let detail = format!("this socket has a subscription `{sub}`");
            return Err(Problem::new(ErrorCode::AlreadyExists, detail).at("/sub"));
        }
        if self.subscriptions.len() >= limits::SOCKET_SUBSCRIPTIONS_MAX {
            let most = limits::SOCKET_SUBSCRIPTIONS_MAX;
            return Err(invalid("/sub", format!("a socket has at most {most} subscriptions")));
        }
        refuse_others(&wanted)?;
        let credit = Credit::new(wanted.credit, wanted.credit_bytes)?;
        let number = self.next_number;
        let (state, principal) = (self.state.clone(), self.principal);
        if wanted.group.is_some() {
            let (group, wish) = join_wish(wanted)?;
            self.work.push(Box::pin(async move {
                let joined = join(state, principal, group, wish).await;
                Done::Member { number, id, joined }
            }));
        } else {
            let wish = Arc::new(tail_wish(wanted)?);
            self.work.push(Box::pin(async move {
                let opened = wish.open(&state, principal.tenant).await;
                Done::Tail { number, id, wish, opened }
            }));
        }
        self.next_number += 1;
        let kind = Kind::Opening { credit, left: None };
        self.subscriptions.push(Subscription { number, name: Arc::from(sub), kind });
        // What was begun has to be polled once before it can wake anybody.
        self.has_more = true;
        Ok(())
    }

    /// A member is in, or is not.
    pub(super) fn joined(&mut self, number: u32, id: &Id, joined: Result<Joined, Problem>) {
        let Some(at) = self.at(number) else { return };
        let Kind::Opening { credit, left } = &mut self.subscriptions[at].kind else { return };
        let (credit, left) = (SharedCredit::new(*credit), left.take());
        let sub = Arc::clone(&self.subscriptions[at].name);
        let joined = match joined {
            Ok(joined) => joined,
            Err(problem) => {
                self.subscriptions.remove(at);
                self.refuse(id, Some(&*sub).filter(|_| id.is_empty()), &problem);
                if let Some(left) = left {
                    self.out.push_json(answers::ok(&left, &sub));
                }
                return;
            }
        };
        let Joined { group, member, generation, name, cursor, session_timeout, .. } = joined;
        let assignments = joined.assignments;
        let mut frame = answers::ok(id, &sub);
        frame.pop();
        frame.extend_from_slice(b",\"member_id\":");
        answers::put(&mut frame, &&*member);
        frame.extend_from_slice(b",\"generation\":");
        answers::put(&mut frame, &generation);
        frame.push(b'}');
        self.out.push_json(frame);
        let told = self.told.get_or_insert_with(|| mpsc::channel(TOLD_MAX)).0.clone();
        let (commands, received) = mpsc::channel(limits::SOCKET_REQUESTS_MAX);
        let ends = Ends { number, told, commands: received, credit: Arc::clone(&credit) };
        let of = Membership {
            state: self.state.clone(),
            principal: self.principal,
            sub: Arc::clone(&sub),
            group,
            name,
            member,
            generation,
            request_id: Arc::clone(&self.request_id),
        };
        let lifecycle = &self.state.lifecycle;
        lifecycle.spawn(Task::new(of, ends, cursor).run(assignments, lifecycle.clone()));
        let member = Member { credit, commands, group, number: joined.number, session_timeout };
        self.subscriptions[at].kind = Kind::Member(Box::new(member));
        self.beat();
        if let Some(id) = left {
            // The member is asked to leave like any other.
            let _ = self.unsubscribe(&sub, id);
        }
    }
}
