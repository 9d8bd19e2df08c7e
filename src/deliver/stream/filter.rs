//! What a consumer does not want to be sent.

use std::collections::BTreeMap;

use super::ring::Chunk;
use crate::record::{Batches, Corrupt, Record};

/// Lets through what has all of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Headers with exactly these values.
    pub headers: BTreeMap<String, String>,
    /// How the key begins.
    pub key_prefix: Option<String>,
}

impl Filter {
    fn admits(&self, record: &Record<'_>) -> Result<bool, Corrupt> {
        if let Some(prefix) = &self.key_prefix
            && !record.key.is_some_and(|key| key.starts_with(prefix.as_bytes()))
        {
            return Ok(false);
        }
        for (name, value) in &self.headers {
            let mut is_there = false;
            for header in record.headers()? {
                let (other, bytes) = header?;
                is_there |= other == name && bytes == value.as_bytes();
            }
            if !is_there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Which messages of a chunk are let through, counted from its first.
    pub(super) fn admitted(&self, chunk: &Chunk) -> Result<Vec<u32>, Corrupt> {
        let mut admitted = Vec::new();
        for batch in &chunk.batches {
            let mut base = batch.base_offset;
            for part in Batches::new(&batch.records) {
                let part = part?;
                for record in part.records() {
                    let record = record?;
                    let at = base + record.offset_delta - chunk.from;
                    if at >= 0 && self.admits(&record)? {
                        admitted.push(u32::try_from(at).map_err(|_| Corrupt::Count)?);
                    }
                }
                base += i64::from(part.header.last_offset_delta) + 1;
            }
        }
        Ok(admitted)
    }
}
