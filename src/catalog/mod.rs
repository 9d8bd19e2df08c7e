//! Topics as resources. Reads are cached; a change made here is seen at once, one made on
//! another node within [`limits::WAKE_INTERVAL`]. A stale entry is harmless to the log: appends
//! to what has gone or moved are refused under its lock, and the entry is read again.

mod follow;

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    lifecycle::Lifecycle,
    log::{Log, News, ReplicationError},
    model::{
        Name, TenantId, limits,
        topic::{Durability, TopicSettings},
    },
    store::{self, Database, StoreError, topics::TopicRow},
};

/// A topic as it stands.
pub type Topic = TopicRow;

/// Why a topic could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is none of that name.
    #[error("there is no such topic")]
    NotFound,
    /// One of that name stands already.
    #[error("a topic of that name stands already")]
    AlreadyExists,
    /// The database did not answer as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing happened: a `replicated` topic needs a synchronous standby.
    #[error("the database has no synchronous standby")]
    NoStandby,
    /// It happened, and no synchronous standby has confirmed it yet.
    #[error("no synchronous standby confirmed the change in time")]
    Unconfirmed,
    /// Nothing happened: other changes were in the way for too long.
    #[error("too many changes of topics are waiting")]
    Overloaded,
    /// The change was begun and its task ended without a word.
    #[error("the change was not finished")]
    Unfinished,
}

/// The catalog as one node sees it. Clones share it.
#[derive(Clone, Debug)]
pub struct Catalog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    lifecycle: Lifecycle,
    log: Log,
    topics: RwLock<HashMap<TenantId, HashMap<Name, Arc<Topic>>>>,
    generation: AtomicU64,
    /// Told whenever something was forgotten.
    changes: watch::Sender<u64>,
    /// One change at a time: the catalog lock lets no more through, and those that wait for it
    /// would hold every connection of the pool.
    turn: Arc<Semaphore>,
}

impl Catalog {
    /// The catalog in the database of `log`.
    pub fn new(log: Log, lifecycle: Lifecycle) -> Self {
        let database = log.database().clone();
        let (topics, generation) = (RwLock::default(), AtomicU64::new(0));
        let turn = Arc::new(Semaphore::new(1));
        let changes = watch::Sender::new(0);
        let shared = Shared { database, lifecycle, log, topics, generation, changes, turn };
        Self { shared: Arc::new(shared) }
    }

    /// Follows the changes that other nodes make, until the node stops.
    pub async fn follow_changes(self) {
        follow::run(self).await;
    }

    /// A topic by its name.
    pub async fn topic(&self, tenant: TenantId, name: &Name) -> Result<Arc<Topic>, CatalogError> {
        if let Some(topic) = self.cached(tenant, name) {
            return Ok(topic);
        }
        // What is read now may be stale by the time it is kept.
        let incarnation = self.shared.database.incarnation();
        let generation = self.shared.generation.load(Ordering::Acquire);
        // Boxed: the rare way would make every request's future some eight times larger.
        let found = Box::pin(self.load(tenant, name)).await?.ok_or(CatalogError::NotFound)?;
        // Where it has changed meanwhile, the topic is looked up again by whoever uses it.
        let found = Arc::new(Topic { incarnation, ..found });
        let mut topics = self.shared.topics.write().unwrap_or_else(PoisonError::into_inner);
        if self.shared.generation.load(Ordering::Acquire) == generation {
            let of_tenant = topics.entry(tenant).or_default();
            if of_tenant.len() >= limits::CACHED_TOPICS_MAX {
                of_tenant.clear();
            }
            of_tenant.insert(name.clone(), Arc::clone(&found));
        }
        Ok(found)
    }

    /// A topic that is in memory.
    pub fn cached(&self, tenant: TenantId, name: &Name) -> Option<Arc<Topic>> {
        let topics = self.shared.topics.read().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.get(&tenant)?.get(name)?;
        (topic.incarnation == self.shared.database.incarnation()).then(|| Arc::clone(topic))
    }

    async fn load(&self, tenant: TenantId, name: &Name) -> Result<Option<Topic>, StoreError> {
        self.read(self.try_load(tenant, name)).await
    }

