//! The composition root: the only place that knows every module, and the order of start and stop.

mod doctor;

use std::time::Duration;

use anyhow::Context;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    api::{
        self, AppParts, AppState,
        accept::{self, AcceptSettings, UnfinishedBytes},
        address::Addresses,
        extract::Bodies,
    },
    catalog::Catalog,
    cli::doctor::Finding,
    commit::offsets::Offsets,
    config::{DatabaseSettings, LogSettings, Settings},
    deliver::{groups::Groups, stream::Streams},
    lifecycle::{Lifecycle, Readiness},
    log::{self, Log},
    maintenance,
    model::{AllowedOrigins, Clock, TrustedProxies, limits},
    postgres::{self, Embedded, EmbeddedConfig},
    publish::{Publisher, Running},
    store::{
        self, Database,
        connect::Target,
        migrate::MigrateError,
        server::{self, ServerRefused},
    },
    telemetry,
};

/// How often the database is asked whether it answers, and how long it may think.
const PROBE_INTERVAL: Duration = Duration::from_millis(1_000);
const PROBE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Between two tries to prepare a database that does not answer.
const PREPARE_PAUSE: Duration = Duration::from_millis(500);
/// How long a stop waits for tasks after the last request.
const FINISH_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs the service until it is told to stop.
pub async fn serve(settings: Settings) -> anyhow::Result<()> {
    telemetry::init(settings.log.format, &settings.log.filter);
    settings.warnings().iter().for_each(|warning| warn!("{warning}"));
    let lifecycle = Lifecycle::new();
    watch_signals(&lifecycle)?;
    let addresses = settings.http.listen.addresses.as_slice();
    let listener = TcpListener::bind(addresses)
        .await
        .with_context(|| format!("cannot listen on {}", settings.http.listen.text))?;
    let address = listener.local_addr().context("cannot learn the address")?;

    let (embedded, target) = match open(&settings.database, &lifecycle).await {
        Ok(opened) => opened,
        Err(_) if lifecycle.is_draining() => return Ok(()),
        Err(error) => return Err(error),
    };
    info!("listening on http://{address}");
    let options = NodeOptions {
        trusted_proxies: settings.http.trusted_proxies,
        allowed_origins: settings.http.allowed_origins,
        notify: settings.node.notify,
    };
    let node = Node::with(options, target, Clock::default(), &lifecycle);
    let served = node.serve(listener, settings.node.name).await;
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    info!("stopped");
    served
}

/// Brings a database's schema up to this program's version.
pub async fn migrate(database: DatabaseSettings, logs: LogSettings) -> anyhow::Result<()> {
    telemetry::init(logs.format, &logs.filter);
    let lifecycle = Lifecycle::new();
    let (embedded, target) = open(&database, &lifecycle).await?;
    let migrated = async {
        let mut session = target.connect("migrate").await?;
        server::check(&mut session).await?;
        store::migrate::run(&mut session).await?;
        maintenance::prepare_buckets(&mut session).await?;
        anyhow::Ok(())
    };
    let migrated = migrated.await;
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    migrated
}

/// Checks a database as an operator would.
pub async fn doctor(database: DatabaseSettings) -> anyhow::Result<Vec<Finding>> {
    let lifecycle = Lifecycle::new();
    // A node may be running on that directory: then its server is asked, not a second one.
    let running = database.url.is_none().then(|| postgres::running(&database.data_dir)).flatten();
    let (embedded, target) = match running {
        Some(url) => (None, Target::parse(&url)?),
        None if database.url.is_none() && !postgres::is_made(&database.data_dir) => {
            anyhow::bail!("there is no database in {}", database.data_dir.display())
        }
        None => open(&database, &lifecycle).await?,
    };
    let findings = doctor::examine(&target).await;
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    findings
}

/// The OpenAPI document as JSON.
pub fn openapi() -> anyhow::Result<String> {
    Ok(api::openapi::document())
}

