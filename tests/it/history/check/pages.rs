//! What every single page must be: it begins where it was asked to, has no gap, and fits to its
//! own watermarks (L4, L5, L12).

use super::{Found, Partition, Place};
use crate::history::{From, Invariant, Read, Seen};

pub(super) fn check(place: Place, partition: &Partition<'_>, found: &mut Found) {
    for read in &partition.reads {
        match &read.seen {
            Seen::Page { messages, next, low, high } => {
                let page = Page { messages, next: *next, low: *low, high: *high };
                page.check(place, read, found);
            }
            Seen::OutOfRange { low, high } => {
                let From::Offset(from) = read.from else { continue };
                if (*low..=*high).contains(&from) {
                    let what = format!(
                        "{place}: a read from {from} was told that only {low} to {high} can be read"
                    );
                    found.add(Invariant::L12, what);
                }
            }
            Seen::Nothing => {}
        }
    }
}

struct Page<'a> {
    messages: &'a [(i64, u64)],
    next: i64,
    low: i64,
    high: i64,
}

impl Page<'_> {
    fn check(&self, place: Place, read: &Read, found: &mut Found) {
        let first = self.messages.first().map_or(self.next, |(offset, _)| *offset);
        let wanted = match read.from {
            From::Offset(offset) => offset,
            From::Earliest => self.low,
            From::Latest => first,
        };
        let (low, high) = (self.low, self.high);
        let asked = format!("{place}: a read from {:?} (low {low}, high {high})", read.from);
        if first != wanted {
            found.add(Invariant::L12, format!("{asked} began at {first}, not at {wanted}"));
        }
        if first < low {
            found.add(Invariant::L12, format!("{asked} has {first}, below its own low watermark"));
        }
        for pair in self.messages.windows(2) {
            if pair[1].0 != pair[0].0 + 1 {
                let what = format!("{asked} goes from {} to {}", pair[0].0, pair[1].0);
                found.add(Invariant::L4, what);
            }
        }
        let Some((last, _)) = self.messages.last() else {
            if first < high {
                found.add(Invariant::L5, format!("{asked} found nothing at {first}"));
            }
            return;
        };
        if self.next != last + 1 {
            let what = format!("{asked} ends with {last} and goes on at {}", self.next);
            found.add(Invariant::L4, what);
        }
        if *last >= high {
            found.add(Invariant::L4, format!("{asked} has {last}, above its own high watermark"));
        }
    }
}
