//! Changes of groups that are made once: an `Idempotency-Key` replays the first answer.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
        extract::{IdempotencyKey, replayed},
    },
    model::{Name, TenantId},
    publish::{PublishError, RunningKey},
    store::{
        claims::Standing,
        once::{Answer, Keyed, Once, Request},
    },
};

/// A request that may have a key, until it is answered.
#[derive(Debug)]
pub(super) struct Asked {
    keyed: Option<(Request, RunningKey)>,
}

impl Asked {
    /// The request under `key` to the part `route` of a group. Keys go with their group when it
    /// is deleted.
    ///
    /// # Errors
    /// `in_progress` while this node carries out a request with the key.
    pub(super) fn new(
        state: &AppState,
        (tenant, group): (TenantId, &Name),
        route: &str,
        key: Option<IdempotencyKey>,
    ) -> Result<Self, Problem> {
        let Some(key) = key else { return Ok(Self { keyed: None }) };
        let hash = key.hash;
        let key = key.claim(tenant, format!("POST /groups/{group}/{route}"));
        let running = state.running.enter(&key).map_err(|_: PublishError| in_progress())?;
        Ok(Self { keyed: Some((Request { key, hash }, running)) })
    }

    /// What is done once, with the answer that is kept for its repeats.
    pub(super) fn keyed<T>(
        &self,
        answer: impl FnOnce(&T) -> Answer + Send + 'static,
    ) -> Option<Keyed<T>> {
        let (request, _) = self.keyed.as_ref()?;
        Some(Keyed { request: request.clone(), answer: Box::new(answer) })
    }

    /// The answer.
    pub(super) fn answer<T>(
        &self,
        once: Once<T>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Result<Response, Problem> {
        match once {
            Once::Done(done) => Ok(respond(answer(&done))),
            Once::Stands(standing) => self.replay(standing),
            Once::Running => Err(in_progress()),
        }
    }

    /// The first answer, if the request came before: where what it asks for may have become
    /// impossible since.
    pub(super) async fn replayed(&self, state: &AppState) -> Result<Option<Response>, Problem> {
        let Some((request, _)) = &self.keyed else { return Ok(None) };
        let standing = state.groups.standing(request.key.clone()).await;
        let standing = standing.map_err(|error| super::poll_problem(error, ""))?;
        standing.map(|standing| self.replay(standing)).transpose()
    }

    fn replay(&self, standing: Standing) -> Result<Response, Problem> {
        if self.keyed.as_ref().is_none_or(|(request, _)| request.hash[..] != standing.hash) {
            let detail = "this key came before, with another body";
            return Err(Problem::new(ErrorCode::BodyDiffers, detail));
        }
        let status = u16::try_from(standing.status).unwrap_or_default();
        let mut response = respond((status, standing.answer));
        replayed(&mut response);
        Ok(response)
    }

    /// What a failure of it is on the wire: under a key it may be sent again.
    pub(super) fn problem(&self, problem: Problem) -> Problem {
        problem.repeatable(self.keyed.is_some())
    }
}

fn in_progress() -> Problem {
    Problem::new(ErrorCode::InProgress, "a request with this key is running")
}

/// An answer as JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    (status.as_u16(), serde_json::to_vec(body).expect("an answer is plain JSON"))
}

/// An answer without a body.
pub(super) fn no_content<T>(_: &T) -> Answer {
    (StatusCode::NO_CONTENT.as_u16(), Vec::new())
}

fn respond((status, body): Answer) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if body.is_empty() {
        return status.into_response();
    }
    let kind = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}
