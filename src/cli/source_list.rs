//! `sources`: what each is to do, and how it is doing.

use super::outcome::{Failure, print, print_json};
use super::screen::{Screen, Tone};
use super::table::Table;
use super::{Format, admin, runtime};
use crate::admin::{Source, SourceList};
use clap::Args;
use jiff::Timestamp;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    daemon: admin::Target,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn execute(options: &Options, screen: Screen) -> Result<(), Failure> {
    let shown: SourceList = runtime()?.block_on(options.daemon.daemon()?.get("/api/sources"))?;
    match options.format {
        Format::Json => print_json(&shown),
        Format::Text => print(table(&shown, screen)),
    }
}

fn table(shown: &SourceList, screen: Screen) -> Table {
    let heading = [
        "SOURCE",
        "WEBHOOK",
        "LAST DELIVERY",
        "API",
        "BACKFILL",
        "VERIFIED THROUGH",
        "RECOVERED",
        "REGISTERED",
        "PROBLEM",
    ];
    let mut table = Table::new(screen, heading);
    for Source { name, webhook, api, backfill, register, .. } in &shown.sources {
        let time = |at: Option<Timestamp>| at.map(|at| format!("{at:.0}")).unwrap_or_default();
        let last_delivery = time(webhook.as_ref().and_then(|webhook| webhook.last_delivery_at));
        let poll = backfill.as_ref().and_then(|backfill| backfill.last_poll.as_ref());
        let looks = match (backfill, poll) {
            (Some(backfill), _) if !backfill.enabled => ("by hand", Tone::Plain),
            (_, Some(poll)) if poll.outcome == "ok" => ("ok", Tone::Good),
            (_, Some(poll)) => (poll.outcome.as_str(), Tone::Bad),
            _ => ("", Tone::Plain),
        };
        let verified = time(backfill.as_ref().and_then(|backfill| backfill.verified_through));
        let recovered = backfill.as_ref().map(|backfill| backfill.recovered.to_string()).unwrap_or_default();
        let registered = match register.as_ref().map(|register| register.in_line) {
            Some(Some(true)) => ("in line", Tone::Good),
            Some(Some(false)) => ("not in line", Tone::Bad),
            Some(None) => ("unknown", Tone::Middling),
            None => ("", Tone::Plain),
        };
        let of_backfill = poll.and_then(|poll| poll.problem.as_deref());
        let problem = register.as_ref().and_then(|register| register.problem.as_deref()).or(of_backfill);
        let path = webhook.as_ref().map_or("", |webhook| webhook.path.as_str());
        let url = api.as_ref().map_or("", |api| api.url.as_str());
        let problem = problem.unwrap_or_default();
        table
            .row([name, path, &last_delivery, url, looks.0, &verified, &recovered, registered.0, problem])
            .tone(4, looks.1)
            .tone(7, registered.1);
    }
    table
}
