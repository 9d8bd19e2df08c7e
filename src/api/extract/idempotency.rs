//! `Idempotency-Key`: a request that is carried out once, however often it is sent.

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
    response::Response,
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    body::{Bodies, ReadBody},
    json::json_object,
};
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
/// A route that changes rows does it by `store::once`, with the record of its answer in the same
/// transaction; a publish hands the claim to the append.
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

/// A JSON body as `T`, and the key that the request may have.
#[derive(Debug)]
pub struct KeyedJson<T> {
    /// The body.
    pub body: T,
    /// The key, which counts for this body.
    pub key: Option<IdempotencyKey>,
}

impl<T, S> FromRequest<S> for KeyedJson<T>
where
    T: DeserializeOwned,
    S: AsRef<Bodies> + Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let headers = IdempotencyKey::is_in(request.headers()).then(|| request.headers().clone());
        let read = ReadBody::from_request(request, state).await?;
        let key = match headers {
            Some(headers) => IdempotencyKey::of(&headers, |asks| asks.add(b'b', &read.bytes))?,
            None => None,
        };
        Ok(Self { body: json_object(&read)?, key })
    }
}

/// The key that a request without a body may have.
#[derive(Debug)]
pub struct BareKey(pub Option<IdempotencyKey>);

impl<S: Send + Sync> FromRequestParts<S> for BareKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        IdempotencyKey::of(&parts.headers, |_| {}).map(Self)
    }
}

/// Says in the head of `response` that it was given before.
pub fn replayed(response: &mut Response) {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
}