/// The first signal drains, the second ends at once.
fn watch_signals(lifecycle: &Lifecycle) -> anyhow::Result<()> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).context("cannot watch for signals")?;
        let lifecycle = lifecycle.clone();
        // Not tracked: it waits for signals for as long as there is anything to stop.
        Lifecycle::new().spawn(async move {
            while signals.recv().await.is_some() {
                info!("stopping");
                lifecycle.stop();
            }
        });
    }
    Ok(())
}

/// The database that the settings name, or the embedded one, started.
async fn open(
    settings: &DatabaseSettings,
    lifecycle: &Lifecycle,
) -> anyhow::Result<(Option<Embedded>, Target)> {
    if let Some(url) = &settings.url {
        return Ok((None, Target::parse(url.expose())?));
    }
    let config = EmbeddedConfig {
        data_dir: settings.data_dir_given.then(|| settings.data_dir.clone()),
        bin_dir: settings.pg_bin_dir.clone(),
        cache_dir: None,
    };
    let embedded = postgres::start(&config, lifecycle).await?;
    embedded.notices().iter().for_each(|notice| info!("{notice}"));
    info!(data_dir = %embedded.data_dir().display(), "PostgreSQL is ready");
    let target = Target::parse(embedded.url())?;
    Ok((Some(embedded), target))
}

/// How a node serves.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The proxies whose word counts for the address of a client.
    pub trusted_proxies: TrustedProxies,
    /// The origins whose pages may open sockets, beside those of the host itself.
    pub allowed_origins: AllowedOrigins,
    /// Whether other nodes are told and heard by NOTIFY, or looked at only.
    pub notify: bool,
}

impl Default for NodeOptions {
    fn default() -> Self {
        let (trusted_proxies, allowed_origins) = Default::default();
        Self { trusted_proxies, allowed_origins, notify: true }
    }
}

/// One node: everything that serves requests on one database.
#[derive(Clone)]
pub struct Node {
    database: Database,
    target: Target,
    state: AppState,
}

impl Node {
    /// A node on the database of `target` that serves as one does by default. It ends with
    /// `lifecycle`, which is its alone.
    pub fn new(target: Target, clock: Clock, lifecycle: &Lifecycle) -> Self {
        Self::with(NodeOptions::default(), target, clock, lifecycle)
    }

    /// Such a node that serves as `options` say.
    pub fn with(options: NodeOptions, target: Target, clock: Clock, lifecycle: &Lifecycle) -> Self {
        let database = Database::new(target.clone(), limits::DATABASE_CONNECTIONS);
        let log = Log::notifying(options.notify, database.clone(), lifecycle.clone());
        let catalog = Catalog::new(log.clone(), lifecycle.clone());
        let streams = Streams::new(
            log.clone(),
            catalog.clone(),
            lifecycle.clone(),
            api::message::write_items,
        );
        let state = AppState::new(AppParts {
            lifecycle: lifecycle.clone(),
            readiness: Readiness::new(),
            clock,
            bodies: Bodies::default(),
            unfinished: UnfinishedBytes::default(),
            catalog,
            streams,
            addresses: Addresses::new(options.trusted_proxies),
            origins: options.allowed_origins,
            groups: Groups::new(log.clone(), lifecycle.clone()),
            offsets: Offsets::new(database.clone(), lifecycle.clone()),
            publisher: Publisher::new(log.clone(), lifecycle.clone(), clock),
            log,
            running: Running::default(),
        });
        Self { database, target, state }
    }

    /// What the node's handlers reach.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Serves under `name` until the lifecycle stops, then flushes what waits. It serves at once
    /// and says that it is not ready while the database is prepared.
    ///
    /// # Errors
    /// What waiting cannot mend: a wrong URL, a server that is refused, a failed migration.
    pub async fn serve(self, listener: TcpListener, name: String) -> anyhow::Result<()> {
        let lifecycle = self.state.lifecycle.clone();
        let (router, _) = api::routes::router(self.state.clone());
        let prepared = lifecycle.spawn(self.clone().run(name));
        accept::serve(listener, router, lifecycle.clone(), AcceptSettings::default()).await;

        // No request is left: what waits is flushed, then every task ends.
        lifecycle.seal();
        if timeout(FINISH_TIMEOUT, lifecycle.finished()).await.is_err() {
            warn!("some tasks did not end in time");
        }
        self.state.log.leave().await;
        self.database.close().await;
        prepared.await.unwrap_or(Ok(()))
    }

