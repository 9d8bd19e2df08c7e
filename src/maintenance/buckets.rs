//! Buckets are made two ahead, opened and closed by the database's clock, sealed as soon as no
//! flush is inside, and dropped when their time is over.

use tracing::{debug, info};

use crate::store::{Session, StoreError, buckets, error::Refusal};

/// How many buckets of a class stand ready.
const AHEAD: i64 = 2;

/// Makes sure that every class has an open bucket, before the first append.
pub async fn prepare(session: &mut Session) -> Result<(), StoreError> {
    roll(session).await
}

/// Makes what is missing, opens what is due, closes and seals what it follows.
pub(super) async fn roll(session: &mut Session) -> Result<(), StoreError> {
    for class in buckets::due(session, AHEAD).await? {
        make_ahead(session, class).await?;
        if buckets::roll(session, class).await? {
            info!(class, "a bucket was opened");
            make_ahead(session, class).await?;
        }
    }
    for bucket in buckets::in_state(session, "closed").await? {
        // Refused while a flush is inside: the next round tries again.
        buckets::seal(session, bucket).await?;
    }
    for bucket in buckets::unattached(session).await? {
        match buckets::attach_committed(session, bucket).await {
            Err(error) if error.refusal() == Some(Refusal::Busy) => {
                debug!(%bucket, "a bucket is attached later: its parent is locked");
            }
            attached => attached?,
        }
    }
    Ok(())
}

async fn make_ahead(session: &mut Session, class: i16) -> Result<(), StoreError> {
    while let Some(bucket) = buckets::make_next_committed(session, class, AHEAD).await? {
        debug!(%bucket, class, "a bucket was made");
    }
    Ok(())
}

/// Drops what is past its time. A long reader of the parent holds this up, never an append.
pub(super) async fn drop_expired(session: &mut Session) -> Result<(), StoreError> {
    for bucket in buckets::in_state(session, "sealed").await? {
        buckets::begin_drop(session, bucket).await?;
    }
    if let Some(bucket) = buckets::pending_detach(session).await? {
        buckets::detach(session, bucket).await?;
    }
    for bucket in buckets::in_state(session, "dropping").await? {
        buckets::detach(session, bucket).await?;
        buckets::forget_committed(session, bucket).await?;
        info!(%bucket, "a bucket was dropped");
    }
    Ok(())
}
