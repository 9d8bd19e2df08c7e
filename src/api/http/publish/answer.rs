//! The answer to a publish.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    api::{extract::replayed, message},
    publish::Offsets,
};

/// What an answer to a publish is made of.
pub struct Published {
    pub(super) results: Results,
    pub(super) durability: &'static str,
    pub(super) came_before: CameBefore,
}

/// Where the messages stand.
pub(super) enum Results {
    /// As they were sorted, and the first offset of each part.
    Appended(Numbers, Offsets),
    /// Partition and offset of each, as they were told the first time.
    Repeated(Vec<(u32, i64)>),
}

/// Whether this is the answer to a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CameBefore {
    No,
    /// By its producer's sequence.
    Sequence,
    /// By its `Idempotency-Key`.
    Key,
}

/// Which partition each part is, and which message went where.
pub(super) struct Numbers {
    pub(super) partitions: smallvec::SmallVec<[u32; 1]>,
    pub(super) placed: smallvec::SmallVec<[message::Placed; 1]>,
}

impl Published {
    /// How many messages were committed.
    pub fn count(&self) -> usize {
        match &self.results {
            Results::Appended(numbers, _) => numbers.placed.len(),
            Results::Repeated(results) => results.len(),
        }
    }

    /// What the acknowledgement means.
    pub fn durability(&self) -> &'static str {
        self.durability
    }

    /// Partition and offset of each message, in the order of the request.
    pub fn each(&self, mut told: impl FnMut(u32, i64)) {
        match &self.results {
            Results::Appended(numbers, offsets) => {
                for placed in &numbers.placed {
                    let part = placed.part as usize;
                    told(numbers.partitions[part], offsets[part] + i64::from(placed.place));
                }
            }
            Results::Repeated(results) => {
                results.iter().for_each(|(partition, offset)| told(*partition, *offset));
            }
        }
    }

    /// Says in the head of `response` that it was given before, where a key found it.
    pub fn tell(&self, response: &mut Response) {
        if self.came_before == CameBefore::Key {
            replayed(response);
        }
    }
}

impl Published {
    /// Writes `"results":[…],"durability":"…"`, and `"duplicate":true` where its sequence came
    /// before.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        out.reserve(64 + self.count() * 36);
        out.extend_from_slice(b"\"results\":[");
        self.each(|partition, offset| {
            out.extend_from_slice(b"{\"partition\":");
            out.extend_from_slice(number.format(partition).as_bytes());
            out.extend_from_slice(b",\"offset\":");
            out.extend_from_slice(number.format(offset).as_bytes());
            out.extend_from_slice(b"},");
        });
        out.pop();
        out.extend_from_slice(b"],\"durability\":\"");
        out.extend_from_slice(self.durability.as_bytes());
        out.extend_from_slice(match self.came_before {
            CameBefore::Sequence => b"\",\"duplicate\":true",
            CameBefore::No | CameBefore::Key => b"\"".as_slice(),
        });
    }
}

impl IntoResponse for Published {
    fn into_response(self) -> Response {
        let mut out = vec![b'{'];
        self.write(&mut out);
        out.push(b'}');
        let kind = HeaderValue::from_static("application/json");
        let mut response = (StatusCode::OK, [(header::CONTENT_TYPE, kind)], out).into_response();
        self.tell(&mut response);
        response
    }
}
