//! `backfill`: a sweep by hand.

use super::outcome::{Exit, Failure, print, print_json};
use super::screen::Screen;
use super::{Format, admin, runtime};
use crate::admin::{Asked, Line, Since};
use crate::source::backfill::Tally;
use clap::Args;

/// Fetches what the deliveries missed, through the same door as everything else: what is known already is not taken
/// again. Ended early, it is ended at the daemon too; what was taken by then stays.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    daemon: admin::Target,
    /// Whose list of events; may be left out where only one source has an api.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only this sandbox's events, by its own list.
    #[arg(long, value_name = "ID")]
    sandbox: Option<String>,
    /// How far back, by the events' own times: 7d, or RFC 3339 with a zone. Without it from where the daemon's own
    /// look would begin; for one sandbox, as far as store.dedupe_window reaches.
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Takes events that are older than store.dedupe_window, too. Their ids may be forgotten, so that an event that was
    /// accepted before can be accepted, and sent to every sink, a second time. What this command brings is known again
    /// for as long as the journal has it (store.retention): asked twice, it brings nothing twice.
    #[arg(long)]
    allow_duplicates: bool,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn execute(options: &Options, screen: Screen) -> Result<(), Failure> {
    let daemon = options.daemon.daemon()?;
    let asked = Asked {
        source: options.source.clone(),
        sandbox_id: options.sandbox.clone(),
        since: options.since.clone(),
        allow_duplicates: options.allow_duplicates,
    };
    let mut end = None;
    let mut progress = screen.progress("backfill");
    let told = runtime()?.block_on(daemon.post_lines("/api/backfill", &asked, |line: Line<Tally>| {
        match line {
            Line::Progress(tally) => progress.show(None, words(&tally)),
            Line::Result(tally) => end = Some(Ok(tally)),
            Line::Error(error) => end = Some(Err(error)),
        }
        Ok(())
    }));
    drop(progress);
    told?;
    match end {
        Some(Ok(tally)) if options.format == Format::Json => print_json(&tally),
        Some(Ok(tally)) => print(format_args!("{}\n", words(&tally))),
        Some(Err(error)) => Err(Failure::new(Exit::Unavailable, error)),
        None => Err(Failure::new(Exit::Unavailable, "the daemon went away before the backfill had ended")),
    }
}

fn words(tally: &Tally) -> String {
    let Tally { found, new, known, too_old, refused, pages, calls } = tally;
    format!(
        "{found} events found: {new} new, {known} known already, {too_old} too old, {refused} refused otherwise; {pages} pages in {calls} calls"
    )
}
