//! The deliveries, one per sink, and how they come and go.

use super::StartError;
use super::build::{about, build_router, build_sink, certificate_file, shares_stream};
use super::tasks::Tasks;
use crate::certificate;
use crate::decode::Redaction;
use crate::deliver::{self, Delivery};
use crate::executor::Executor;
use crate::metrics::Metrics;
use crate::route::Router;
use crate::settings::{Loaded, Said, SinkKind};
use crate::shutdown::Shutdown;
use crate::sink::Sink;
use crate::store::{self, EventLog, SinkRegistry, SinkStart};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long deliveries that others follow may take to end; what they wait for themselves is within it.
const END: Duration = deliver::HAND_ON.saturating_add(Duration::from_secs(5));
/// What counts only where a sink's name is new.
const ONCE: [&str; 2] = ["start", "renamed_from"];

/// All of a daemon's.
pub(super) struct Sinks {
    pub(super) log: EventLog,
    pub(super) registry: SinkRegistry,
    pub(super) metrics: Metrics,
    pub(super) clock: store::Clock,
    /// The daemon ends, and what is left is to be sent.
    pub(super) delivering: Shutdown,
    pub(super) tasks: Tasks<String>,
    pub(super) open: BTreeMap<String, Arc<dyn Sink>>,
    /// The same, for operators.
    pub(super) shown: deliver::Sinks,
}

/// What the sinks are to be, tried as far as that is possible without a peer.
pub(super) struct Plan {
    /// Those that are not there yet, or not so.
    fresh: BTreeMap<String, Fresh>,
    starts: Vec<SinkStart>,
}

struct Fresh {
    said: Vec<Said>,
    about: deliver::About,
    sink: Arc<dyn Sink>,
    router: Arc<Router>,
    redaction: Redaction,
    dead_letter_to: Option<String>,
    max_in_flight: usize,
    /// When the certificate ends that the sink shows its peer, as Unix time in seconds.
    certificate_end: Option<i64>,
}

/// What became of the sinks, by name.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) begun: Vec<String>,
    pub(super) gone: Vec<String>,
}

impl Sinks {
    /// Nothing is connected, and nothing changes.
    pub(super) fn plan(&self, loaded: &Loaded) -> Result<Plan, StartError> {
        let sinks = &loaded.settings.sinks;
        let starts = sinks.iter().map(|(name, sink)| SinkStart {
            name: name.clone(),
            renamed_from: sink.common.renamed_from.clone(),
            start: sink.common.start.into(),
        });
        let starts: Vec<SinkStart> = starts.collect();
        // Whoever delivers for one of these holds the position that goes to another name.
        let moved = self.registry.moved(&starts);
        let mut fresh = BTreeMap::new();
        for (name, settings) in sinks {
            let failed = |source| StartError::Sink { name: name.clone(), source };
            if let SinkKind::File(file) = &settings.kind {
                // Looked at anew, since of two settings for the store the one in force counts.
                file.check_place(&loaded.settings.store.path).map_err(|invalid| failed(invalid.into()))?;
            }
            let shares_stream = shares_stream(name, sinks);
            let mut said = vec![loaded.said.at(&["sinks", name]).without(&ONCE)];
            // It is told apart from others in its stream by its name.
            said.extend(shares_stream.then(|| Said::of_name(name)));
            if self.tasks.has(name, &said) && !moved.contains(name) {
                continue;
            }
            let router = Arc::new(build_router(settings).map_err(failed)?);
            let sink = build_sink(name, settings, shares_stream).map_err(failed)?;
            let about = about(&settings.kind);
            let common = &settings.common;
            let (redaction, max_in_flight) = (common.redact.clone(), common.max_in_flight);
            let dead_letter_to = common.dead_letter_to.clone();
            let certificate_end = certificate_file(&settings.kind).and_then(certificate::expiry_of_file);
            let one = Fresh { said, about, sink, router, redaction, dead_letter_to, max_in_flight, certificate_end };
            fresh.insert(name.clone(), one);
        }
        Ok(Plan { fresh, starts })
    }

    /// Ends what is gone or changed, tells the store which sinks there are, and makes what is new, each from where the
    /// store says that it is. Sinks that are as they were are not touched.
    ///
    /// # Errors
    /// If the store cannot note it; then some have ended, and [`Self::resume`] has them back.
    pub(super) async fn follow(&mut self, plan: Plan) -> Result<Changes, StartError> {
        let wanted: BTreeSet<&str> = plan.starts.iter().map(|start| start.name.as_str()).collect();
        let gone: Vec<String> = self.open.keys().filter(|name| !wanted.contains(name.as_str())).cloned().collect();
        self.tasks.end(|name| !wanted.contains(name.as_str()) || plan.fresh.contains_key(name), END).await;
        let (registry, starts, runtime) =
            (self.registry.clone(), plan.starts.clone(), tokio::runtime::Handle::current());
        // It reads the journal, too.
        Executor::default().call(move || runtime.block_on(registry.attach(&starts))).await??;
        for name in &gone {
            self.open.remove(name);
            self.shown.remove(name);
            self.metrics.sink_gone(name);
            self.metrics.certificate(&section(name), None);
        }
        let begun = plan.fresh.keys().cloned().collect();
        self.make(plan);
        Ok(Changes { begun, gone })
    }

    /// After a [`Self::follow`] that failed: what has ended is made again as `loaded` has it, which ran before.
    pub(super) fn resume(&mut self, loaded: &Loaded) {
        match self.plan(loaded) {
            Ok(plan) => self.make(plan),
            Err(error) => tracing::error!(%error, "sinks that were ended for the new settings cannot be made again"),
        }
        self.tasks.begin();
    }

    fn make(&mut self, plan: Plan) {
        let Plan { fresh, starts } = plan;
        for (name, fresh) in fresh {
            let start = starts.iter().find(|start| start.name == name);
            let Fresh { said, about, sink, router, redaction, dead_letter_to, max_in_flight, certificate_end } = fresh;
            self.metrics.certificate(&section(&name), certificate_end);
            let delivery = Delivery::new(deliver::Parts {
                name: name.clone(),
                about,
                renamed_from: start.and_then(|start| start.renamed_from.clone()),
                log: self.log.clone(),
                claim: self.registry.claim(&name),
                sink: Arc::clone(&sink),
                router,
                redaction,
                dead_letter_to,
                max_in_flight,
                metrics: self.metrics.clone(),
                random: fastrand::Rng::new(),
                executor: Executor::default(),
                clock: Arc::clone(&self.clock),
            });
            self.open.insert(name.clone(), sink);
            self.shown.insert(&name, delivery.handle());
            let delivering = self.delivering.clone();
            self.tasks.add(name, said, |replaced| delivery.run(delivering, replaced));
        }
    }

    /// Reopens files that an operator may have moved away.
    pub(super) fn reopen(&self) {
        self.open.values().for_each(|sink| sink.reopen());
    }
}

/// A sink's in the settings.
fn section(name: &str) -> String {
    format!("sinks.{name}")
}
