//! Groups under members that come and go, judged by the checker of [`crate::history`]. Every
//! answer goes into the history with the cursor that it follows; a request that was cut off leaves
//! its commits to nobody's knowledge.

mod access_log;
mod crowd;
mod fifty;
mod planted;
mod process;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::Value;

use crate::{
    history::{
        Recorder, TopicId,
        group::{GroupId, Stood},
    },
    support::Client,
};

/// Messages as members got them: by partition and offset the text.
pub type Texts = BTreeMap<(u32, i64), String>;

/// A group that reads one topic, and everything about it that its members share.
pub struct Scene {
    recorder: Recorder,
    /// Of the group in the history.
    number: GroupId,
    group: String,
    topic: TopicId,
    topic_name: String,
    clients: Vec<Client>,
    texts: Mutex<Texts>,
    /// Partition and offset of messages as they came.
    arrived: Mutex<Vec<(u32, i64)>>,
    fates: Mutex<BTreeMap<&'static str, usize>>,
    processes: AtomicU64,
    /// Whether members are to leave.
    is_over: AtomicBool,
}

impl Scene {
    /// A group of this name on the nodes of `clients`.
    pub fn new(
        recorder: &Recorder,
        (number, group): (GroupId, &str),
        (topic, topic_name): (TopicId, &str),
        clients: &[Client],
    ) -> Self {
        Self {
            recorder: recorder.clone(),
            number,
            group: group.to_owned(),
            topic,
            topic_name: topic_name.to_owned(),
            clients: clients.to_vec(),
            texts: Mutex::default(),
            arrived: Mutex::default(),
            fates: Mutex::default(),
            processes: AtomicU64::new(u64::from(number) << 32),
            is_over: AtomicBool::new(false),
        }
    }

    /// Messages arrived at a member.
    fn got(&self, partition: u32, messages: &[(i64, String)]) {
        let mut texts = unlocked(&self.texts);
        for (offset, text) in messages {
            let before = texts.insert((partition, *offset), text.clone());
            assert!(before.is_none_or(|before| before == *text), "{partition}/{offset} changed");
        }
        let places = messages.iter().map(|(offset, _)| (partition, *offset));
        unlocked(&self.arrived).extend(places);
    }

    /// What nobody had got before came in order, to whomever: nothing was passed over that came
    /// later.
    fn came_in_order(&self) {
        let mut reached: BTreeMap<u32, i64> = BTreeMap::new();
        for (partition, offset) in unlocked(&self.arrived).iter() {
            let next = reached.entry(*partition).or_default();
            assert!(offset <= next, "{partition}/{offset} came before {next}");
            *next = (*next).max(offset + 1);
        }
    }

    /// Everything that members got.
    fn texts(&self) -> Texts {
        unlocked(&self.texts).clone()
    }

    /// Counts what became of a process.
    fn fate(&self, what: &'static str) {
        *unlocked(&self.fates).entry(what).or_default() += 1;
    }

    /// How often each thing became of a process.
    fn fates(&self) -> BTreeMap<&'static str, usize> {
        unlocked(&self.fates).clone()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Lets every member leave.
    fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Looks at the group from outside through node `at`: how many messages are not committed.
    /// None when the node did not say.
    async fn lag(&self, at: usize) -> Option<i64> {
        let client = &self.clients[at % self.clients.len()];
        let invoked = self.recorder.now();
        let request = client.request(reqwest::Method::GET, &format!("/v1/groups/{}", self.group));
        let answer = client.try_send(request).await.filter(|answer| answer.status == 200)?;
        let completed = self.recorder.now();
        let mut lag = 0;
        for entry in answer.value()["partitions"].as_array().expect("a list") {
            let number = |field: &str| entry[field].as_i64();
            let partition = number("partition").expect("a number") as u32;
            let (Some(offset), Some(high)) = (number("committed_offset"), number("high_watermark"))
            else {
                continue;
            };
            lag += high - offset;
            let (group, topic) = (self.number, self.topic);
            let stood = Stood { group, topic, partition, invoked, completed, offset, high };
            self.recorder.stood(stood);
        }
        Some(lag)
    }
}

fn unlocked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text of a message.
fn text(message: &Value) -> String {
    let text = message["value_text"].as_str().or(message["value"].as_str());
    text.map_or_else(|| message["value"].to_string(), str::to_owned)
}
