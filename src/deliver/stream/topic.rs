//! A topic that is read here: its readers, and what consumers are told when it is not what it was.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{Shared, feed::Feed, mailbox::Ear, ring::Take};
use crate::{
    catalog::{CatalogError, Topic},
    model::{Name, TenantId, topic::Durability},
};

/// Why a topic cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was deleted.
    Deleted,
    /// It was deleted and made again.
    Recreated,
    /// The log failed over, and the topic's end may have gone.
    Truncated,
}

/// One topic, for all who read it on this node.
#[derive(Debug)]
pub struct TopicStream {
    shared: Arc<Shared>,
    tenant: TenantId,
    name: Name,
    state: Mutex<State>,
    /// Rises when its partitions are others.
    version: AtomicU64,
}

#[derive(Debug)]
struct State {
    topic: Arc<Topic>,
    feeds: Vec<Arc<Feed>>,
    ended: Option<Ended>,
    /// Who wants to know of new partitions, and of the end.
    ears: Vec<Arc<Ear>>,
}

fn feeds(topic: &Topic, before: &[Arc<Feed>]) -> Vec<Arc<Feed>> {
    let feed = |(at, id): (usize, &crate::model::PartitionId)| match before.get(at) {
        Some(feed) if feed.id() == *id => Arc::clone(feed),
        _ => Feed::new(*id),
    };
    topic.partitions.iter().enumerate().map(feed).collect()
}

impl TopicStream {
    pub(super) fn new(
        shared: Arc<Shared>,
        tenant: TenantId,
        name: Name,
        topic: Arc<Topic>,
    ) -> Arc<Self> {
        let feeds = feeds(&topic, &[]);
        let state = State { topic, feeds, ended: None, ears: Vec::new() };
        let (state, version) = (Mutex::new(state), AtomicU64::new(0));
        Arc::new(Self { shared, tenant, name, state, version })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The topic as it is read here.
    pub fn topic(&self) -> Arc<Topic> {
        Arc::clone(&self.state().topic)
    }

    /// Why it cannot be read on, if so.
    pub fn ended(&self) -> Option<Ended> {
        self.state().ended
    }

    /// Another number when the partitions are others.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Tells `ear` when the partitions are others and when the topic ends.
    pub fn watch(&self, ear: &Arc<Ear>) {
        self.state().ears.push(Arc::clone(ear));
    }

    /// Tells `ear` nothing more.
    pub fn unwatch(&self, ear: &Arc<Ear>) {
        self.state().ears.retain(|one| !Arc::ptr_eq(one, ear));
    }

    /// Reads a partition for `ear` from now on.
    pub fn listen(&self, partition: u32, ear: &Arc<Ear>) -> Option<Listening> {
        let feed = self.state().feeds.get(partition as usize).cloned()?;
        feed.enter(Arc::clone(ear), &self.shared);
        Some(Listening { feed, ear: Arc::clone(ear) })
    }

    /// Compares it with the catalog.
    pub(super) async fn look(&self) -> Result<(), CatalogError> {
        let before = self.topic();
        let found = match self.shared.catalog.topic(self.tenant, &self.name).await {
            Ok(found) if Arc::ptr_eq(&found, &before) => return Ok(()),
            Ok(found) => Some(found),
            Err(CatalogError::NotFound) => None,
            Err(error) => return Err(error),
        };
        let is_gone = found.is_none();
        let mut state = self.state();
        let Some(found) = found.filter(|found| found.id == before.id) else {
            let why = if is_gone { Ended::Deleted } else { Ended::Recreated };
            end(state, why);
            return Ok(());
        };
        if found.incarnation != before.incarnation {
            let durability = [&before, &found].map(|topic| topic.settings.durability);
            if durability != [Durability::Replicated; 2] {
                end(state, Ended::Truncated);
                return Ok(());
            }
            // Partitions as this node knew them are forgotten: they are read anew.
            state.feeds.clear();
        }
        let feeds = feeds(&found, &state.feeds);
        let is_same = feeds.len() == state.feeds.len();
        (state.topic, state.feeds) = (found, feeds);
        if !is_same {
            self.version.fetch_add(1, Ordering::AcqRel);
            state.ears.iter().for_each(|ear| ear.tell());
        }
        Ok(())
    }

    pub(super) fn sweep(&self) {
        self.state().feeds.iter().for_each(|feed| feed.sweep());
    }
}

fn end(mut state: MutexGuard<'_, State>, why: Ended) {
    state.ended = Some(why);
    state.ears.iter().for_each(|ear| ear.tell());
}

/// A consumer's place at a reader, until it is dropped.
#[derive(Debug)]
pub struct Listening {
    feed: Arc<Feed>,
    ear: Arc<Ear>,
}

impl Listening {
    /// What there is at `from`.
    pub fn take(&self, from: i64) -> Take {
        self.feed.take(from)
    }

    /// The reader.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.feed.leave(&self.ear);
    }
}
