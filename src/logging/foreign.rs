//! What libraries say. They do not know who makes them say it: a stranger's connection may cost a line, or each of his
//! packets. So each place in their code is written once in a while, with the number of those left out, as our own lines of
//! that kind are.

use super::{Occasional, Style};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Whose lines are ours.
pub(super) const OURS: &str = "e2b_relay";

/// How many places are told apart; all others share one pace. There are fewer in what is built in.
const MAX_PLACES: usize = 512;

/// Writes by `format`, and what is foreign only now and then.
pub(super) struct Paced<F> {
    format: F,
    style: Style,
    paces: Mutex<HashMap<Place, Occasional>>,
}

/// Where in the code a line comes from. The message is no part of it: strangers may choose that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Place {
    target: String,
    level: Option<Level>,
    line: Option<u64>,
}

impl Place {
    /// Of what comes by the crate `log` all has one callsite; fields say which it really was.
    fn of(event: &Event<'_>) -> Self {
        let metadata: &Metadata<'_> = event.metadata();
        let mut place = Self {
            target: metadata.target().to_owned(),
            level: Some(*metadata.level()),
            line: metadata.line().map(u64::from),
        };
        event.record(&mut place);
        place
    }
}

impl Visit for Place {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            value.clone_into(&mut self.target);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "log.line" {
            self.line = Some(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl<F> Paced<F> {
    pub(super) fn new(format: F, style: Style) -> Self {
        Self { format, style, paces: Mutex::default() }
    }

    /// `Some` when the line may be written, with how many from its place were not since the last one.
    fn pass(&self, place: Place) -> Option<u64> {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let is_one_more = paces.len() >= MAX_PLACES && !paces.contains_key(&place);
        let place = if is_one_more { Place::default() } else { place };
        paces.entry(place).or_default().pass(Instant::now())
    }
}

impl<S, N, F> FormatEvent<S, N> for Paced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if is_ours(event.metadata().target()) {
            return self.format.format_event(context, to, event);
        }
        let Some(suppressed) = self.pass(Place::of(event)) else { return Ok(()) };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        match self.style {
            Style::Text => writeln!(to, "{line} suppressed={suppressed}"),
            Style::Json => {
                let line = line.strip_suffix('}').unwrap_or(line);
                writeln!(to, "{line},\"suppressed\":{suppressed}}}")
            }
        }
    }
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
