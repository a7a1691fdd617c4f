//! `replay`: events of the past, sent to one sink once more.

use super::outcome::{Failure, print, print_json};
use super::screen::Screen;
use super::{Format, admin, runtime};
use crate::admin::{Order, Since};
use crate::client::encode;
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;

/// How often a running daemon is asked how far it is.
const ASK: Duration = Duration::from_millis(500);

/// Sends what a sink has passed to it once more, beside what is new; ids stay, and a header says that it is a replay. It
/// goes on when this command is ended, and over a restart of the daemon; --cancel ends it.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    daemon: admin::Target,
    /// To which sink.
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// Only events that the relay received since then: 7d, or RFC 3339 with a zone. Without it as far back as the
    /// journal goes (store.retention).
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Only events that it received before that.
    #[arg(long, value_name = "TIME")]
    until: Option<Since>,
    /// Only events whose type matches a glob, such as "sandbox.lifecycle.*".
    #[arg(long = "type", value_name = "GLOB")]
    kind: Option<String>,
    /// Only this sandbox's.
    #[arg(long, value_name = "ID")]
    sandbox: Option<String>,
    /// Only events of a higher sequence: what stands in a record as relay.sequence.
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// Only events of no higher sequence than that, at most what the sink has passed.
    #[arg(long, value_name = "SEQUENCE")]
    through: Option<u64>,
    /// Counts what would be sent, and sends nothing.
    #[arg(long)]
    dry_run: bool,
    /// Does not wait for its end.
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
    /// Ends the one that is under way.
    #[arg(long, conflicts_with_all = ["since", "until", "kind", "sandbox", "after", "through", "dry_run", "detach"])]
    cancel: bool,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn execute(options: &Options, screen: Screen) -> Result<(), Failure> {
    let daemon = options.daemon.daemon()?;
    let (runtime, sink) = (runtime()?, &options.sink);
    if options.cancel {
        let replay: Value = runtime.block_on(daemon.post("/api/replay/cancel", &json!({"sink": sink})))?;
        return options.show("cancelled: ", &replay);
    }
    let Options { since, until, kind, sandbox, after, through, dry_run, .. } = options;
    let order = Order {
        sink: sink.clone(),
        since: since.clone(),
        until: until.clone(),
        kind: kind.clone(),
        sandbox_id: sandbox.clone(),
        after: *after,
        through: *through,
        dry_run: *dry_run,
    };
    let replay: Value = runtime.block_on(daemon.post("/api/replay", &order))?;
    if *dry_run {
        return options.show("would be sent: ", &replay);
    }
    if options.detach {
        return options.show("begun: ", &replay);
    }
    let path = format!("/api/replay?sink={}", encode(sink));
    let number = |replay: &Value, name: &str| replay.get(name).and_then(Value::as_u64).unwrap_or_default();
    let from = number(&replay, "position");
    let part = |replay: &Value| ["position", "through"].map(|name| number(replay, name).saturating_sub(from)).into();
    let mut progress = screen.progress("replay");
    progress.show(Some(part(&replay)), words(&replay));
    loop {
        runtime.block_on(async { tokio::time::sleep(ASK).await });
        let shown: Value = runtime.block_on(daemon.get(&path))?;
        let now = shown.pointer("/replays/0").unwrap_or(&Value::Null);
        let is_over = now.get("ended").is_none_or(|ended| !ended.is_null());
        if now.get("id") != replay.get("id") || is_over {
            drop(progress);
            return options.show("", now);
        }
        progress.show(Some(part(now)), words(now));
    }
}

impl Options {
    fn show(&self, head: &str, replay: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => print_json(replay),
            Format::Text => print(format_args!("{head}{}\n", words(replay))),
        }
    }
}

fn words(replay: &Value) -> String {
    let [found, sent, skipped, rejected] =
        ["found", "sent", "skipped", "rejected"].map(|name| replay.get(name).unwrap_or(&Value::Null));
    format!("{found} events found, {sent} sent, {skipped} not wanted by the sink, {rejected} refused")
}
