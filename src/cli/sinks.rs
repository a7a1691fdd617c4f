//! `sinks`: how they are doing, and an end to those that were taken out.

use super::outcome::{Failure, print, print_json};
use super::screen::{Screen, Tone};
use super::table::Table;
use super::{Format, admin, runtime};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// What each sink is and how it is doing; and those that were taken out of the configuration.
    List(Listed),
    /// Forget the position of a sink that was taken out. Should it come back, it begins where its `start` says.
    Forget(Forgotten),
}

#[derive(Debug, Args)]
pub(super) struct Listed {
    #[command(flatten)]
    daemon: admin::Target,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Forgotten {
    #[command(flatten)]
    daemon: admin::Target,
    /// Its name.
    #[arg(value_name = "SINK")]
    sink: String,
}

pub(super) fn execute(command: &Command, screen: Screen) -> Result<(), Failure> {
    match command {
        Command::List(Listed { daemon, format }) => {
            let shown: Value = runtime()?.block_on(daemon.daemon()?.get("/api/sinks"))?;
            match format {
                Format::Json => print_json(&shown),
                Format::Text => print(text(&shown, screen)),
            }
        }
        Command::Forget(Forgotten { daemon, sink }) => {
            let _: Value = runtime()?.block_on(daemon.daemon()?.post("/api/sinks/forget", &json!({"sink": sink})))?;
            print(format_args!("the position of sink {sink} is forgotten\n"))
        }
    }
}

fn text(shown: &Value, screen: Screen) -> String {
    let rows = |name: &str| shown.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let cell = |row: &Value, name: &str| match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let mut table = Table::new(screen, ["SINK", "TYPE", "STATE", "LAG", "OLDEST", "DEAD", "TO", "PEER", "LAST ERROR"]);
    for row in rows("sinks") {
        let (state, tone) = match row.get("up").and_then(Value::as_bool) {
            Some(true) => ("up", Tone::Good),
            Some(false) => ("down", Tone::Bad),
            None => ("unknown", Tone::Middling),
        };
        let age = row.get("oldest_unsent_age_seconds").and_then(Value::as_f64).unwrap_or_default();
        let age = format!("{age:.0}s");
        let error = row.pointer("/last_error/message").and_then(Value::as_str).unwrap_or_default();
        let [name, kind, lag, dead, to, peer] =
            ["name", "type", "lag_events", "dead_letters", "to", "peer"].map(|name| cell(&row, name));
        table.row([&name, &kind, state, &lag, &age, &dead, &to, &peer, error]).tone(2, tone);
        if dead != "0" {
            table.tone(5, Tone::Bad);
        }
    }
    let mut text = table.to_string();
    let mut removed = Table::new(screen, ["TAKEN OUT", "SINCE", "POSITION", "DEAD"]);
    for row in rows("removed") {
        removed.row(
            ["name", "removed_at", "position", "dead_letters"]
                .map(|name| cell(&row, name))
                .each_ref()
                .map(String::as_str),
        );
    }
    if !removed.is_empty() {
        text += &format!("\n{removed}");
    }
    text
}
