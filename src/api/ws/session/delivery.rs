//! What subscriptions without a group are sent, while little waits to be written.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Sink, Stream};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{
    super::{answers, tail},
    Session,
    subscriptions::{Kind, Subscription},
};
use crate::{
    deliver::stream::{Portion, Read, Room},
    model::limits,
    telemetry::metrics::STREAMS,
};

impl<S> Session<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    /// Puts out what readers have, as far as there is room.
    pub(super) fn poll_tails(&mut self, cx: &mut Context<'_>) {
        if self.draining.is_some() {
            return;
        }
        let count = self.subscriptions.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let Some(Subscription { kind: Kind::Tail(tail), .. }) = self.subscriptions.get_mut(at)
            else {
                continue;
            };
            if !tail.is_hot && !tail.reader.is_fetching() {
                continue;
            }
            if !self.out.has_room() {
                self.has_more = true;
                self.turn = at;
                return;
            }
            if self.poll_tail(at, cx) {
                // It has gone: the others have moved.
                self.has_more = true;
                return;
            }
        }
        self.turn = self.turn.wrapping_add(1);
    }

    /// True: the subscription has ended.
    fn poll_tail(&mut self, at: usize, cx: &mut Context<'_>) -> bool {
        let Subscription { name, kind: Kind::Tail(tail), .. } = &mut self.subscriptions[at] else {
            return false;
        };
        loop {
            if !self.out.has_room() {
                // A page that has come is not under way any more: it would be passed over.
                tail.is_hot = true;
                self.has_more = true;
                return false;
            }
            let room = Room {
                messages: tail.credit.messages.max(0) as usize,
                bytes: tail.credit.bytes.max(0) as usize,
                portion: limits::FRAME_ITEMS_BYTES,
            };
            let problem = match tail.reader.poll_next(cx, room) {
                Poll::Ready(Read::Portion(portion)) => {
                    tail.credit.take(portion.count(), portion.bytes());
                    self.out.push_json(messages(name, &portion));
                    continue;
                }
                Poll::Ready(Read::Full) => {
                    // A page would take the place of one that somebody can be sent.
                    tail.reader.let_go();
                    tail.is_hot = false;
                    return false;
                }
                Poll::Pending => {
                    tail.is_hot = false;
                    return false;
                }
                Poll::Ready(Read::Ended(stream, why)) => tail::ended(stream.name(), why),
                Poll::Ready(Read::Failed(stream, partition, error)) => {
                    tail::failed(stream.name(), partition, error)
                }
            };
            let sub = Arc::clone(name);
            self.out.push_json(answers::closed(&sub, &problem, &self.request_id));
            self.subscriptions.remove(at);
            return true;
        }
    }

    pub(super) fn let_go_of_pages(&mut self) {
        for one in &mut self.subscriptions {
            if let Kind::Tail(tail) = &mut one.kind
                && tail.reader.holds_pages()
            {
                tail.reader.let_go();
                tail.is_hot = true;
            }
        }
    }

    /// Tells how far those have come that are not sent everything.
    pub(super) fn tell_positions(&mut self) {
        for one in &mut self.subscriptions {
            let Kind::Tail(tail) = &mut one.kind else { continue };
            if !tail.is_filtered {
                continue;
            }
            let sum: i64 = tail.reader.positions().map(|(_, _, offset)| offset).sum();
            if sum == std::mem::replace(&mut tail.told, sum) {
                continue;
            }
            let positions = tail::positions(&tail.reader);
            self.out.push_json(answers::position(&one.name, &positions, None));
            self.has_more = true;
        }
    }
}

fn messages(sub: &str, portion: &Portion) -> Vec<u8> {
    STREAMS.delivered.increment(portion.count() as u64);
    let mut frame = answers::lead(sub, portion.stream.name().as_str(), portion.partition, None);
    frame.reserve_exact(portion.bytes() + 2);
    portion.items().for_each(|items| frame.extend_from_slice(items));
    answers::end_items(&mut frame);
    frame
}
