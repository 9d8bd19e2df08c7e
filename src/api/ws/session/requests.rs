//! What a client asks, frame by frame. A JSON object is always answered.

use std::sync::Arc;

use futures_util::{Sink, Stream};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::from_str;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::{
    super::{
        answers::{self, Id},
        close::Close,
        frames::{
            CommitFrame, CreditFrame, Head, PUBLISH, PingFrame, ReleaseFrame, SubscribeFrame,
            UnsubscribeFrame, read_id,
        },
        member::Command,
    },
    End, Session,
};
use crate::{
    api::{
        error::{ErrorCode, Problem},
        extract::{Object, json_problem, too_deep_at},
        http::groups::check_offsets,
    },
    model::limits,
};

fn invalid(pointer: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::Invalid, detail).at(pointer)
}

/// A frame as `T`.
fn read<'f, T: Deserialize<'f>>(frame: &'f str) -> Result<T, Problem> {
    let read = from_str::<Object<T>>(frame);
    read.map(|Object(read)| read).map_err(|_| json_problem::<Object<T>>(frame.as_bytes()))
}

impl<S> Session<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    /// Does what a frame asks.
    pub(super) fn request(&mut self, frame: Utf8Bytes) -> Result<(), End> {
        if frame.starts_with(PUBLISH) {
            return self.publish(frame);
        }
        let head = match from_str::<Object<Head<'_>>>(&frame) {
            Ok(Object(head)) => head,
            Err(_) if from_str::<Object<IgnoredAny>>(&frame).is_err() => {
                return Err(End::Close(Close::NoObject));
            }
            Err(_) => {
                let problem = json_problem::<Object<Head<'_>>>(frame.as_bytes());
                self.refuse("", None, &problem);
                return Ok(());
            }
        };
        let sub = head.sub.and_then(|sub| from_str::<String>(sub.get()).ok());
        let id = match read_id(head.id) {
            Ok(id) => id,
            Err(problem) => {
                self.refuse("", sub.as_deref(), &problem);
                return Ok(());
            }
        };
        if let Some(at) = too_deep_at(frame.as_bytes()) {
            let problem = crate::api::extract::too_deep(frame.as_bytes(), at);
            self.refuse(&id, sub.as_deref(), &problem);
            return Ok(());
        }
        let op = head.op.and_then(|op| from_str::<String>(op.get()).ok());
        if op.as_deref() == Some("publish") {
            return self.publish(frame);
        }
        let done = self.dispatch(op.as_deref(), &id, &frame);
        if let Err(problem) = done {
            self.refuse(&id, sub.as_deref().filter(|_| id.is_empty()), &problem);
        }
        Ok(())
    }

    fn dispatch(&mut self, op: Option<&str>, id: &Id, frame: &str) -> Result<(), Problem> {
        match op {
            Some("subscribe") => {
                let wanted = read::<SubscribeFrame>(frame)?;
                self.subscribe(wanted, Arc::clone(id))
            }
            Some("credit") => {
                let CreditFrame { sub, messages, bytes, .. } = read(frame)?;
                self.add_credit(&sub, messages, bytes)?;
                if !id.is_empty() {
                    self.out.push_json(answers::ok(id, &sub));
                }
                Ok(())
            }
            Some("commit") => {
                let CommitFrame { sub, offsets, .. } = read(frame)?;
                check_offsets(&offsets, "/offsets")?;
                self.command(&sub, Command::Commit { id: Arc::clone(id), offsets })
            }
            Some("release") => {
                let ReleaseFrame { sub, assignments, offsets, .. } = read(frame)?;
                check_offsets(&offsets, "/offsets")?;
                if assignments.len() > limits::GROUP_OFFSETS_MAX {
                    let most = limits::GROUP_OFFSETS_MAX;
                    return Err(invalid("/assignments", format!("at most {most} at once")));
                }
                self.command(&sub, Command::Release { id: Arc::clone(id), assignments, offsets })
            }
            Some("unsubscribe") => {
                let UnsubscribeFrame { sub, .. } = read(frame)?;
                self.unsubscribe(&sub, Arc::clone(id))
            }
            Some("ping") => {
                let PingFrame { .. } = read(frame)?;
                self.out.push_json(answers::pong(id));
                Ok(())
            }
            Some(op @ ("auth" | "settle")) => {
                Err(Problem::not_yet_supported(&format!("`{op}`")).at("/op"))
            }
            Some(_) | None => {
                let detail =
                    "op is publish, subscribe, credit, commit, release, unsubscribe or ping";
                Err(invalid("/op", detail))
            }
        }
    }

    pub(super) fn refuse(&mut self, id: &str, sub: Option<&str>, problem: &Problem) {
        self.out.push_json(answers::error(id, sub, problem, &self.request_id));
    }

    fn publish(&mut self, frame: Utf8Bytes) -> Result<(), End> {
        self.lanes.publish(frame, &mut self.out).map_err(End::Close)
    }
}
