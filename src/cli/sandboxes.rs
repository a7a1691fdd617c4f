//! `sandboxes`: those that live.

use super::outcome::{Failure, print, print_json};
use super::screen::{Screen, Tone};
use super::table::Table;
use super::{Format, admin, pages, runtime};
use crate::sandboxes::{Data, State, View, ViewedSandbox};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    daemon: admin::Target,
    /// Only this source's.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only those in this state.
    #[arg(long, value_name = "STATE")]
    state: Option<Wanted>,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wanted {
    Running,
    Paused,
    /// The provider does not list it any more, and no event told its end.
    Missing,
}

pub(super) fn execute(options: &Options, screen: Screen) -> Result<(), Failure> {
    let daemon = options.daemon.daemon()?;
    let path = pages::path("/api/sandboxes", &[("source", options.source.as_deref())]);
    let mut view: View = runtime()?.block_on(daemon.get(&path))?;
    let wanted = options.state.map(|state| match state {
        Wanted::Running => State::Running,
        Wanted::Paused => State::Paused,
        Wanted::Missing => State::Missing,
    });
    view.sandboxes.retain(|one| wanted.is_none_or(|state| state == one.state));
    match options.format {
        Format::Json => print_json(&view),
        Format::Text => print(text(&view, Timestamp::now(), screen)),
    }
}

fn text(view: &View, now: Timestamp, screen: Screen) -> String {
    let mut table = Table::new(screen, ["ID", "STATE", "TEMPLATE", "AGE", "ENDS IN", "SOURCE", "METADATA"]);
    for one in &view.sandboxes {
        let ViewedSandbox { id, state, template_id, created_at, started_at, ends_at, metadata, source, .. } = one;
        let (state, tone) = match state {
            State::Running => ("running", Tone::Good),
            State::Paused => ("paused", Tone::Middling),
            State::Missing => ("missing", Tone::Bad),
        };
        let age = created_at.or(*started_at).map(|since| span(since, now));
        let ends_in = ends_at.map(|end| span(now, end));
        let metadata = metadata.as_ref().map(Data::text);
        let [template, age, ends_in, metadata] =
            [template_id, &age, &ends_in, &metadata].map(|cell| cell.as_deref().unwrap_or_default());
        table.row([id, state, template, age, ends_in, source, metadata]).tone(1, tone);
    }
    let summary = format!("{} running, {} paused\n", view.active_count, view.paused_count);
    if table.is_empty() { summary } else { format!("{table}{summary}") }
}

/// The two largest units of a time: `2d 3h`, `5m 12s`; what is over is `0s`.
fn span(from: Timestamp, to: Timestamp) -> String {
    let length = Duration::try_from(to.duration_since(from)).unwrap_or_default();
    let whole = humantime::format_duration(Duration::from_secs(length.as_secs())).to_string();
    let words: Vec<&str> = whole.split(' ').take(2).collect();
    words.join(" ").replace("days", "d").replace("day", "d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let now: Timestamp = "2026-08-21T10:00:00Z".parse().expect("a time");
        let ago = |seconds: i64| now - jiff::SignedDuration::from_secs(seconds);
        for (seconds, expected) in [
            (0, "0s"),
            (-5, "0s"),
            (59, "59s"),
            (312, "5m 12s"),
            (3600, "1h"),
            (90_061, "1d 1h"),
            (400 * 86_400, "1year 1month"),
        ] {
            assert_eq!(span(ago(seconds), now), expected);
        }
    }
}