    /// Prepares the database, however long it takes to answer, then does a node's duties. An
    /// error is one that waiting cannot mend: it stops the node.
    async fn run(self, name: String) -> anyhow::Result<()> {
        let lifecycle = self.state.lifecycle.clone();
        lifecycle.spawn(self.database.clone().steer(lifecycle.clone()));
        let mut told = false;
        loop {
            let error = match self.prepare(&name).await {
                Ok(()) => break,
                Err(Unprepared::ForGood(error)) => {
                    lifecycle.stop();
                    return Err(error);
                }
                Err(Unprepared::ForNow(error)) => error,
            };
            self.state.readiness.set_unready("the database cannot be reached");
            if !told {
                warn!("the database is not ready and is tried again: {error:#}");
            }
            told = true;
            tokio::select! {
                () = sleep(PREPARE_PAUSE) => {}
                () = lifecycle.draining() => return Ok(()),
            }
        }
        self.database.prepared();
        self.state.readiness.set_ready();
        info!("ready");
        lifecycle.spawn(telemetry::metrics::run(lifecycle.clone()));
        lifecycle.spawn(log::wakeup::run(self.state.log.clone()));
        lifecycle.spawn(self.state.log.clone().notify_nodes());
        lifecycle.spawn(self.state.log.clone().follow_incarnation());
        lifecycle.spawn(self.state.catalog.clone().follow_changes());
        lifecycle.spawn(self.state.groups.clone().run());
        lifecycle.spawn(self.state.streams.clone().run());
        maintenance::start(&self.state.log, &lifecycle);
        self.probe().await;
        Ok(())
    }

    async fn prepare(&self, name: &str) -> Result<(), Unprepared> {
        let mut session = self.target.connect("start").await.map_err(|error| {
            if error.is_permanent() {
                Unprepared::ForGood(error.into())
            } else {
                Unprepared::ForNow(error.into())
            }
        })?;
        let facts = server::check(&mut session).await.map_err(|error| match error {
            ServerRefused::Database(_) => Unprepared::ForNow(error.into()),
            ServerRefused::Version { .. } | ServerRefused::Unsafe { .. } => {
                Unprepared::ForGood(error.into())
            }
        })?;
        facts.warnings.iter().for_each(|warning| warn!("{warning}"));
        store::migrate::run(&mut session).await.map_err(|error| match error {
            MigrateError::Migration(_) => Unprepared::ForGood(error.into()),
            MigrateError::Store(_) => Unprepared::ForNow(error.into()),
        })?;
        // The session held the migration's lock: what follows has one of its own.
        drop(session);
        let connected = self.target.connect("start").await;
        let mut session = connected.map_err(|error| Unprepared::ForNow(error.into()))?;
        maintenance::prepare_buckets(&mut session)
            .await
            .map_err(|error| Unprepared::ForNow(error.into()))?;
        let registered = self.state.log.register(&mut session, name).await;
        registered.map_err(|error| Unprepared::ForNow(error.into()))
    }

    /// Watches whether the database answers, for load balancers.
    async fn probe(&self) {
        let lifecycle = &self.state.lifecycle;
        loop {
            tokio::select! {
                () = sleep(PROBE_INTERVAL) => {}
                () = lifecycle.draining() => return,
            }
            match timeout(PROBE_TIMEOUT, self.database.ping()).await {
                Ok(Ok(())) => self.state.readiness.set_ready(),
                Ok(Err(_)) => {
                    self.state.readiness.set_unready("the database cannot be reached");
                }
                Err(_) => self.state.readiness.set_unready("the database does not answer"),
            }
        }
    }
}

enum Unprepared {
    ForNow(anyhow::Error),
    ForGood(anyhow::Error),
}
