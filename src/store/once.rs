//! A change that is made once, however often it is asked for: the record of its answer is claimed
//! in the transaction of the change before anything else is done there, and stands with it.

use std::fmt;

use sqlx::{Connection, PgConnection};

use super::{
    StoreError,
    claims::{self, BodyHash, ClaimKey, RequestKey, Standing},
    error::Refusal,
};

/// An HTTP status and a body.
pub type Answer = (u16, Vec<u8>);

/// What is asked for under a key.
#[derive(Clone, Debug)]
pub struct Request {
    /// By what a repeat is known.
    pub key: RequestKey,
    /// What is asked for: a repeat asks for the same.
    pub hash: BodyHash,
}

/// A request under a key, and the answer that is kept for its repeats.
pub struct Keyed<T> {
    /// The request.
    pub request: Request,
    /// The answer to what was done.
    pub answer: Box<dyn FnOnce(&T) -> Answer + Send>,
}

impl<T> fmt::Debug for Keyed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("request", &self.request).finish_non_exhaustive()
    }
}

/// How a change went that is made once.
#[derive(Debug)]
pub enum Once<T> {
    /// It was made now.
    Done(T),
    /// Nothing happened: this stands under the key.
    Stands(Standing),
    /// Nothing happened: a request with the key is running.
    Running,
}

impl<T> Once<T> {
    /// What was made now.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(done) => Some(done),
            Self::Stands(_) | Self::Running => None,
        }
    }
}

/// Makes `change`: under a key in one transaction with the record of its answer, else by itself.
/// A change that fails has no effect, and no record.
pub async fn committed<T, E: From<StoreError>>(
    conn: &mut PgConnection,
    keyed: Option<Keyed<T>>,
    change: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<Once<T>, E> {
    let Some(Keyed { request, answer }) = keyed else {
        return change(conn).await.map(Once::Done);
    };
    let mut tx = conn.begin().await.map_err(StoreError::from)?;
    let is_claimed = match claims::claim(&mut tx, &request.key, request.hash).await {
        Ok(is_claimed) => is_claimed,
        Err(error) if error.refusal() == Some(Refusal::Busy) => {
            tx.rollback().await.map_err(StoreError::from)?;
            return Ok(Once::Running);
        }
        Err(error) => return Err(error.into()),
    };
    if !is_claimed {
        tx.rollback().await.map_err(StoreError::from)?;
        let standing = claims::find(conn, &ClaimKey::Request(request.key)).await?;
        // What stood a moment ago was pruned, or belonged to a group that went.
        return Ok(standing.map_or(Once::Running, Once::Stands));
    }
    match change(&mut tx).await {
        Ok(done) => {
            claims::record(&mut tx, &request.key, answer(&done)).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(Once::Done(done))
        }
        Err(error) => {
            // Where this fails the transaction ends with its session.
            let _ = tx.rollback().await;
            Err(error)
        }
    }
}
