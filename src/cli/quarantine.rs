//! `quarantine`: bodies that were well signed and yet no events.

use super::admin;
use super::outcome::{Exit, Failure, print, print_bytes, print_json};
use super::screen::Screen;
use super::table::Table;
use super::{Format, pages, runtime};
use crate::admin::{Dropped, Dropping, QuarantinePage, Quarantined, Whole};
use crate::client::encode;
use crate::logging::visible;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Which there are, the oldest first.
    List(Listed),
    /// One of them: why it was refused, and its body.
    Show(Shown),
    /// Give some up, for good.
    Drop(Changed),
}

#[derive(Debug, Args)]
pub(super) struct Listed {
    #[command(flatten)]
    daemon: admin::Target,
    /// Only this source's.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Shown {
    #[command(flatten)]
    daemon: admin::Target,
    /// As `list` shows it.
    #[arg(value_name = "ID")]
    id: String,
    /// The body alone, byte for byte. It is a stranger's: look at it with care.
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    /// How the result is written; JSON has the body in base64.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Changed {
    #[command(flatten)]
    daemon: admin::Target,
    /// As `list` shows them.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// Every one.
    #[arg(long)]
    all: bool,
    /// With --all: every one of this source.
    #[arg(long, value_name = "NAME", requires = "all")]
    source: Option<String>,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn execute(command: &Command, screen: Screen) -> Result<(), Failure> {
    match command {
        Command::List(listed) => list(listed, screen),
        Command::Show(shown) => show(shown),
        Command::Drop(changed) => {
            let Changed { daemon, ids, all, source, format } = changed;
            let dropping = Dropping { ids: ids.clone(), all: *all, source: source.clone() };
            let answer: Dropped = runtime()?.block_on(daemon.daemon()?.post("/api/quarantine/drop", &dropping))?;
            match format {
                Format::Json => print_json(&answer),
                Format::Text => print(format_args!("{} dropped\n", answer.dropped)),
            }
        }
    }
}

fn list(listed: &Listed, screen: Screen) -> Result<(), Failure> {
    let daemon = listed.daemon.daemon()?;
    let wanted = [("source", listed.source.as_deref())];
    let all = pages::read(&daemon, "/api/quarantine", &wanted, usize::MAX, |page: QuarantinePage| {
        (page.quarantined, page.next_cursor)
    });
    let all = runtime()?.block_on(all)?;
    if listed.format == Format::Json {
        return print_json(&all);
    }
    let mut table = Table::new(screen, ["ID", "SINCE", "SOURCE", "BYTES", "REASON"]);
    for Quarantined { id, source, at, reason, bytes } in &all {
        table.row([id, &format!("{at:.0}"), source, &bytes.to_string(), reason]);
    }
    if table.is_empty() { print("nothing is in quarantine\n") } else { print(table) }
}

fn show(shown: &Shown) -> Result<(), Failure> {
    let path = format!("/api/quarantine/{}", encode(&shown.id));
    let whole: Whole = runtime()?.block_on(shown.daemon.daemon()?.get(&path))?;
    if shown.format == Format::Json {
        return print_json(&whole);
    }
    let broken = || Failure::new(Exit::Unavailable, "the daemon's answer has no body that can be read");
    let body = whole.body().ok_or_else(broken)?;
    if shown.raw {
        return print_bytes(&body);
    }
    let Quarantined { id, source, at, reason, bytes } = &whole.about;
    let (reason, body) = (visible(reason), visible(&String::from_utf8_lossy(&body)));
    print(format_args!("{id}: {bytes} bytes from source {source} at {at}\n{reason}\n\n{body}\n"))
}
