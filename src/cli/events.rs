//! `events`: what came, or how much of it.

use super::outcome::{Failure, print, print_json};
use super::screen::{Screen, Tone};
use super::table::Table;
use super::{Format, admin, pages, runtime};
use crate::admin::{Since, Summary};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Most events at all: they are held in memory to be shown in order.
const MOST: usize = 100_000;

/// Shows events in the order in which they came, the newest last.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    daemon: admin::Target,
    /// Only events that the relay received since then: 7d, or RFC 3339 with a zone. Without it as far back as the
    /// journal goes, and the last 7d for --summary.
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Only this source's.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only events whose type matches a glob, such as "sandbox.lifecycle.*". Samples, which are many, are shown for a
    /// glob that matches sandbox.metrics, and not without one.
    #[arg(long = "type", value_name = "GLOB", conflicts_with = "summary")]
    kind: Option<String>,
    /// Only this sandbox's.
    #[arg(long, value_name = "ID", conflicts_with = "summary")]
    sandbox: Option<String>,
    /// At most so many, the newest; 1 to 100000.
    #[arg(long, value_name = "N", default_value = "100", value_parser = limit, conflicts_with = "summary")]
    limit: usize,
    /// Counts by type and by template instead, and says which span the figures cover.
    #[arg(long)]
    summary: bool,
    /// How the result is written; JSON is one list of records.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Value>,
    next_cursor: Option<String>,
}

pub(super) fn execute(options: &Options, screen: Screen) -> Result<(), Failure> {
    let daemon = options.daemon.daemon()?;
    let runtime = runtime()?;
    let since = options.since.as_ref().map(ToString::to_string);
    if options.summary {
        let summary: Summary =
            runtime.block_on(daemon.get(&pages::path("/api/events/summary", &options.parameters(since.as_deref()))))?;
        return match options.format {
            Format::Json => print_json(&summary),
            Format::Text => print(in_words(&summary, screen)),
        };
    }
    let asked = [options.parameters(since.as_deref()).as_slice(), &[("order", Some("desc"))]].concat();
    let take = |page: Page| (page.events, page.next_cursor);
    let mut events = runtime.block_on(pages::read(&daemon, "/api/events", &asked, options.limit, take))?;
    events.reverse();
    match options.format {
        Format::Json => print_json(&events),
        Format::Text => print(table(&events, screen)),
    }
}

impl Options {
    fn parameters<'s>(&'s self, since: Option<&'s str>) -> [(&'static str, Option<&'s str>); 4] {
        let Self { source, kind, sandbox, .. } = self;
        [("since", since), ("source", source.as_deref()), ("type", kind.as_deref()), ("sandbox_id", sandbox.as_deref())]
    }
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or_else(|| format!("not a number from 1 to {MOST}"))
}

/// The columns of a table of events …
pub(super) const HEADING: [&str; 7] = ["TIME", "TYPE", "SANDBOX", "TEMPLATE", "ORIGIN", "SOURCE", "ID"];
/// … and how wide each is as a rule.
pub(super) const WIDTHS: [usize; 7] = [27, 30, 21, 20, 9, 8, 36];

/// A record's row.
pub(super) fn cells(event: &Value) -> [&str; HEADING.len()] {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    ["/timestamp", "/type", "/sandbox_id", "/sandbox_template_id", "/relay/origin", "/relay/source", "/id"].map(text)
}

/// Which of its cells means what: the type, what it is for the sandbox.
pub(super) fn tone(event: &Value) -> (usize, Tone) {
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    let tone = match kind.rsplit('.').next().unwrap_or_default() {
        "created" | "resumed" => Tone::Good,
        "paused" | "checkpointed" => Tone::Middling,
        "killed" | "gap" | "kill_unconfirmed" => Tone::Bad,
        _ => Tone::Plain,
    };
    (1, tone)
}

fn table(events: &[Value], screen: Screen) -> Table {
    let mut table = Table::new(screen, HEADING);
    for event in events {
        let (column, tone) = tone(event);
        table.row(cells(event)).tone(column, tone);
    }
    table
}

fn in_words(summary: &Summary, screen: Screen) -> String {
    let Summary { asked_since, from, to, complete, earliest_event, latest_event, events, by_type, by_template } =
        summary;
    let mut text = format!("{events} events, received from {from:.0} to {to:.0}\n");
    if let (Some(earliest), Some(latest)) = (earliest_event, latest_event) {
        text.push_str(&format!("that happened from {earliest:.0} to {latest:.0}\n"));
    }
    if !complete {
        text.push_str(&format!(
            "not the whole of what was asked for, from {asked_since:.0} on: the journal goes back no further\n"
        ));
    }
    for (heading, counts) in [("TYPE", by_type), ("TEMPLATE", by_template)] {
        text.push_str(&format!("\n{}", counted(heading, counts, screen)));
    }
    text
}

/// The most frequent first.
fn counted(heading: &str, counts: &BTreeMap<String, u64>, screen: Screen) -> Table {
    let mut table = Table::new(screen, [heading, "EVENTS"]);
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (key, count) in counts {
        table.row([key, &count.to_string()]);
    }
    table
}
