//! `sinks`: how they are doing, an end to those that were taken out, and a start for one that is halted at a gap.

use super::outcome::{Failure, print, print_json};
use super::screen::{Screen, Tone};
use super::table::Table;
use super::{Format, admin, runtime};
use crate::client::encode;
use crate::deliver::{Gap, Unaccounted};
use crate::logging::visible;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// What each sink is and how it is doing; and those that were taken out of the configuration.
    List(Listed),
    /// Forget the position of a sink that was taken out. Should it come back, it begins where its `start` says.
    Forget(Forgotten),
    /// Have a sink go on that is halted at a gap: at events that its log counts and does not have, without a proof of damage.
    Resume(Resumed),
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

#[derive(Debug, Args)]
pub(super) struct Resumed {
    #[command(flatten)]
    daemon: admin::Target,
    /// Says that what is missing there is not sent, and that you know it.
    #[arg(long, required = true)]
    accept_gap: bool,
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
        Command::Resume(Resumed { daemon, accept_gap, sink }) => {
            let path = format!("/api/sinks/{}/resume", encode(sink));
            let resumed = runtime()?.block_on(daemon.daemon()?.post(&path, &json!({"accept_gap": accept_gap})))?;
            let Went { gap } = resumed;
            print(format_args!("sink {sink} goes on; it was {gap}\n"))
        }
    }
}

/// Of the daemon's answer.
#[derive(Deserialize)]
struct Went {
    gap: Gap,
}

/// What of a sink wants somebody to act, with the command for it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Alarms {
    name: String,
    gap: Option<Gap>,
    unaccounted: Option<Unaccounted>,
}

/// A line for each, which may be long.
fn alarms(row: &Value) -> Vec<String> {
    let Alarms { name, gap, unaccounted } = Alarms::deserialize(row).unwrap_or_default();
    let gap = gap.map(|gap| format!("{name}: {gap}: {}", gap.remedy(&name)));
    let unaccounted = unaccounted.map(|lost| format!("{name}: {lost}: {}", lost.remedy(&name)));
    gap.into_iter().chain(unaccounted).collect()
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
    // Not in the table, which cuts what is long.
    let alarms: Vec<String> = rows("sinks").iter().flat_map(alarms).collect();
    if !alarms.is_empty() {
        text.push('\n');
    }
    for line in alarms {
        text += &screen.paint(Tone::Bad, &visible(&line));
        text.push('\n');
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wants_somebody_to_act_stands_below_the_table_with_its_command() {
        let screen = Screen { colours: false, bars: false };
        let sink = |name: &str, gap: Value, unaccounted: Value| {
            let row = json!({"name": name, "type": "file", "to": "/var/log/audit.ndjson", "up": true, "gap": gap,
                             "unaccounted_events": 0, "unaccounted": unaccounted, "dead_letters": 0});
            text(&json!({"sinks": [row], "removed": []}), screen)
        };
        let well = sink("audit", Value::Null, Value::Null);
        assert_eq!(well.lines().count(), 2, "{well}");
        let gap = json!({"log": "samples", "after": 7, "through": 12, "events": 4});
        let lost = json!({"since_sequence": 4000, "through_sequence": 4200, "events": 17});
        let shown = sink("audit", gap, lost);
        assert_eq!(
            shown.lines().skip(2).collect::<Vec<_>>(),
            [
                "",
                "audit: halted at a gap: 4 missing in the log of samples, after sequence 7 through 12: \
                 e2b-relay sinks resume --accept-gap audit",
                "audit: 17 events not accounted for, after sequence 4000 through 4200: \
                 e2b-relay replay --sink audit --after 4000 --through 4200",
            ]
        );
    }
}
