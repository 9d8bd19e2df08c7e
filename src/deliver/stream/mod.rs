//! Reading on: one reader for each partition that anybody here reads, however many do. Message
//! items are written once and shared; a consumer that falls behind loses only its own place.

mod feed;
mod filter;
mod mailbox;
mod place;
mod portion;
mod reader;
mod ring;
mod topic;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

pub use self::{
    feed::Feed,
    filter::Filter,
    mailbox::{Ear, Mailbox},
    portion::{Portion, Room},
    reader::{Read, Reader},
    ring::{Chunk, Encode, Items, Take},
    topic::{Ended, Listening, TopicStream},
};
use crate::{
    catalog::{Catalog, CatalogError, Topic},
    lifecycle::Lifecycle,
    log::{Log, Position, ReadError},
    model::{Name, PartitionId, TenantId, group::TopicPattern, limits},
    record::Corrupt,
};

/// How long a reader keeps what everybody had the time to take.
const KEPT: Duration = Duration::from_secs(1);
/// Changes of the catalog that come together are looked at together.
const GATHER: Duration = Duration::from_millis(20);
/// Names of one page of the catalog.
const PAGE: u32 = 1_000;

/// Why a page could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The log says so.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

/// What is read on, as one node sees it. Clones share it.
#[derive(Clone, Debug)]
pub struct Streams {
    shared: Arc<Shared>,
}

type Topics = HashMap<(TenantId, Name), Weak<TopicStream>>;

#[derive(Debug)]
struct Shared {
    log: Log,
    catalog: Catalog,
    lifecycle: Lifecycle,
    encode: Encode,
    topics: Mutex<Topics>,
    /// Something says that a topic is not what it was.
    changed: Notify,
    /// Those who read patterns, and are told when a topic may have come.
    names: Mutex<Vec<Weak<Ear>>>,
    pages: Arc<Semaphore>,
}

/// A page of one consumer that is behind, which counts among those of the node until it is gone.
#[derive(Debug)]
pub struct Page {
    /// The messages; none at the end of the log.
    pub chunk: Arc<Chunk>,
    _share: OwnedSemaphorePermit,
}

impl Streams {
    /// Readers of `log`, which write messages by `encode`.
    pub fn new(log: Log, catalog: Catalog, lifecycle: Lifecycle, encode: Encode) -> Self {
        let shared = Shared {
            log,
            catalog,
            lifecycle,
            encode,
            topics: Mutex::default(),
            changed: Notify::new(),
            names: Mutex::default(),
            pages: Arc::new(Semaphore::new(limits::STREAM_PAGES_MAX)),
        };
        Self { shared: Arc::new(shared) }
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.shared.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The readers of a topic.
    pub async fn topic(
        &self,
        tenant: TenantId,
        name: &Name,
    ) -> Result<Arc<TopicStream>, CatalogError> {
        let topic = self.shared.catalog.topic(tenant, name).await?;
        let key = (tenant, name.clone());
        let mut topics = self.topics();
        if let Some(stream) = topics.get(&key).and_then(Weak::upgrade)
            && stream.ended().is_none()
            && is_same(&stream.topic(), &topic)
        {
            return Ok(stream);
        }
        let stream = TopicStream::new(Arc::clone(&self.shared), tenant, name.clone(), topic);
        topics.insert(key, Arc::downgrade(&stream));
        Ok(stream)
    }

    /// Compares what is read here with the catalog: something says that it is not what it was.
    pub fn look(&self) {
        self.shared.changed.notify_one();
    }

    /// Tells `ear` when a topic may have come, for as long as it is kept.
    pub fn watch_names(&self, ear: &Arc<Ear>) {
        self.names().push(Arc::downgrade(ear));
    }

    fn names(&self) -> MutexGuard<'_, Vec<Weak<Ear>>> {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_names(&self) {
        self.names().retain(|ear| ear.upgrade().inspect(|ear| ear.tell()).is_some());
    }

    /// The topics that one of `patterns` means, by name.
    pub async fn matching(
        &self,
        tenant: TenantId,
        patterns: &[TopicPattern],
    ) -> Result<Vec<Name>, CatalogError> {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.shared.catalog.list(tenant, "", &after, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            if let Some(last) = page.last() {
                after = last.name.to_string();
            }
            let meant = |topic: &Topic| patterns.iter().any(|one| one.matches(topic.name.as_str()));
            found.extend(page.into_iter().filter(meant).map(|topic| topic.name));
            if is_last {
                return Ok(found);
            }
        }
    }

    /// The offset that a position means now.
    pub async fn resolve(&self, id: PartitionId, position: Position) -> Result<i64, ReadError> {
        let log = self.shared.log.clone();
        let work = self.shared.lifecycle.spawn(async move { log.resolve(id, position).await });
        work.await.unwrap_or(Err(ReadError::Unfinished))
    }

    /// A page for a consumer that is behind. It waits while too many others have one in hand.
    pub async fn page(&self, id: PartitionId, from: i64, limit: u32) -> Result<Page, PageError> {
        let share = Arc::clone(&self.shared.pages).acquire_owned().await;
        let share = share.expect("nobody closes it");
        let log = &self.shared.log;
        let (_, page) = log.poll(id, Position::Offset(from), limit, Duration::ZERO).await?;
        let chunk = Chunk::new(from, page.batches, self.shared.encode)?;
        Ok(Page { chunk: Arc::new(chunk), _share: share })
    }

    /// Compares topics that are read here with the catalog, until the node stops.
    pub async fn run(self) {
        let mut changes = self.shared.catalog.changes();
        let mut incarnations = self.shared.log.database().incarnations();
        let mut is_complete = true;
        loop {
            let pause = if is_complete { KEPT } else { limits::WAKE_INTERVAL };
            let is_changed = tokio::select! {
                changed = changes.changed() => changed.is_ok(),
                changed = incarnations.changed() => changed.is_ok(),
                () = self.shared.changed.notified() => true,
                () = sleep(pause) => !is_complete,
                () = self.shared.lifecycle.draining() => return,
            };
            let streams = self.alive();
            streams.iter().for_each(|stream| stream.sweep());
            if is_changed {
                sleep(GATHER).await;
                changes.mark_unchanged();
                is_complete = look(&streams).await;
                self.tell_names();
            }
        }
    }

    fn alive(&self) -> Vec<Arc<TopicStream>> {
        let mut topics = self.topics();
        topics.retain(|_, stream| stream.strong_count() > 0);
        topics.values().filter_map(Weak::upgrade).collect()
    }
}

fn is_same(one: &Arc<Topic>, other: &Arc<Topic>) -> bool {
    one.id == other.id && one.incarnation == other.incarnation
}

/// False: the catalog could not be read.
async fn look(streams: &[Arc<TopicStream>]) -> bool {
    let mut is_complete = true;
    for stream in streams {
        is_complete &= stream.look().await.is_ok();
    }
    is_complete
}
