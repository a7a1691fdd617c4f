//! `dead-letters`: records that a sink never took.

use super::outcome::{Exit, Failure, print, print_json};
use super::screen::{Screen, Tone};
use super::table::Table;
use super::{Format, admin, pages, runtime};
use crate::admin::{Chosen, Dropped, Letter, LetterPage, Line};
use crate::client::encode;
use crate::deliver::Retried;
use clap::{Args, Subcommand};
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Which there are, by sink, the oldest first.
    List(Listed),
    /// One of them, with its record.
    Show(Shown),
    /// Send some once more; what is confirmed is a dead letter no more.
    Retry(Changed),
    /// Give some up, for good.
    Drop(Changed),
}

#[derive(Debug, Args)]
pub(super) struct Listed {
    #[command(flatten)]
    daemon: admin::Target,
    /// Only this sink's.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only those of this reason, such as too_large.
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// At most so many, the oldest.
    #[arg(long, value_name = "N", default_value = "1000")]
    limit: usize,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Shown {
    #[command(flatten)]
    daemon: admin::Target,
    /// Whose.
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// The event's id, or its sequence.
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, Args)]
pub(super) struct Changed {
    #[command(flatten)]
    daemon: admin::Target,
    /// Whose.
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// The events' ids, or their sequences.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// Every one of the sink's.
    #[arg(long)]
    all: bool,
    /// Only those of this reason, such as too_large.
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

impl Changed {
    fn chosen(&self) -> Chosen {
        let Self { sink, ids, all, reason, .. } = self;
        Chosen { sink: sink.clone(), ids: ids.clone(), all: *all, reason: reason.clone() }
    }
}

pub(super) fn execute(command: &Command, screen: Screen) -> Result<(), Failure> {
    match command {
        Command::List(listed) => list(listed, screen),
        Command::Show(Shown { daemon, sink, id }) => {
            let path = format!("/api/dead-letters/{}/{}", encode(sink), encode(id));
            let letter: Value = runtime()?.block_on(daemon.daemon()?.get(&path))?;
            print_json(&letter)
        }
        Command::Retry(changed) => retry(changed, screen),
        Command::Drop(changed) => {
            let daemon = changed.daemon.daemon()?;
            let answer: Dropped = runtime()?.block_on(daemon.post("/api/dead-letters/drop", &changed.chosen()))?;
            match changed.format {
                Format::Json => print_json(&answer),
                Format::Text => print(format_args!("{} dead letters dropped\n", answer.dropped)),
            }
        }
    }
}

fn list(listed: &Listed, screen: Screen) -> Result<(), Failure> {
    let daemon = listed.daemon.daemon()?;
    let wanted = [("sink", listed.sink.as_deref()), ("reason", listed.reason.as_deref())];
    let take = |page: LetterPage| (page.dead_letters, page.next_cursor);
    let letters = runtime()?.block_on(pages::read(&daemon, "/api/dead-letters", &wanted, listed.limit, take))?;
    if listed.format == Format::Json {
        return print_json(&letters);
    }
    let mut table = Table::new(screen, ["SINK", "SEQUENCE", "SINCE", "REASON", "TYPE", "SANDBOX", "ID", "MESSAGE"]);
    for letter in &letters {
        let (sequence, at) = (letter.sequence.to_string(), format!("{:.0}", letter.at));
        let Letter { sink, reason, kind, sandbox_id, id, message, .. } = letter;
        table.row([sink, &sequence, &at, reason, kind, sandbox_id, id, message]).tone(3, Tone::Bad);
    }
    if table.is_empty() { print("no dead letters\n") } else { print(table) }
}

fn retry(changed: &Changed, screen: Screen) -> Result<(), Failure> {
    let daemon = changed.daemon.daemon()?;
    let mut end = None;
    let chosen = changed.chosen();
    let whole = (!changed.all).then_some(changed.ids.len() as u64);
    let mut progress = screen.progress("retry");
    let lines = daemon.post_lines("/api/dead-letters/retry", &chosen, |line: Line<Retried>| {
        match line {
            Line::Progress(so_far) => {
                let done = so_far.sent + so_far.skipped + so_far.rejected;
                progress.show(whole.map(|whole| (done, whole)), words(&so_far));
            }
            Line::Result(retried) => end = Some(Ok(retried)),
            Line::Error(error) => end = Some(Err(error)),
        }
        Ok(())
    });
    let told = runtime()?.block_on(lines);
    drop(progress);
    told?;
    let retried = match end {
        Some(Ok(retried)) => retried,
        Some(Err(error)) => return Err(Failure::new(Exit::Unavailable, error)),
        None => return Err(Failure::new(Exit::Unavailable, "the daemon went away before it had ended")),
    };
    match changed.format {
        Format::Json => print_json(&retried)?,
        Format::Text => print(format_args!("{}\n", words(&retried)))?,
    }
    let rejected = retried.rejected;
    if rejected == 0 {
        Ok(())
    } else {
        Err(Failure::new(Exit::Unavailable, format!("{rejected} wait still; see dead-letters list")))
    }
}

fn words(Retried { found, sent, skipped, rejected }: &Retried) -> String {
    format!("{found} dead letters: {sent} sent, {skipped} not wanted by the sink any more, {rejected} refused again")
}
