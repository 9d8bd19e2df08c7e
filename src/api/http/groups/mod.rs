//! Consumer groups over REST.

pub mod admin;
pub mod members;
pub mod offsets;
mod once;
pub mod poll;
pub mod seek;

pub use members::{AssignmentOut, JoinIn, first_assignments, wish};
pub use offsets::{CommitErrorOut, CommitIn, check as check_offsets, commit as commit_entries};
pub use poll::{RevokedIn, assignment, confirm};

use super::topics::name;
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
    },
    auth::Principal,
    deliver::groups::GroupError,
    model::{GroupId, Name},
};

fn invalid(pointer: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::Invalid, detail).at(pointer)
}

/// What a failed change of a group is on the wire.
pub(in crate::api) fn change_problem(error: GroupError, group: &str) -> Problem {
    match error {
        GroupError::NoGroup => {
            Problem::new(ErrorCode::NotFound, format!("there is no group `{group}`"))
        }
        GroupError::UnknownMember => Problem::new(
            ErrorCode::UnknownMember,
            "the group has no such member: it left, or was silent for too long; join again",
        ),
        GroupError::Stale { generation } => Problem::new(
            ErrorCode::StaleEpoch,
            "a later process of this member has joined: this one stops",
        )
        .fact("generation", generation),
        GroupError::Different => Problem::new(
            ErrorCode::StaleEpoch,
            "this generation of the member joined with other settings: join with a higher one",
        ),
        GroupError::Full => Problem::new(
            ErrorCode::Invalid,
            format!("a group has at most {} members", crate::model::limits::GROUP_MEMBERS_MAX),
        ),
        GroupError::Cursor(why) => invalid("/cursor", why.to_string()),
        GroupError::Superseded => {
            Problem::new(ErrorCode::ConcurrentPoll, "another poll of this member came")
        }
        GroupError::Read(error) => Problem::of_log(error, group, || {
            Problem::new(ErrorCode::NotFound, "the topic is being deleted")
        }),
        GroupError::Store(error) => Problem::of_store(&error),
        GroupError::Unfinished => Problem::new(ErrorCode::Internal, "the change was cut short"),
    }
}

/// The same for those who only read, or do what they may repeat.
pub(in crate::api) fn poll_problem(error: GroupError, group: &str) -> Problem {
    match error {
        GroupError::Store(error) => Problem::of_read(&error),
        other => change_problem(other, group),
    }
}

/// A group by the name in the path.
async fn find(
    state: &AppState,
    principal: Principal,
    group: &str,
) -> Result<(Name, GroupId), Problem> {
    let name = name(group)?;
    let found = state.groups.id(principal.tenant, &name).await;
    let id = found.map_err(|error| poll_problem(error, group))?;
    Ok((name, id))
}

/// A member's id as it is written: the characters of a name.
fn member_id(text: &str, pointer: &str) -> Result<String, Problem> {
    let name = Name::parse(text);
    name.map(|name| name.to_string()).map_err(|why| invalid(pointer, format!("member_id: {why}")))
}
