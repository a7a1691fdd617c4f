//! `events`: what came, or how much of it.

use super::admin::Daemon;
use super::outcome::{Failure, print, print_json};
use super::table::Table;
use super::{Format, admin, runtime};
use crate::admin::{Since, Summary};
use crate::client::encode;
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Most events of one page.
const PAGE: usize = 1000;
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

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    let daemon = options.daemon.daemon()?;
    let runtime = runtime()?;
    if options.summary {
        let summary: Summary = runtime.block_on(daemon.get(&options.path("/api/events/summary", &[])))?;
        return match options.format {
            Format::Json => print_json(&summary),
            Format::Text => print(in_words(&summary)),
        };
    }
    let events = runtime.block_on(options.read(&daemon))?;
    match options.format {
        Format::Json => print_json(&events),
        Format::Text => print(table(&events)),
    }
}

impl Options {
    /// Page by page from the newest one back.
    async fn read(&self, daemon: &Daemon) -> Result<Vec<Value>, Failure> {
        let (mut events, mut cursor) = (Vec::new(), String::new());
        loop {
            let wanted = (self.limit - events.len()).min(PAGE).to_string();
            let path = self.path("/api/events", &[("order", "desc"), ("limit", &wanted), ("cursor", &cursor)]);
            let page: Page = daemon.get(&path).await?;
            events.extend(page.events);
            match page.next_cursor {
                Some(next) if events.len() < self.limit => cursor = next,
                _ => break,
            }
        }
        events.reverse();
        Ok(events)
    }

    fn path(&self, path: &str, more: &[(&str, &str)]) -> String {
        let since = self.since.as_ref().map(ToString::to_string);
        let own = [("since", &since), ("source", &self.source), ("type", &self.kind), ("sandbox_id", &self.sandbox)];
        let own = own.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let parameters: Vec<String> =
            own.chain(more.iter().copied()).map(|(name, value)| format!("{name}={}", encode(value))).collect();
        format!("{path}?{}", parameters.join("&"))
    }
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or_else(|| format!("not a number from 1 to {MOST}"))
}

fn table(events: &[Value]) -> String {
    let mut table = Table::new(["TIME", "TYPE", "SANDBOX", "TEMPLATE", "ORIGIN", "SOURCE", "ID"]);
    for event in events {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        table.row(
            ["/timestamp", "/type", "/sandbox_id", "/sandbox_template_id", "/relay/origin", "/relay/source", "/id"]
                .map(text),
        );
    }
    table.to_string()
}

fn in_words(summary: &Summary) -> String {
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
        text.push_str(&format!("\n{}", counted(heading, counts)));
    }
    text
}

/// The most frequent first.
fn counted(heading: &str, counts: &BTreeMap<String, u64>) -> Table {
    let mut table = Table::new([heading, "EVENTS"]);
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (key, count) in counts {
        table.row([key, &count.to_string()]);
    }
    table
}
