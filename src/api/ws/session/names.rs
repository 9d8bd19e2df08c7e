//! Topics that come later and that a pattern means. Each subscription looks for them by itself,
//! one look at a time: two at once would both find what came and read it twice.

use std::{sync::Arc, time::Duration};

use futures_util::{Sink, Stream};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{
    super::{
        answers,
        tail::{self, Opened},
    },
    Session,
    subscriptions::{Done, Kind},
};
use crate::{
    api::error::{ErrorCode, Problem},
    deliver::stream::Ear,
    model::limits,
};

/// Between two looks where the topics cannot be listed.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Which topics a subscription reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Those that it named.
    Fixed,
    /// Also what comes.
    Watched,
    /// The same, and a look is under way.
    Looking,
    /// The same, and since it began something came again.
    LookingAgain,
}

impl<S> Session<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    /// The socket is told from now on when topics may have come.
    pub(super) fn watch_names(&mut self) -> Names {
        if self.names.is_none() {
            let ear = Ear::new(&self.mailbox, u64::MAX);
            self.state.streams.watch_names(&ear);
            self.names = Some(ear);
        }
        Names::Watched
    }

    /// Topics may have come.
    pub(super) fn names_changed(&mut self) {
        if let Some(ear) = &self.names {
            ear.listen();
        }
        (0..self.subscriptions.len()).for_each(|at| self.look_for_names(at));
    }

    /// Looks for what came and a pattern of the subscription means.
    pub(super) fn look_for_names(&mut self, at: usize) {
        let Kind::Tail(tail) = &mut self.subscriptions[at].kind else { return };
        match tail.names {
            Names::Fixed => return,
            Names::Watched => tail.names = Names::Looking,
            Names::Looking | Names::LookingAgain => {
                tail.names = Names::LookingAgain;
                return;
            }
        }
        let known = tail.reader.topics().map(|stream| stream.name().clone()).collect();
        let (wish, state) = (Arc::clone(&tail.wish), self.state.clone());
        let (number, tenant) = (self.subscriptions[at].number, self.principal.tenant);
        self.work.push(Box::pin(async move {
            let opened = wish.open_more(&state, tenant, known).await;
            if opened.is_err() {
                sleep(RETRY_PAUSE).await;
            }
            Done::More { number, opened }
        }));
        self.has_more = true;
    }

    /// A look has come to its end.
    pub(super) fn came(&mut self, number: u32, opened: Result<Vec<Opened>, Problem>) {
        let Some(at) = self.at(number) else { return };
        let opened = match opened.map(|opened| self.within_bounds(opened)) {
            Ok(Ok(opened)) => Some(opened),
            Ok(Err(problem)) => {
                let sub = self.subscriptions.remove(at).name;
                self.out.push_json(answers::closed(&sub, &problem, &self.request_id));
                return;
            }
            Err(_) => None,
        };
        let Kind::Tail(tail) = &mut self.subscriptions[at].kind else { return };
        let looks_again = opened.is_none() || tail.names == Names::LookingAgain;
        tail.names = Names::Watched;
        let opened = opened.unwrap_or_default();
        if !opened.is_empty() {
            for Opened { stream, places, .. } in opened {
                tail.reader.add(stream, &places, true);
            }
            tail.is_hot = true;
            // Whoever comes back has to know which history the new positions belong to.
            let log = tail::log(&tail.reader, &tail.wish);
            let positions = tail::positions(&tail.reader);
            let sub = &self.subscriptions[at].name;
            self.out.push_json(answers::position(sub, &positions, Some(&log)));
        }
        if looks_again {
            self.look_for_names(at);
        }
    }

    /// Refuses what would bring the socket over its bound of partitions.
    pub(super) fn within_bounds(&self, opened: Vec<Opened>) -> Result<Vec<Opened>, Problem> {
        let read = self.subscriptions.iter().map(|one| match &one.kind {
            Kind::Tail(tail) => tail.reader.partitions(),
            Kind::Opening { .. } | Kind::Member(_) => 0,
        });
        let more: usize = opened.iter().map(|opened| opened.places.len()).sum();
        if read.sum::<usize>() + more <= limits::SOCKET_PARTITIONS_MAX {
            return Ok(opened);
        }
        let most = limits::SOCKET_PARTITIONS_MAX;
        let detail = format!("a socket reads at most {most} partitions");
        Err(Problem::new(ErrorCode::Invalid, detail).at("/topics"))
    }
}
