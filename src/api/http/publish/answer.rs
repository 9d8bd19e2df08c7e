//! The answer to a publish.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{api::message, publish::Offsets};

/// What an answer to a publish is made of.
pub(in crate::api::http) struct Published {
    pub(in crate::api::http) records: Numbers,
    pub(in crate::api::http) offsets: Offsets,
    pub(in crate::api::http) durability: &'static str,
}

/// Which partition each part is, and which message went where.
pub(in crate::api::http) struct Numbers {
    pub(super) partitions: smallvec::SmallVec<[u32; 1]>,
    pub(super) placed: smallvec::SmallVec<[message::Placed; 1]>,
}

impl Published {
    /// How many messages were committed.
    pub(in crate::api::http) fn count(&self) -> usize {
        self.records.placed.len()
    }

    /// Partition and offset of each message, in the order of the request.
    pub(in crate::api::http) fn results(&self) -> impl Iterator<Item = (u32, i64)> {
        self.records.placed.iter().map(|placed| {
            let part = placed.part as usize;
            (self.records.partitions[part], self.offsets[part] + i64::from(placed.place))
        })
    }
}

impl IntoResponse for Published {
    fn into_response(self) -> Response {
        let mut out = Vec::with_capacity(64 + self.records.placed.len() * 36);
        let mut number = itoa::Buffer::new();
        out.extend_from_slice(b"{\"results\":[");
        for (partition, offset) in self.results() {
            out.extend_from_slice(b"{\"partition\":");
            out.extend_from_slice(number.format(partition).as_bytes());
            out.extend_from_slice(b",\"offset\":");
            out.extend_from_slice(number.format(offset).as_bytes());
            out.extend_from_slice(b"},");
        }
        out.pop();
        out.extend_from_slice(b"],\"durability\":\"");
        out.extend_from_slice(self.durability.as_bytes());
        out.extend_from_slice(b"\"}");
        let kind = HeaderValue::from_static("application/json");
        (StatusCode::OK, [(header::CONTENT_TYPE, kind)], out).into_response()
    }
}
