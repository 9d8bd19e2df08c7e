//! `Idempotency-Key`: a request that is carried out once, however often it is sent.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
    response::Response,
};
use sha2::{Digest, Sha256};

use crate::{
    api::error::{ErrorCode, Problem},
    model::{TenantId, limits},
    publish::{BodyHash, RequestKey},
};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What is hashed of a request. Every piece is told apart by a tag and its length, so that two
/// requests never look alike.
#[derive(Debug, Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// Adds one piece.
    pub fn add(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update([tag]);
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The first half of a SHA-256.
    pub fn hash(self) -> BodyHash {
        let whole = self.0.finalize();
        let mut half = BodyHash::default();
        half.copy_from_slice(&whole[..16]);
        half
    }
}

/// The key of a request and what it asks for.
///
/// A route that writes rows in a transaction records its answer there, before its effects, by
/// `store::claims::record`; a publish hands the claim to the append.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    key: String,
    /// The hash of what is asked for.
    pub hash: BodyHash,
}

impl IdempotencyKey {
    /// Whether `headers` hold one.
    pub fn is_in(headers: &HeaderMap) -> bool {
        headers.contains_key(HEADER)
    }

    /// The key that `headers` hold, if they do. `asks` adds what the request asks for.
    ///
    /// # Errors
    /// `invalid`: a key has 1 to 255 visible characters of ASCII, and a request has one.
    pub fn of(
        headers: &HeaderMap,
        asks: impl FnOnce(&mut Fingerprint),
    ) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let bytes = value.as_bytes();
        let is_sound = (1..=limits::IDEMPOTENCY_KEY_CHARS_MAX).contains(&bytes.len())
            && bytes.iter().all(u8::is_ascii_graphic)
            && values.next().is_none();
        let Some(key) = value.to_str().ok().filter(|_| is_sound) else {
            let detail = format!(
                "an Idempotency-Key has 1 to {} visible characters of ASCII",
                limits::IDEMPOTENCY_KEY_CHARS_MAX
            );
            return Err(Problem::new(ErrorCode::Invalid, detail));
        };
        let mut fingerprint = Fingerprint::default();
        asks(&mut fingerprint);
        Ok(Some(Self { key: key.to_owned(), hash: fingerprint.hash() }))
    }

    /// The claim of it: one tenant's, on one route. `scope` names the route and the incarnation
    /// of what the request is about, so that a topic that is made again has its own keys.
    pub fn claim(&self, tenant: TenantId, scope: String) -> RequestKey {
        RequestKey { tenant, scope, key: self.key.clone() }
    }
}

/// That a request has no `Idempotency-Key`: its route does not replay answers yet, and a header
/// that promises it is refused rather than overlooked.
#[derive(Debug)]
pub struct NoIdempotencyKey;

impl<S: Send + Sync> FromRequestParts<S> for NoIdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        if IdempotencyKey::is_in(&parts.headers) {
            return Err(Problem::not_yet_supported("an Idempotency-Key on this route"));
        }
        Ok(Self)
    }
}

/// Says in the head of `response` that it was given before.
pub fn replayed(response: &mut Response) {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
}
