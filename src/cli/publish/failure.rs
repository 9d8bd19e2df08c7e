//! What is told when publishing ends early: which lines are published, which are not, and of which
//! nobody knows.

use super::encode::Batch;
use crate::cli::{CliError, problem::Problem};

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is published.
    Published,
    /// Nothing of it is.
    Refused,
    /// All of it is, or nothing.
    Unknown,
}

impl Fate {
    /// That of a batch that failed.
    pub fn of(in_doubt: bool) -> Self {
        if in_doubt { Self::Unknown } else { Self::Refused }
    }
}

/// Why it ended, and what became of the batch that failed and of those behind it.
#[derive(Debug)]
pub struct Failure {
    error: CliError,
    failed: Option<Noted>,
    behind: Vec<Noted>,
}

#[derive(Debug)]
struct Noted {
    first: u64,
    last: u64,
    fate: Fate,
    /// The lines that the error is about.
    wrong: Vec<u64>,
}

impl Failure {
    /// Nothing is known yet of any batch.
    pub fn new(error: CliError) -> Self {
        Self { error, failed: None, behind: Vec::new() }
    }

    /// Notes what became of a batch; the first one noted is the one that failed.
    pub fn note(&mut self, batch: &Batch, fate: Fate) {
        let first = batch.numbers.first().copied().unwrap_or(0);
        let last = batch.numbers.last().copied().unwrap_or(0);
        let mut noted = Noted { first, last, fate, wrong: Vec::new() };
        let Some(failed) = &self.failed else {
            if let (CliError::Problem(problem), true) = (&self.error, first < last) {
                noted.wrong = wrong_lines(problem, batch).collect();
            }
            self.failed = Some(noted);
            return;
        };
        match self.behind.last_mut() {
            Some(before) if before.fate == fate => before.last = last,
            _ if failed.last < first => self.behind.push(noted),
            _ => {}
        }
    }

    /// The error with all that is known.
    pub fn into_error(self) -> CliError {
        let Some(Noted { first, last, fate, wrong }) = self.failed else { return self.error };
        let known = match (first, fate) {
            (0, Fate::Unknown) => "the message may or may not have been published".to_owned(),
            (0, _) => return self.error,
            (_, Fate::Unknown) => format!(
                "{}: this batch may or may not have been published, as a whole",
                lines(first, last)
            ),
            (_, _) => format!("{}: nothing of this batch was published", lines(first, last)),
        };
        let mut note = known;
        for number in wrong {
            note.push_str(&format!("\n  see line {number}"));
        }
        for Noted { first, last, fate, .. } in self.behind {
            let what = match fate {
                Fate::Published => "published, behind what failed",
                Fate::Refused => "not published",
                Fate::Unknown => "may or may not have been published",
            };
            note.push_str(&format!("\n  {}: {what}", lines(first, last)));
        }
        CliError::Noted { source: Box::new(self.error), note }
    }
}

fn lines(first: u64, last: u64) -> String {
    match first == last {
        true => format!("line {first}"),
        false => format!("lines {first} to {last}"),
    }
}

/// The lines behind pointers such as `/messages/3/value_text`.
fn wrong_lines<'a>(problem: &'a Problem, batch: &'a Batch) -> impl Iterator<Item = u64> + 'a {
    let index = |pointer: &str| -> Option<usize> {
        pointer.strip_prefix("/messages/")?.split('/').next()?.parse().ok()
    };
    let pointers = problem.errors.iter().map(|error| &*error.pointer);
    pointers.filter_map(index).filter_map(|at| batch.numbers.get(at).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(numbers: std::ops::RangeInclusive<u64>) -> Batch {
        let numbers: Vec<u64> = numbers.collect();
        Batch { messages: String::new(), count: numbers.len(), numbers, bytes: 0 }
    }

    #[test]
    fn everything_that_is_known_is_told() {
        let mut failure = Failure::new(CliError::Failed("why".to_owned()));
        failure.note(&batch(1..=10), Fate::Refused);
        failure.note(&batch(11..=20), Fate::Published);
        failure.note(&batch(21..=30), Fate::Published);
        failure.note(&batch(31..=31), Fate::Unknown);
        assert_eq!(
            failure.into_error().to_string(),
            "why\n  lines 1 to 10: nothing of this batch was published\n  lines 11 to 30: \
             published, behind what failed\n  line 31: may or may not have been published"
        );
    }

    #[test]
    fn one_message_needs_no_number() {
        let one = || Batch { messages: String::new(), count: 1, numbers: Vec::new(), bytes: 1 };
        for (fate, told) in [
            (Fate::Refused, "why"),
            (Fate::Unknown, "why\n  the message may or may not have been published"),
        ] {
            let mut failure = Failure::new(CliError::Failed("why".to_owned()));
            failure.note(&one(), fate);
            assert_eq!(failure.into_error().to_string(), told);
        }
    }
}
