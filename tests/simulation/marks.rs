//! How often a run came by the marks in the core, and did what it does to it.

use e2b_relay::sometimes::TARGET;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Event, Level, Metadata, Subscriber};

/// How often what happened. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Sometimes(Arc<Mutex<BTreeMap<String, u64>>>);

impl Sometimes {
    /// Hears of the marks that this thread comes by, until the guard is dropped.
    pub(super) fn listen(&self) -> DefaultGuard {
        tracing::subscriber::set_default(Marks(self.clone()))
    }

    pub(super) fn happened(&self, what: &str) {
        let known = super::SOMETIMES.contains(&what) || super::SELDOM.contains(&what);
        assert!(known, "{what:?} is on neither list");
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn count(&self, what: &str) -> u64 {
        self.0.lock().unwrap().get(what).copied().unwrap_or(0)
    }
}

/// Set, what the core warns of is printed.
const LOG: &str = "E2B_RELAY_SIMULATION_LOG";

struct Marks(Sometimes);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Visit for &Marks {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "what" {
            self.0.happened(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Marks {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET || (*metadata.level() <= Level::WARN && std::env::var_os(LOG).is_some())
    }

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() != TARGET {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            return println!("{}", line.0);
        }
        let mut marks = self;
        event.record(&mut marks);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
