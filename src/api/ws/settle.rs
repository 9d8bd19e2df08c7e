//! What a client asks of its member: to commit, to give up, to leave.

use futures_util::future::BoxFuture;

use super::{
    answers,
    member::{Command, Membership, Told},
};
use crate::{
    api::{
        error::{Effect, ErrorCode, Problem},
        http::groups::{
            CommitErrorOut, CommitIn, RevokedIn, change_problem, commit_entries, confirm,
        },
    },
    deliver::groups::{Cursor, GroupError},
};

/// Does what a client asked, and answers it.
pub(super) fn settle(of: Membership, cursor: Cursor, command: Command) -> BoxFuture<'static, Told> {
    Box::pin(async move {
        let (id, done) = match command {
            Command::Commit { id, offsets } => (id, of.commit(&cursor, offsets).await),
            Command::Release { id, assignments, offsets } => {
                (id, of.release(&cursor, assignments, offsets).await)
            }
            Command::Leave { id } => return of.leave(&id).await,
        };
        Told::Answer(match done {
            Ok(errors) if errors.is_empty() => answers::ok(&id, &of.sub),
            Ok(errors) => {
                let mut frame = answers::ok(&id, &of.sub);
                frame.pop();
                frame.extend_from_slice(b",\"commit_errors\":");
                answers::put(&mut frame, &errors);
                frame.push(b'}');
                frame
            }
            Err(problem) => answers::error(&id, None, &problem, &of.request_id),
        })
    })
}

/// What is answered to whom asks a subscription that has ended.
pub(super) fn ended(sub: &str) -> Problem {
    let detail = format!("the subscription `{sub}` has ended");
    Problem::new(ErrorCode::UnknownMember, detail)
}

/// Answers what was asked of a member that is none any more.
pub(super) fn refuse(of: &Membership, command: &Command) -> Told {
    match command {
        Command::Leave { id } => Told::Left(answers::ok(id, &of.sub)),
        Command::Commit { id, .. } | Command::Release { id, .. } => {
            Told::Answer(answers::error(id, None, &ended(&of.sub), &of.request_id))
        }
    }
}

impl Membership {
    /// Commits, and says what was not. Where nothing was, it is an error.
    async fn commit(
        &self,
        cursor: &Cursor,
        offsets: Vec<CommitIn>,
    ) -> Result<Vec<CommitErrorOut>, Problem> {
        let vouches = |partition, epoch, offset| {
            cursor.place(partition, epoch).is_some_and(|place| offset <= place.position)
        };
        let count = offsets.len();
        let group = (self.group, &*self.name);
        let errors = commit_entries(&self.state, self.principal, group, offsets, vouches).await?;
        if count > 0 && errors.len() == count {
            return Err(CommitErrorOut::problem(&errors));
        }
        Ok(errors)
    }

    async fn release(
        &self,
        cursor: &Cursor,
        assignments: Vec<RevokedIn>,
        offsets: Vec<CommitIn>,
    ) -> Result<Vec<CommitErrorOut>, Problem> {
        let (group, count) = ((self.group, &*self.name), offsets.len());
        let vouches = |partition, epoch, offset| {
            cursor.place(partition, epoch).is_some_and(|place| offset <= place.position)
        };
        let errors = commit_entries(&self.state, self.principal, group, offsets, vouches).await?;
        let member = (&*self.member, self.generation);
        let given = confirm(&self.state, self.principal, group, member, &assignments).await;
        match given {
            // Offsets stand by now, though nothing was given up. To release again is harmless.
            Err(problem) if errors.len() < count && problem.code.effect() == Effect::None => {
                Err(Problem { code: ErrorCode::OutcomeUnknown, ..problem }.repeatable(true))
            }
            given => given.map(|()| errors),
        }
    }

    /// Leaves the group, unless a later process of the member stands there.
    async fn leave(&self, id: &str) -> Told {
        let left = self.state.groups.leave(self.group, &self.member, Some(self.generation));
        match left.await {
            Ok(()) | Err(GroupError::UnknownMember | GroupError::NoGroup) => {
                Told::Left(answers::ok(id, &self.sub))
            }
            Err(error) => {
                let problem = change_problem(error, &self.name);
                Told::Answer(answers::error(id, None, &problem, &self.request_id))
            }
        }
    }
}
