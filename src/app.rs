//! Wires the rooms: store, sinks, deliveries, listeners; the only file that knows them all, with those below it.

mod build;
mod fixed;
mod pollers;
mod reload;
mod sinks;
mod tasks;
mod watchdog;

pub use build::{SinkError, build_router, build_sink, shares_stream};
pub use reload::{Configuration, Reloader};
pub use watchdog::Watchdog;

use crate::admin::{self, Access, TokenError};
use crate::client::ClientError;
use crate::executor::{Executor, Lost};
use crate::health::{self, Health};
use crate::http::{self, BindError, Inherited, Listener};
use crate::intake::{self, Intake, StoreLog};
use crate::metrics::{self, Metrics};
use crate::settings::{Loaded, Settings};
use crate::shutdown::{self, Shutdown, Trigger};
use crate::source::register::Conflict;
use crate::source::webhook::{self, Receiver};
use crate::store::{self, Engine, Handles, OpenError, RealDisk};
use crate::systemd::Notifier;
use futures_util::future::BoxFuture;
use pollers::Pollers;
use reload::Changeable;
use sinks::Sinks;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tasks::Tasks;
use tokio::task::{JoinHandle, JoinSet};

/// How long open requests may take to end; each is bounded by `request_timeout` and `commit_timeout` too.
pub const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// How long operators' requests may take to end after that.
pub const LAST_LINES: Duration = Duration::from_secs(1);

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error("store: {0}")]
    Store(#[from] OpenError),
    /// The store opened, yet takes nothing.
    #[error("store: {0}")]
    Refused(#[from] store::Refused),
    /// A sink's new name contradicts what the store knows.
    #[error("{0}")]
    Rename(String),
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operators' token.
    #[error("admin.token_file: {0}")]
    Token(TokenError),
    /// A sink's settings.
    #[error("sinks.{name}.{source}")]
    Sink {
        /// The sink.
        name: String,
        /// What is wrong with it.
        source: SinkError,
    },
    /// A source's API.
    #[error("sources.{name}.api: {source}")]
    Api {
        /// The source.
        name: String,
        /// What is wrong with it.
        source: ClientError,
    },
    /// The provider has a webhook of the name that may be another relay's.
    #[error("sources.{name}.register: {conflict}")]
    Register {
        /// The source.
        name: String,
        /// Which one.
        conflict: Conflict,
    },
    /// A metric's name or labels.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// What works on a file panicked.
    #[error("cannot start: {0}")]
    Lost(#[from] Lost),
}

impl From<store::AttachError> for StartError {
    fn from(error: store::AttachError) -> Self {
        match error {
            store::AttachError::Refused(refused) => Self::Refused(refused),
            store::AttachError::Rename(contradiction) => Self::Rename(contradiction),
        }
    }
}

/// The daemon, ready to run.
pub struct Daemon {
    engine: Engine,
    parts: Changeable,
    /// Where the settings are read again, if anywhere.
    configuration: Option<Configuration>,
    reloader: Reloader,
    notifier: Notifier,
    watchdog: Option<Duration>,
    /// The public one ends first; the operators' stays until it is stopped.
    listeners: Vec<BoxFuture<'static, ()>>,
    stop_listening: Trigger,
    stop_delivering: Trigger,
    public: SocketAddr,
    admin: SocketAddr,
}

/// How the daemon came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to, and is drained.
    Drained,
    /// The store's writer ended by itself: nothing can be accepted any more.
    StoreDied,
}

impl Daemon {
    /// Opens the store, tells it which sinks there are, and only then binds its addresses, unless it is given `inherited`
    /// ones. Nothing moves before [`Self::run`], so that the addresses can be announced first; whoever connects by then
    /// waits.
    pub async fn start(loaded: Loaded, inherited: Inherited) -> Result<Self, StartError> {
        raise_open_files();
        let settings = &loaded.settings;
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), option_env!("E2B_RELAY_REVISION").unwrap_or("unknown"))?;
        let clock: store::Clock = Arc::new(jiff::Timestamp::now);
        let Handles { log, registry, letters, state, quarantine, engine } =
            open_store(settings, &metrics, &clock).await?;
        let health = engine.health();
        let (stop_listening, listening) = shutdown::channel();
        let (stop_delivering, delivering) = shutdown::channel();
        let mut sinks = Sinks {
            log: log.clone(),
            registry: registry.clone(),
            metrics: metrics.clone(),
            clock: Arc::clone(&clock),
            delivering: delivering.clone(),
            tasks: Tasks::new(health.clone(), |name| format!("sink {name}")),
            open: BTreeMap::new(),
            shown: crate::deliver::Sinks::default(),
        };
        sinks.follow(sinks.plan(&loaded)?).await?;
        let intake = Arc::new(Intake::new(
            Arc::new(StoreLog { log: log.clone(), quarantine: quarantine.clone() }),
            intake::Limits {
                dedupe_window: settings.store.dedupe_window,
                commit_timeout: settings.server.commit_timeout,
                max_in_flight: settings.server.max_in_flight,
            },
            clock,
            metrics.clone(),
            listening.clone(),
        ));
        let access = Access::new(&settings.admin, reload::token(settings)?);
        let public = Listener::bind(&settings.server, inherited.public, &metrics).await?;
        let admin = Listener::bind_admin(settings.admin.listen, inherited.admin).await?;
        let (public_address, admin_address) = (public.address(), admin.address());
        let folder = settings.store.path.clone();
        let mut pollers =
            Pollers::new(log.clone(), Arc::new(state), Arc::clone(&intake), metrics.clone(), health.clone(), folder);
        pollers.follow(pollers.plan(&loaded).await?, &loaded).await?;
        let receiver = Arc::new(Receiver::new(
            settings.sources.iter().map(|(name, source)| (name.as_str(), source)),
            webhook_limits(&settings.server),
            Arc::clone(&intake),
            metrics.clone(),
        ));
        let public = public.serve(http::public(Arc::clone(&receiver), Arc::clone(&intake)), listening);
        let shown = admin::Parts {
            listen: admin_address,
            access: access.clone(),
            intake: Arc::clone(&intake),
            metrics: metrics.clone(),
            sandboxes: pollers.sandboxes(),
            health: health.clone(),
            log,
            registry,
            letters,
            quarantine,
            backfills: pollers.backfills(),
            sinks: sinks.shown.clone(),
            sources: pollers.shown(),
            ending: delivering.clone(),
        };
        let admin = admin.serve(admin::router(shown), delivering);
        metrics.config_loaded(intake.now().as_duration().as_secs_f64(), 0);
        Ok(Self {
            engine,
            listeners: vec![
                Box::pin(health.join("the public listener", health::PATIENCE).keep(public)),
                Box::pin(health.join("the admin listener", health::PATIENCE).keep(admin)),
            ],
            parts: Changeable { loaded, sinks, pollers, receiver, access, intake, metrics },
            configuration: None,
            reloader: Reloader::default(),
            notifier: Notifier::default(),
            watchdog: None,
            stop_listening,
            stop_delivering,
            public: public_address,
            admin: admin_address,
        })
    }

    /// Has it read its settings again there when it is asked to; without this it only reopens files.
    #[must_use]
    pub fn rereading(mut self, configuration: Configuration) -> Self {
        self.configuration = Some(configuration);
        self
    }

    /// Has it tell the service manager what it does, and that it is alive `every` so often, if that is asked for.
    #[must_use]
    pub fn notifying(mut self, notifier: Notifier, every: Option<Duration>) -> Self {
        (self.notifier, self.watchdog) = (notifier, every);
        self
    }

    /// Where deliveries are taken.
    pub fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// Where metrics and health are served.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// What it counts.
    pub fn metrics(&self) -> Metrics {
        self.parts.metrics.clone()
    }

    /// By which a running daemon is asked to reopen files and read its settings again.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Runs until told to end, then drains: open requests are answered, what is on disk is delivered as far as the
    /// sinks take it within [`crate::deliver::DRAIN`], and the rest stays for the next start.
    pub async fn run(self, shutdown: Shutdown) -> End {
        let watchdog = Watchdog::new(self.engine.health(), self.notifier.clone());
        let _looking = AbortOnDrop(tokio::spawn(watchdog.run(self.watchdog.unwrap_or(watchdog::EVERY))));
        self.run_watched(shutdown).await
    }

    async fn run_watched(self, mut shutdown: Shutdown) -> End {
        let Self { engine, mut parts, configuration, reloader, notifier, listeners, public, .. } = self;
        let (stop_listening, stop_delivering) = (self.stop_listening, self.stop_delivering);
        let mut listeners: JoinSet<()> = listeners.into_iter().collect();
        parts.sinks.tasks.begin();
        parts.pollers.begin();
        notifier.ready(&format!("deliveries are taken on {public}"));
        let mut died = engine.died();
        let end = tokio::select! {
            () = shutdown.requested() => End::Drained,
            _ = died.wait_for(|died| *died) => End::StoreDied,
            () = parts.reload_when_asked(&reloader, configuration.as_ref(), &notifier) => End::Drained,
        };
        tracing::info!("no more deliveries are taken; what is left is sent on");
        notifier.stopping("no more deliveries are taken; what is left is sent on");
        stop_listening.fire();
        parts.pollers.stop();
        // The admin listener stays: whoever watches the drain reads it there.
        if tokio::time::timeout(LAST_REQUESTS, listeners.join_next()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        parts.pollers.ended().await;
        engine.stop_accepting();
        stop_delivering.fire();
        parts.sinks.tasks.ended().await;
        // Whoever is told something is told its end.
        let _ = tokio::time::timeout(LAST_LINES, listeners.join_next()).await;
        listeners.shutdown().await;
        if let Err(error) = tokio::task::spawn_blocking(move || engine.close()).await {
            tracing::error!(%error, "the store could not be closed");
        }
        end
    }
}

/// A task that ends with whoever holds this.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Each connection takes a file descriptor, and the usual soft limit of 1,024 is below `server.max_connections`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

async fn open_store(settings: &Settings, metrics: &Metrics, clock: &store::Clock) -> Result<Handles, StartError> {
    let parts = store::Parts {
        disk: Arc::new(RealDisk),
        kv: Arc::new(store::OnSled),
        executor: Executor::default(),
        tail: store::TAIL,
        clock: Arc::clone(clock),
        boot_clock: Arc::new(store::since_boot),
        metrics: metrics.clone(),
        health: Health::default(),
        max_in_flight: settings.server.max_in_flight,
    };
    let settings = settings.store.clone();
    Ok(Executor::default().call(move || store::open(settings, parts)).await??)
}

fn webhook_limits(server: &http::Settings) -> webhook::Limits {
    // Larger than this machine's address space is as good as no limit.
    let bytes = |size: bytesize::ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
    webhook::Limits {
        max_body: bytes(server.max_body),
        max_buffered: bytes(server.max_buffered),
        request_timeout: server.request_timeout,
    }
}