    /// Waits for what is only read, but not for ever.
    async fn read<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = timeout(limits::DATABASE_ANSWER_TIMEOUT, read).await;
        done.unwrap_or_else(|_| Err(StoreError::Unreachable("no answer".to_owned())))
    }

    /// Makes a change in a task of its own, which goes on though nobody wait for it any more. A
    /// caller that vanishes before its turn gives it up.
    async fn change<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, CatalogError>> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let turn = Arc::clone(&self.shared.turn).acquire_owned();
        let Ok(Ok(turn)) = timeout(limits::CATALOG_TURN_TIMEOUT, turn).await else {
            return Err(CatalogError::Overloaded);
        };
        let log = self.shared.log.clone();
        let task = self.shared.lifecycle.spawn(async move {
            let _turn = turn;
            let changed = change.await;
            log.tell(News::Catalog);
            changed
        });
        match timeout(limits::DATABASE_ANSWER_TIMEOUT, task).await {
            Ok(done) => done.unwrap_or(Err(CatalogError::Unfinished)),
            Err(_) => Err(StoreError::Lost("no answer".to_owned()).into()),
        }
    }

    async fn try_load(&self, tenant: TenantId, name: &Name) -> Result<Option<Topic>, StoreError> {
        let mut lost = None;
        // A pooled session may have died with a server that is back: reading again is harmless.
        for _ in 0..=limits::DATABASE_CONNECTIONS {
            let mut session = self.shared.database.acquire().await?;
            match store::topics::find(&mut session, tenant, name).await {
                Err(StoreError::Lost(why)) => lost = Some(StoreError::Lost(why)),
                found => return found,
            }
        }
        Err(lost.unwrap_or_else(|| StoreError::Unreachable("no session".to_owned())))
    }

    /// Told whenever a topic may not be what it was.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn tell(&self) {
        self.shared.changes.send_modify(|changes| *changes += 1);
    }

    /// Reads a topic anew the next time somebody asks.
    pub fn forget(&self, tenant: TenantId, name: &Name) {
        self.shared.generation.fetch_add(1, Ordering::Release);
        let mut topics = self.shared.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_tenant) = topics.get_mut(&tenant) {
            of_tenant.remove(name);
        }
        drop(topics);
        self.tell();
    }

    /// Forgets a topic by its id and makes the readers of its partitions look again: they may
    /// wait though the topic has left the cache.
    fn forget_changed(&self, change: store::topics::Change) {
        self.shared.generation.fetch_add(1, Ordering::Release);
        let mut topics = self.shared.topics.write().unwrap_or_else(PoisonError::into_inner);
        for of_tenant in topics.values_mut() {
            of_tenant.retain(|_, topic| topic.id != change.topic);
        }
        drop(topics);
        self.tell();
        self.shared.log.wake(change.partitions);
    }

    /// Forgets everything and makes every reader look again.
    fn forget_all(&self) {
        self.shared.generation.fetch_add(1, Ordering::Release);
        self.shared.topics.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.tell();
        self.shared.log.wake_all();
    }

    /// Topics by name, behind `after` and beginning with `prefix`.
    pub async fn list(
        &self,
        tenant: TenantId,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Topic>, CatalogError> {
        let listed = self.read(async {
            let mut session = self.shared.database.acquire().await?;
            store::topics::list(&mut session, tenant, prefix, after, limit).await
        });
        Ok(listed.await?)
    }

    /// Refuses what no server without a synchronous standby can keep.
    pub async fn check_durability(&self, durability: Durability) -> Result<(), CatalogError> {
        if durability == Durability::Replicated
            && !self.read(self.shared.log.has_standbys()).await?
        {
            return Err(CatalogError::NoStandby);
        }
        Ok(())
    }

    /// Waits until a synchronous standby holds the catalog as it is, where a topic's `durability`
    /// asks for it. Changes themselves wait for none: they hold locks that others wait for.
    pub async fn confirm(&self, durability: Durability) -> Result<(), CatalogError> {
        if durability == Durability::Local {
            return Ok(());
        }
        self.shared.log.confirm_replicated().await.map_err(|error| match error {
            ReplicationError::NoStandby => CatalogError::NoStandby,
            ReplicationError::Unreachable
            | ReplicationError::Overloaded
            | ReplicationError::Unconfirmed => CatalogError::Unconfirmed,
        })
    }

    /// Makes a topic. The change goes on though the caller vanish.
    pub async fn create(
        &self,
        tenant: TenantId,
        name: Name,
        settings: TopicSettings,
    ) -> Result<(), CatalogError> {
        self.check_durability(settings.durability).await?;
        let catalog = self.clone();
        self.change(async move {
            let mut session = catalog.shared.database.acquire_for_change().await?;
            let made =
                store::topics::create_committed(&mut session, tenant, &name, &settings).await;
            catalog.forget(tenant, &name);
            if made? { Ok(()) } else { Err(CatalogError::AlreadyExists) }
        })
        .await
    }

    /// Changes a topic. `change` sees it as it stands, under the lock, and says what it shall be
    /// or why not. The change goes on though the caller vanish.
    pub async fn alter<E: Send + 'static>(
        &self,
        tenant: TenantId,
        name: Name,
        change: impl FnOnce(&TopicSettings) -> Result<TopicSettings, E> + Send + 'static,
    ) -> Result<Result<(), E>, CatalogError> {
        let catalog = self.clone();
        self.change(async move {
            let mut session = catalog.shared.database.acquire_for_change().await?;
            let altered = store::topics::alter_committed(&mut session, tenant, &name, change).await;
            catalog.forget(tenant, &name);
            altered?.ok_or(CatalogError::NotFound)
        })
        .await
    }

    /// Deletes a topic and tells its readers. The change goes on though the caller vanish.
    pub async fn delete(&self, tenant: TenantId, name: Name) -> Result<(), CatalogError> {
        let catalog = self.clone();
        self.change(async move {
            let mut session = catalog.shared.database.acquire_for_change().await?;
            let deleted = store::topics::delete_committed(&mut session, tenant, &name).await;
            catalog.forget(tenant, &name);
            let topic = deleted?.ok_or(CatalogError::NotFound)?;
            catalog.shared.log.wake(topic.partitions);
            Ok(())
        })
        .await
    }
}
