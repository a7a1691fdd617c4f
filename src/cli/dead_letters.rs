//! `dead-letters`: records that a sink never took.

use super::outcome::{Exit, Failure, print, print_json};
use super::table::Table;
use super::{Format, admin, runtime};
use crate::admin::{Chosen, Letter, Line};
use crate::client::encode;
use crate::deliver::Retried;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most letters of one page.
const PAGE: usize = 1000;

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

#[derive(Deserialize)]
struct Page {
    dead_letters: Vec<Letter>,
    next_cursor: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Dropped {
    dropped: u64,
}

pub(super) fn execute(command: &Command) -> Result<(), Failure> {
    match command {
        Command::List(listed) => list(listed),
        Command::Show(Shown { daemon, sink, id }) => {
            let path = format!("/api/dead-letters/{}/{}", encode(sink), encode(id));
            let letter: Value = runtime()?.block_on(daemon.daemon()?.get(&path))?;
            print_json(&letter)
        }
        Command::Retry(changed) => retry(changed),
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

fn list(listed: &Listed) -> Result<(), Failure> {
    let daemon = listed.daemon.daemon()?;
    let runtime = runtime()?;
    let (mut letters, mut cursor) = (Vec::new(), Some(String::new()));
    while let Some(from) = cursor.filter(|_| letters.len() < listed.limit) {
        let wanted = (listed.limit - letters.len()).min(PAGE);
        let mut path = format!("/api/dead-letters?limit={wanted}&cursor={}", encode(&from));
        for (name, value) in [("sink", &listed.sink), ("reason", &listed.reason)] {
            if let Some(value) = value {
                path += &format!("&{name}={}", encode(value));
            }
        }
        let page: Page = runtime.block_on(daemon.get(&path))?;
        letters.extend(page.dead_letters);
        cursor = page.next_cursor;
    }
    if listed.format == Format::Json {
        return print_json(&letters);
    }
    let mut table = Table::new(["SINK", "SEQUENCE", "SINCE", "REASON", "TYPE", "SANDBOX", "ID", "MESSAGE"]);
    for letter in &letters {
        let (sequence, at) = (letter.sequence.to_string(), format!("{:.0}", letter.at));
        let Letter { sink, reason, kind, sandbox_id, id, message, .. } = letter;
        table.row([sink, &sequence, &at, reason, kind, sandbox_id, id, message]);
    }
    if table.is_empty() { print("no dead letters\n") } else { print(table) }
}

fn retry(changed: &Changed) -> Result<(), Failure> {
    let daemon = changed.daemon.daemon()?;
    let mut end = None;
    let chosen = changed.chosen();
    let lines = daemon.post_lines("/api/dead-letters/retry", &chosen, |line: Line<Retried>| {
        match line {
            Line::Progress(_) => {}
            Line::Result(retried) => end = Some(Ok(retried)),
            Line::Error(error) => end = Some(Err(error)),
        }
        Ok(())
    });
    runtime()?.block_on(lines)?;
    let retried = match end {
        Some(Ok(retried)) => retried,
        Some(Err(error)) => return Err(Failure::new(Exit::Unavailable, error)),
        None => return Err(Failure::new(Exit::Unavailable, "the daemon went away before it had ended")),
    };
    let Retried { found, sent, skipped, rejected } = retried;
    match changed.format {
        Format::Json => print_json(&retried)?,
        Format::Text => print(format_args!(
            "{found} dead letters: {sent} sent, {skipped} not wanted by the sink any more, {rejected} refused again\n"
        ))?,
    }
    if rejected == 0 {
        Ok(())
    } else {
        Err(Failure::new(Exit::Unavailable, format!("{rejected} wait still; see dead-letters list")))
    }
}
