//! One consumer's place in one partition.

use std::sync::Arc;

use super::{Chunk, Filter, Listening, Page, mailbox::Ear, ring::Take};
use crate::record::Corrupt;

/// A place in one partition.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: u32,
    pub(super) listening: Listening,
    pub(super) ear: Arc<Ear>,
    /// The offset of the next message.
    pub(super) next: i64,
    pub(super) is_ready: bool,
    /// What was read because it was behind.
    pub(super) page: Option<Page>,
    /// Which messages of the chunk of this range are let through.
    pub(super) admitted: Option<((i64, i64), Vec<u32>)>,
}

impl Place {
    /// Which messages of the chunk are let through.
    pub(super) fn admitted(&mut self, chunk: &Chunk, filter: &Filter) -> Result<&[u32], Corrupt> {
        let range = (chunk.from, chunk.until);
        let admitted = match self.admitted.take() {
            Some((of, admitted)) if of == range => admitted,
            _ => filter.admitted(chunk)?,
        };
        Ok(&self.admitted.insert((range, admitted)).1)
    }

    /// What there is, once more after it listens: what comes in between is told.
    pub(super) fn taken(&self) -> Take {
        match self.listening.take(self.next) {
            Take::Nothing => {
                self.ear.listen();
                self.listening.take(self.next)
            }
            taken => taken,
        }
    }
}
