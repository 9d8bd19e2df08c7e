//! What hastens the way to other nodes. What a node did lies in rows that the others look at every
//! [`limits::WAKE_INTERVAL`], and answers rest on that alone. A node that did something also says
//! so with a NOTIFY, and whoever hears it looks at once. Word that is lost, late or made up costs
//! time, never an answer.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};
use tracing::warn;

use super::Log;
use crate::{
    model::limits,
    store::{
        StoreError,
        notify::{Listener, Notifier},
    },
    telemetry::metrics::LOG,
};

/// How long saying it may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// A listener that heard nothing for so long is asked whether it lives.
const QUIET_MAX: Duration = Duration::from_secs(10);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two tries to connect.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What other nodes can look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Appends, and low watermarks that moved.
    Wakes,
    /// Groups whose members or assignments changed.
    Groups,
    /// Topics that were made, changed or deleted.
    Catalog,
}

impl News {
    const ALL: [Self; 3] = [Self::Wakes, Self::Groups, Self::Catalog];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn letter(self) -> char {
        match self {
            Self::Wakes => 'w',
            Self::Groups => 'g',
            Self::Catalog => 'c',
        }
    }

    /// Between two looks that were asked for, at the least.
    fn pace(self) -> Duration {
        match self {
            Self::Wakes => limits::NOTIFY_INTERVAL,
            // One look compares all groups of the node.
            Self::Groups | Self::Catalog => limits::NOTIFY_INTERVAL * 4,
        }
    }
}

/// Word without news: another node has begun to listen.
const ARRIVAL: u8 = 1 << 7;

/// What a node has to say and what it heard.
#[derive(Debug)]
pub(super) struct Notifications {
    is_on: bool,
    /// Whether another node lived when the registry was last looked at.
    others: AtomicBool,
    heard: Mutex<Option<Instant>>,
    /// What is to be said.
    unsent: AtomicU8,
    send: Notify,
    /// What was heard and not looked for yet; one waits for each.
    told: [Notify; News::ALL.len()],
}

impl Notifications {
    pub(super) fn new(is_on: bool) -> Self {
        Self {
            is_on,
            others: AtomicBool::new(false),
            heard: Mutex::default(),
            unsent: AtomicU8::new(0),
            send: Notify::new(),
            told: Default::default(),
        }
    }

    /// Notes whether another node lives. One that was heard a moment ago does, whatever the
    /// registry showed just before it came.
    pub(super) fn set_others(&self, found: bool) {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_heard = heard.is_some_and(|heard| heard.elapsed() < limits::NODE_SILENCE);
        self.others.store(found || is_heard, Ordering::Relaxed);
    }

    fn tell(&self, bit: u8) {
        if self.is_on && self.others.load(Ordering::Relaxed) {
            let before = self.unsent.fetch_or(bit, Ordering::AcqRel);
            if before & bit == 0 {
                self.send.notify_one();
            }
        }
    }

    /// Everything is looked for: what was said before may not have been heard.
    fn told_everything(&self) {
        self.told.iter().for_each(Notify::notify_one);
    }
}

/// Word as it is sent: the node, and a letter for each thing to look for.
fn write(node: i64, bits: u8) -> String {
    let news = News::ALL.into_iter().filter(|news| bits & news.bit() != 0);
    format!("{node} {}", news.map(News::letter).collect::<String>())
}

/// Whose word it is and what to look for. Nothing where it cannot be read.
fn read(word: &str) -> Option<(i64, Vec<News>)> {
    let (node, letters) = word.split_once(' ')?;
    let named = |letter| News::ALL.into_iter().find(|news| news.letter() == letter);
    Some((node.parse().ok()?, letters.chars().filter_map(named).collect()))
}

impl Log {
    /// Tells other nodes to look, when what they are to find is committed. At once where nothing
    /// was told for [`limits::NOTIFY_INTERVAL`], else with what comes until then.
    pub fn tell(&self, news: News) {
        self.shared.notifications.tell(news.bit());
    }

    /// Completes when another node told of `news`, and not sooner after `looked`, the last look,
    /// than looks may follow each other.
    pub async fn told(&self, news: News, looked: Instant) {
        self.shared.notifications.told[news as usize].notified().await;
        let due = looked + news.pace();
        if Instant::now() < due {
            sleep_until(due).await;
        }
    }

    /// Says and hears, until the node takes nothing more.
    pub async fn notify_nodes(self) {
        if !self.shared.notifications.is_on {
            return;
        }
        let both = async { tokio::join!(self.say(), self.listen()) };
        tokio::select! {
            ((), ()) = both => {}
            () = self.shared.lifecycle.sealing() => {}
        }
    }

