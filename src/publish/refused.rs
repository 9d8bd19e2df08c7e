//! What becomes of the requests of a flush that was refused: those in the way are answered, the
//! others are returned to be sent again at once.

use super::{
    Acked, PublishError, layout,
    slot::{Pending, Pendings},
};
use crate::{
    log::append::Appender,
    model::PartitionId,
    store::{
        append::Outcome,
        claims::{ClaimKey, Standing},
    },
};

/// Answers the requests that are in the way. `claimants` are those with claims, by the number of
/// the claim; a claim that is met and cannot be found is tried once more unless `is_last`.
pub(super) async fn answer(
    requests: Vec<Pending>,
    claimants: &[u32],
    in_the_way: &[(PartitionId, Outcome)],
    (appender, is_last): (&mut Appender, bool),
) -> Vec<Pending> {
    let mut requests = Pendings::from(requests);
    let mut is_reached = true;
    // What came before is answered as it was, whatever else is wrong with it now.
    for (_, outcome) in in_the_way {
        let (Outcome::Claimed(number) | Outcome::TooOld(number)) = *outcome else { continue };
        let Some(at) = number.checked_sub(1).and_then(|number| claimants.get(number)) else {
            continue;
        };
        let is_old = matches!(outcome, Outcome::TooOld(_));
        let Some(pending) = requests.take(*at as usize) else { continue };
        if is_old {
            pending.answer(Err(PublishError::SequenceTooOld));
            continue;
        }
        if !is_reached {
            pending.answer(Err(PublishError::Unavailable));
            continue;
        }
        match repeated(&pending, appender).await {
            Some(result) => {
                is_reached = result != Err(PublishError::Unavailable);
                pending.answer(result);
            }
            // It went meanwhile: the next try finds out.
            None if !is_last => requests.put_back(*at as usize, pending),
            None => pending.answer(Err(PublishError::Unavailable)),
        }
    }
    let mut rest = Vec::new();
    for pending in requests.into_rest() {
        match in_the_way.iter().find_map(|refused| reason(&pending, *refused)) {
            None => rest.push(pending),
            Some(error) => pending.answer(Err(error)),
        }
    }
    rest
}

/// The answer to a request whose claim stands.
async fn repeated(
    pending: &Pending,
    appender: &mut Appender,
) -> Option<Result<Acked, PublishError>> {
    let claim = pending.claim()?;
    let standing = match appender.standing(&claim.key).await {
        Ok(standing) => standing?,
        // An earlier one may have been appended; this one was not.
        Err(_) => return Some(Err(PublishError::Unavailable)),
    };
    Some(first_answer(&claim.key, &claim.hash, &standing))
}

fn first_answer(key: &ClaimKey, hash: &[u8], standing: &Standing) -> Result<Acked, PublishError> {
    if standing.hash != hash {
        return Err(PublishError::BodyDiffers);
    }
    let offsets = standing.results.as_deref().unwrap_or_default();
    let Some(results) = layout::decode(&standing.answer, offsets) else {
        tracing::error!(?key, "a claim holds no answer");
        return Err(PublishError::Unavailable);
    };
    Ok(Acked::Repeated(results))
}

/// Why a request cannot go with the others, if it has to do with this partition. The wrong offset
/// is only about the request that expects one.
fn reason(pending: &Pending, (partition, outcome): (PartitionId, Outcome)) -> Option<PublishError> {
    if pending.parts.iter().all(|part| part.partition != partition) {
        return None;
    }
    match outcome {
        Outcome::Gone => Some(PublishError::Gone(partition)),
        Outcome::WrongOffset { next_offset } => {
            pending.expects().map(|_| PublishError::WrongOffset { next_offset })
        }
        _ => Some(PublishError::Moved(partition)),
    }
}
