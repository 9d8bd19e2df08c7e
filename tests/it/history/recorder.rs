//! Writing a history down from many tasks, and to a file.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    Attempt, Fate, History, Nanos, Publish, Read, Topic, TopicId, Violation, check,
    group::{Commit, GroupOp, Outcome, Seek, Stood, Told},
};

/// Takes operations down. Clones share one history.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    seed: u64,
    acked: AtomicUsize,
    unknown: AtomicUsize,
    numbers: AtomicU64,
    history: Mutex<History>,
    notes: Mutex<BTreeMap<String, usize>>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
enum Line {
    Seed(u64),
    Topic(Topic),
    Publish(Publish),
    Attempt(Attempt),
    Read(Read),
    Group(GroupOp),
}

impl Recorder {
    /// An empty history of the run that `seed` planned.
    pub fn new(seed: u64) -> Self {
        let (acked, unknown) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (begun, history, notes) = (Instant::now(), Mutex::default(), Mutex::default());
        let numbers = AtomicU64::new(0);
        Self { shared: Arc::new(Shared { begun, seed, acked, unknown, numbers, history, notes }) }
    }

    /// The time of the history.
    pub fn now(&self) -> Nanos {
        u64::try_from(self.shared.begun.elapsed().as_nanos()).expect("a run of under 500 years")
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic that was just made.
    pub fn topic(&self, name: &str, retention: Option<Duration>) -> TopicId {
        let mut history = self.lock();
        history.topics.push(Topic { name: name.to_owned(), retention });
        u32::try_from(history.topics.len() - 1).expect("fewer topics than that")
    }

    /// Counts something that the checker does not ask about, such as a reason to refuse.
    pub fn note(&self, what: &str) {
        let mut notes = self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
        *notes.entry(what.to_owned()).or_default() += 1;
    }

    /// How often each thing was noted.
    pub fn notes(&self) -> BTreeMap<String, usize> {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A publish that has ended.
    pub fn publish(&self, publish: Publish) {
        let count = |of: fn(&Fate) -> bool| publish.messages.iter().filter(|m| of(&m.1)).count();
        let acked = count(|fate| matches!(fate, Fate::Ok { .. }));
        let unknown = count(|fate| matches!(fate, Fate::Info));
        self.shared.acked.fetch_add(acked, Ordering::Relaxed);
        self.shared.unknown.fetch_add(unknown, Ordering::Relaxed);
        self.lock().publishes.push(publish);
    }

    /// A try of a request that is to be carried out once.
    pub fn attempt(&self, attempt: Attempt) {
        self.lock().attempts.push(attempt);
    }

    /// A read that has ended.
    pub fn read(&self, read: Read) {
        self.lock().reads.push(read);
    }

    /// An answer that a member got. Returns its number, which answers to its cursor name.
    pub fn told(&self, mut told: Told) -> u64 {
        told.number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let number = told.number;
        self.lock().groups.push(GroupOp::Told(told));
        number
    }

    /// A commit that is about to be sent: nobody knows of it until [`Self::committed`] says.
    pub fn commits(&self, commit: Commit) -> usize {
        let mut history = self.lock();
        history.groups.push(GroupOp::Commit(commit));
        history.groups.len() - 1
    }

    /// What became of a commit.
    pub fn committed(&self, at: usize, outcome: Outcome) {
        let now = self.now();
        if let GroupOp::Commit(commit) = &mut self.lock().groups[at] {
            (commit.completed, commit.outcome) = (now, outcome);
        }
    }

    /// A seek that has ended.
    pub fn seek(&self, seek: Seek) {
        self.lock().groups.push(GroupOp::Seek(seek));
    }

    /// A committed offset that was looked at.
    pub fn stood(&self, stood: Stood) {
        self.lock().groups.push(GroupOp::Stood(stood));
    }

    /// How many messages were acknowledged up to now.
    pub fn acked(&self) -> usize {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Of how many messages nobody knows.
    pub fn unknown(&self) -> usize {
        self.shared.unknown.load(Ordering::Relaxed)
    }

    /// A copy of the history as it is.
    pub fn history(&self) -> History {
        self.lock().clone()
    }

    /// Checks the history. What is broken is written beside the test binary's other files,
    /// together with every operation, and told.
    pub fn verdict(&self) -> Result<History, String> {
        let history = self.history();
        let violations = check(&history);
        if violations.is_empty() {
            return Ok(history);
        }
        let seed = self.shared.seed;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("histories");
        let file = folder.join(format!("{seed}-{}.jsonl", std::process::id()));
        let kept = match keep(&file, seed, &history) {
            Ok(()) => file.display().to_string(),
            Err(error) => format!("nowhere: {error}"),
        };
        let told: Vec<String> = violations.iter().take(20).map(Violation::to_string).collect();
        let count = violations.len();
        Err(format!("{count} violations, seed {seed}, kept in {kept}:\n{}", told.join("\n")))
    }
}

fn keep(file: &PathBuf, seed: u64, history: &History) -> io::Result<()> {
    fs::create_dir_all(file.parent().expect("it lies in a folder"))?;
    let mut out = BufWriter::new(fs::File::create(file)?);
    let mut write = |line: &Line| {
        serde_json::to_writer(&mut out, line).map_err(io::Error::other)?;
        out.write_all(b"\n")
    };
    write(&Line::Seed(seed))?;
    for topic in &history.topics {
        write(&Line::Topic(topic.clone()))?;
    }
    for publish in &history.publishes {
        write(&Line::Publish(publish.clone()))?;
    }
    for attempt in &history.attempts {
        write(&Line::Attempt(attempt.clone()))?;
    }
    for read in &history.reads {
        write(&Line::Read(read.clone()))?;
    }
    for operation in &history.groups {
        write(&Line::Group(operation.clone()))?;
    }
    out.flush()
}

/// Reads a kept history back: its seed and what happened.
pub fn restore(file: &Path) -> io::Result<(u64, History)> {
    let (mut seed, mut history) = (0, History::default());
    for line in BufReader::new(fs::File::open(file)?).lines() {
        match serde_json::from_str(&line?).map_err(io::Error::other)? {
            Line::Seed(number) => seed = number,
            Line::Topic(topic) => history.topics.push(topic),
            Line::Publish(publish) => history.publishes.push(publish),
            Line::Attempt(attempt) => history.attempts.push(attempt),
            Line::Read(read) => history.reads.push(read),
            Line::Group(operation) => history.groups.push(operation),
        }
    }
    Ok((seed, history))
}

#[test]
fn a_kept_history_comes_back_whole() {
    let recorder = Recorder::new(7);
    let topic = recorder.topic("orders", Some(Duration::from_secs(5)));
    let fates = [Fate::Ok { partition: 1, offset: 4 }, Fate::Fail, Fate::Info];
    recorder.publish(Publish {
        topic,
        invoked: 1,
        completed: recorder.now(),
        atomic: false,
        messages: fates.iter().map(|fate| (9, *fate)).collect(),
    });
    recorder.attempt(Attempt { topic, claim: 3, messages: vec![(9, Fate::Info)] });
    let page = super::Seen::Page { messages: vec![(4, 9)], next: 5, low: 0, high: 5 };
    for (from, seen) in [
        (super::From::Offset(4), page),
        (super::From::Latest, super::Seen::OutOfRange { low: 3, high: 4 }),
        (super::From::Earliest, super::Seen::Nothing),
    ] {
        let (started, ended) = (2, recorder.now());
        let (limit, is_final) = (10, true);
        recorder.read(Read { topic, partition: 1, from, limit, started, ended, seen, is_final });
    }
    assert_eq!((recorder.acked(), recorder.unknown()), (1, 1));
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("history.jsonl");
    keep(&file, 7, &recorder.history()).expect("written");
    assert_eq!(restore(&file).expect("read"), (7, recorder.history()));
}