    async fn say(&self) {
        let notifications = &self.shared.notifications;
        let mut incarnations = self.shared.database.incarnations();
        let mut notifier = None;
        let mut pause = PAUSE_MIN;
        let mut said: Option<Instant> = None;
        loop {
            notifications.send.notified().await;
            let due = said.map(|said| said + limits::NOTIFY_INTERVAL);
            if let Some(due) = due.filter(|due| Instant::now() < *due) {
                sleep_until(due).await;
            }
            let word = write(self.node(), notifications.unsent.swap(0, Ordering::AcqRel));
            said = Some(Instant::now());
            if incarnations.has_changed().unwrap_or(false) {
                incarnations.mark_unchanged();
                notifier = None;
            }
            if self.send(&mut notifier, &word).await.is_ok() {
                LOG.notifications_sent.increment(1);
                pause = PAUSE_MIN;
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Sends over the session at hand, or over a new one where that has gone.
    async fn send(&self, notifier: &mut Option<Notifier>, word: &str) -> Result<(), StoreError> {
        let is_new = notifier.is_none();
        let mut sent = self.try_send(notifier, word).await;
        if sent.is_err() && !is_new {
            *notifier = None;
            sent = self.try_send(notifier, word).await;
        }
        if let Err(error) = &sent {
            tracing::debug!(%error, "other nodes were not told");
            *notifier = None;
        }
        sent
    }

    async fn try_send(
        &self,
        notifier: &mut Option<Notifier>,
        word: &str,
    ) -> Result<(), StoreError> {
        let session = match notifier {
            Some(session) => session,
            None => notifier.insert(Notifier::connect(&self.shared.database).await?),
        };
        let sent = timeout(SEND_TIMEOUT, session.notify(word)).await;
        sent.unwrap_or_else(|_| Err(StoreError::Lost("no answer".to_owned())))
    }

    async fn listen(&self) {
        let mut pause = PAUSE_MIN;
        let mut failing = false;
        loop {
            let begun = Instant::now();
            let error = match self.hear().await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if begun.elapsed() > PAUSE_MAX / 2 {
                (pause, failing) = (PAUSE_MIN, false);
            }
            if !failing {
                warn!(%error, "other nodes are not heard: their news come a little later");
            }
            failing = true;
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Hears what is told until the session ends.
    async fn hear(&self) -> Result<std::convert::Infallible, StoreError> {
        let mut incarnations = self.shared.database.incarnations();
        let connected =
            timeout(limits::DATABASE_ACQUIRE_TIMEOUT, Listener::connect(&self.shared.database));
        let no_answer = || StoreError::Lost("no answer".to_owned());
        let mut listener = connected.await.unwrap_or_else(|_| Err(no_answer()))?;
        incarnations.mark_unchanged();
        self.shared.notifications.told_everything();
        // In this order two nodes that start together cannot miss each other: whoever registers
        // later finds the other one, which listens by then.
        self.beat().await?;
        self.shared.notifications.tell(ARRIVAL);
        loop {
            tokio::select! {
                heard = timeout(QUIET_MAX, listener.next()) => match heard {
                    Ok(word) => self.heard(&word?),
                    Err(_) => {
                        let alive = timeout(CHECK_TIMEOUT, listener.check()).await;
                        alive.unwrap_or_else(|_| Err(no_answer()))?;
                    }
                },
                _ = incarnations.changed() => {
                    return Err(StoreError::Lost("the log has another incarnation".to_owned()));
                }
            }
        }
    }

    fn heard(&self, word: &str) {
        LOG.notifications_heard.increment(1);
        let notifications = &self.shared.notifications;
        let Some((node, news)) = read(word) else {
            notifications.told_everything();
            return;
        };
        if node == self.node() {
            return;
        }
        *notifications.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        notifications.others.store(true, Ordering::Relaxed);
        for news in news {
            // Where nobody reads, appends can wait for the next look.
            if news != News::Wakes || self.has_readers() {
                notifications.told[news as usize].notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_is_read_as_it_is_written() {
        for bits in 0..8 {
            let (node, news) = read(&write(42, bits)).expect("readable");
            assert_eq!(node, 42);
            assert_eq!(news.into_iter().fold(0, |all, news| all | news.bit()), bits);
        }
        assert_eq!(read(&write(7, ARRIVAL)), Some((7, Vec::new())));
        assert_eq!(read("7 wx"), Some((7, vec![News::Wakes])), "a later version's");
        for word in ["", "7", "x w", " w"] {
            assert_eq!(read(word), None, "{word}");
        }
    }

    #[test]
    fn nothing_is_said_to_nobody() {
        let said = |notifications: &Notifications| notifications.unsent.load(Ordering::Relaxed);
        let alone = Notifications::new(true);
        alone.tell(News::Wakes.bit());
        assert_eq!(said(&alone), 0);
        alone.set_others(true);
        alone.tell(News::Wakes.bit());
        alone.tell(News::Groups.bit());
        assert_eq!(said(&alone), News::Wakes.bit() | News::Groups.bit());
        let off = Notifications::new(false);
        off.set_others(true);
        off.tell(News::Wakes.bit());
        assert_eq!(said(&off), 0);
    }

    #[test]
    fn a_node_that_was_just_heard_lives_whatever_the_registry_showed() {
        let notifications = Notifications::new(true);
        *notifications.heard.lock().expect("not poisoned") = Some(Instant::now());
        notifications.set_others(false);
        assert!(notifications.others.load(Ordering::Relaxed));
    }
}
