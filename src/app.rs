//! Wires the rooms: store, sinks, deliveries, listeners; the only file that knows them all, with
//! [`pollers`] beside it.

mod pollers;

use crate::admin::{Token, TokenError};
use crate::client::ClientError;
use crate::deliver::{self, Delivery};
use crate::http::{self, BindError, Listener};
use crate::intake::{self, Intake};
use crate::metrics::{self, Metrics};
use crate::route::{Addressing, Router, RouterError, TemplateError};
use crate::settings::{Settings, SinkKind, SinkSettings};
use crate::shutdown::{self, Shutdown, Trigger};
use crate::sink::amqp::Amqp;
use crate::sink::file::File;
use crate::sink::kafka::Kafka;
use crate::sink::nats::Nats;
use crate::sink::stdout::Stdout;
use crate::sink::{InvalidSetting, Sink};
use crate::source::register::Conflict;
use crate::source::webhook::{self, Receiver};
use crate::store::{self, OpenError, RealDisk, SinkStart, Store};
use crate::{admin, route};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long open requests may take to end; each is bounded by `request_timeout` and `commit_timeout` too.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error("store: {0}")]
    Store(#[from] OpenError),
    /// The store opened, yet takes nothing.
    #[error("store: {0}")]
    Refused(#[from] store::Refused),
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
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// What is wrong with a sink's settings.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// One key.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// Topic, key, subject or routing key.
    #[error("template: {0}")]
    Template(#[from] TemplateError),
    /// Types or filter.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// The thread that writes.
    #[error("cannot start its writer: {0}")]
    Writer(#[from] std::io::Error),
}

/// Makes a sink; nothing is connected yet. `shares_stream`: another sink feeds the same NATS stream.
pub fn build_sink(name: &str, kind: &SinkKind, shares_stream: bool) -> Result<Arc<dyn Sink>, SinkError> {
    Ok(match kind {
        SinkKind::Kafka(settings) => Arc::new(Kafka::new(settings)?),
        SinkKind::Nats(settings) => Arc::new(Nats::new(settings.clone(), shares_stream.then(|| name.to_owned()))?),
        SinkKind::Amqp(settings) => Arc::new(Amqp::new(settings.clone())?),
        SinkKind::File(settings) => Arc::new(File::new(settings)?),
        SinkKind::Stdout(settings) => Arc::new(Stdout::new(settings)?),
    })
}

/// Compiles what a sink takes and where to.
pub fn build_router(sink: &SinkSettings) -> Result<Router, SinkError> {
    let addressing = match &sink.kind {
        SinkKind::Kafka(settings) => Addressing::kafka(&settings.topic, &settings.key)?,
        SinkKind::Nats(settings) => Addressing::nats(&settings.subject)?,
        SinkKind::Amqp(settings) => Addressing::amqp(&settings.routing_key)?,
        SinkKind::File(_) | SinkKind::Stdout(_) => Addressing::lines(),
    };
    Ok(route::Router::new(&sink.common.route, addressing)?)
}

/// Two JetStream sinks may feed one stream, which would take the second's copy of an id for a repetition. They do not
/// where both name their stream, which the server then holds them to, and the names differ.
pub fn shares_stream(name: &str, sinks: &BTreeMap<String, SinkSettings>) -> bool {
    let jetstream = |sink: &SinkSettings| match &sink.kind {
        SinkKind::Nats(nats) if nats.jetstream => Some(nats.stream.as_ref().map(|stream| stream.name.clone())),
        _ => None,
    };
    let Some(own) = sinks.get(name).and_then(jetstream) else { return false };
    let others = sinks.iter().filter(|(other, _)| *other != name).filter_map(|(_, sink)| jetstream(sink));
    others.into_iter().any(|other| own.is_none() || other.is_none() || own == other)
}

/// The daemon, ready to run.
pub struct Daemon {
    store: Arc<Store>,
    sinks: Vec<Arc<dyn Sink>>,
    deliveries: Vec<BoxFuture<'static, ()>>,
    /// What asks the providers' APIs; ends with the public listener.
    pollers: Vec<BoxFuture<'static, ()>>,
    /// The public one ends first; the operators' stays until it is stopped.
    listeners: Vec<BoxFuture<'static, ()>>,
    stop_listening: Trigger,
    stop_delivering: Trigger,
    public: SocketAddr,
    admin: SocketAddr,
    metrics: Metrics,
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
    /// Opens the store, tells it which sinks there are, and only then binds its addresses. Nothing moves before
    /// [`Self::run`], so that the addresses can be announced first; whoever connects by then waits.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        raise_open_files();
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), option_env!("E2B_RELAY_REVISION").unwrap_or("unknown"))?;
        let clock: store::Clock = Arc::new(jiff::Timestamp::now);
        let store = open_store(&settings, &metrics, &clock).await?;
        let mut built = Vec::new();
        for (name, sink) in &settings.sinks {
            let failed = |source| StartError::Sink { name: name.clone(), source };
            let router = build_router(sink).map_err(failed)?;
            let shares_stream = shares_stream(name, &settings.sinks);
            built.push((name, sink, router, build_sink(name, &sink.kind, shares_stream).map_err(failed)?));
        }
        let starts = settings.sinks.iter().map(|(name, sink)| SinkStart {
            name: name.clone(),
            renamed_from: sink.common.renamed_from.clone(),
            start: sink.common.start.into(),
        });
        store.attach(&starts.collect::<Vec<_>>()).await?;

        let (stop_listening, listening) = shutdown::channel();
        let (stop_delivering, delivering) = shutdown::channel();
        let intake = Arc::new(Intake::new(
            Arc::new(Arc::clone(&store)),
            intake::Limits {
                dedupe_window: settings.store.dedupe_window,
                commit_timeout: settings.server.commit_timeout,
                max_in_flight: settings.server.max_in_flight,
            },
            Arc::clone(&clock),
            metrics.clone(),
            listening.clone(),
        ));
        let token = match &settings.admin.token_file {
            Some(file) => Token::read(file),
            None => Token::own(&settings.store.path),
        }
        .map_err(StartError::Token)?;
        let public = Listener::bind(&settings.server).await?;
        let admin = Listener::bind_admin(settings.admin.listen).await?;
        let mut daemon = Self {
            sinks: built.iter().map(|(.., sink)| Arc::clone(sink)).collect(),
            deliveries: Vec::new(),
            pollers: Vec::new(),
            listeners: Vec::new(),
            stop_listening,
            stop_delivering,
            public: public.address(),
            admin: admin.address(),
            metrics: metrics.clone(),
            store: Arc::clone(&store),
        };
        for (name, sink_settings, router, sink) in built {
            let delivery = Delivery::new(deliver::Parts {
                name: name.clone(),
                store: Arc::clone(&store),
                sink,
                router,
                max_in_flight: sink_settings.common.max_in_flight,
                metrics: metrics.clone(),
                random: fastrand::Rng::new(),
                clock: Arc::clone(&clock),
            });
            daemon.deliveries.push(Box::pin(delivery.run(delivering.clone())));
        }
        let sandboxes = pollers::open_sandboxes(&settings, &store, &intake, &metrics).await?;
        let world = pollers::World {
            settings: &settings,
            store: &store,
            intake: &intake,
            metrics: &metrics,
            sandboxes: &sandboxes,
            shutdown: &listening,
        };
        let (pollers, backfills) = world.pollers().await?;
        daemon.pollers = pollers;
        let receiver = Arc::new(Receiver::new(
            settings.sources.iter().map(|(name, source)| (name.as_str(), source)),
            webhook_limits(&settings.server),
            Arc::clone(&intake),
            metrics.clone(),
        ));
        let public = public.serve(http::public(receiver, Arc::clone(&intake)), listening);
        daemon.listeners.push(Box::pin(public));
        let parts = admin::Parts { settings: &settings.admin, token, intake, metrics, sandboxes, store, backfills };
        let admin = admin.serve(admin::router(parts), delivering);
        daemon.listeners.push(Box::pin(admin));
        Ok(daemon)
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
        self.metrics.clone()
    }

    /// Reopens files that an operator may have moved away; for whoever hears of it while the daemon runs.
    pub fn reopener(&self) -> impl Fn() + Send + Sync + 'static {
        let sinks = self.sinks.clone();
        move || sinks.iter().for_each(|sink| sink.reopen())
    }

    /// Runs until told to end, then drains: open requests are answered, what is on disk is delivered as far as the
    /// sinks take it within [`deliver::DRAIN`], and the rest stays for the next start.
    pub async fn run(self, mut shutdown: Shutdown) -> End {
        let mut deliveries: JoinSet<()> = self.deliveries.into_iter().collect();
        let mut pollers: JoinSet<()> = self.pollers.into_iter().collect();
        let mut listeners: JoinSet<()> = self.listeners.into_iter().collect();
        let mut died = self.store.died();
        let end = tokio::select! {
            () = shutdown.requested() => End::Drained,
            _ = died.wait_for(|died| *died) => End::StoreDied,
        };
        tracing::info!("no more deliveries are taken; what is left is sent on");
        self.stop_listening.fire();
        // The admin listener stays: whoever watches the drain reads it there.
        if tokio::time::timeout(LAST_REQUESTS, listeners.join_next()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        while let Some(ended) = pollers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "what asks an API panicked");
            }
        }
        self.store.stop_accepting();
        self.stop_delivering.fire();
        while let Some(ended) = deliveries.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a delivery panicked");
            }
        }
        listeners.shutdown().await;
        let store = Arc::clone(&self.store);
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "the store could not be closed");
        }
        end
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

async fn open_store(settings: &Settings, metrics: &Metrics, clock: &store::Clock) -> Result<Arc<Store>, StartError> {
    let parts = store::Parts {
        disk: Arc::new(RealDisk),
        clock: Arc::clone(clock),
        metrics: metrics.clone(),
        max_in_flight: settings.server.max_in_flight,
    };
    let settings = settings.store.clone();
    Ok(Arc::new(tokio::task::spawn_blocking(move || Store::open(settings, parts)).await??))
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
