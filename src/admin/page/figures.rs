//! What the page shows of the relay itself: the same counters that a scrape gets, and how its sinks and sources do.

use super::history::{History, P50, P99, line};
use super::model::{Bounds, Button, Cell, Model, Row};
use super::render::OUTCOMES;
use super::{Parts, letters, words};
use crate::deliver::{About, Status};
use crate::metrics::Reading;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Warnings of one kind.
const MOST: usize = 40;

/// What was answered and did not end as an event that is on disk.
const TAKEN: [&str; 2] = ["accepted", "duplicate"];

/// Everything but the sandboxes and the last events.
///
/// Blocks on the disk.
pub(super) fn tell(parts: &Parts, history: &History, now: Timestamp, bounds: Bounds) -> Model {
    let (reading, longest) = (parts.metrics.read(), bounds.text);
    let mut model = Model::default();
    deliveries(&mut model, &reading, history);
    let sinks = sinks(&mut model, parts, &reading, history, bounds);
    sources(&mut model, &reading, now, bounds);
    store(&mut model, &reading);
    let alarms = sinks.iter().flat_map(Seen::alarms).take(bounds.rows);
    model.lists.insert("warnings", alarms.chain(warnings(&reading, &sinks, longest)).collect());
    model.figure("status", status(parts, &reading, &sinks, longest));
    model.figure("at", Cell::own(words::time(now)));
    let version = reading.label("build_info", "version").unwrap_or_default();
    model.figure("version", Cell::own(version));
    model.table("letters", letters::rows(parts, now, longest), bounds);
    model
}

fn deliveries(model: &mut Model, reading: &Reading, history: &History) {
    let outcomes = reading.by("deliveries_total", "outcome");
    // Where no source has a webhook there are no series.
    for (name, _) in OUTCOMES {
        let outcome = name.trim_start_matches("outcome.");
        let count = outcomes.get(outcome).copied().unwrap_or_default();
        let class = match () {
            () if count == 0.0 => "quiet",
            () if TAKEN.contains(&outcome) => "",
            () => "warn",
        };
        model.figure(name, Cell::own(words::count(count)).class(class));
    }
    let is_taken = |outcome: &String| TAKEN.contains(&outcome.as_str());
    let refused = outcomes.iter().filter(|(outcome, _)| !is_taken(outcome)).fold(0.0, |sum, (_, count)| sum + count);
    model.figure("refused", Cell::own(words::count(refused)).class(if refused > 0.0 { "warn" } else { "" }));
    model.figure("rate", Cell::own(words::rate(history.rate())));
    let rates = history.rates();
    model.figure("rates", hour(&rates, |greatest| format!("at most {} a second", words::rate(greatest))));
    let share = |share| history.latency(share).map_or("none".to_owned(), words::span);
    model.figure("p50", Cell::own(share(P50)));
    model.figure("p99", Cell::own(share(P99)));
    let latencies = history.latencies();
    model.figure("latencies", hour(&latencies, |greatest| format!("at most {}", words::span(greatest))));
    model.figure("events", Cell::own(words::count(reading.sum("events_total", &[]))));
}

/// The line of the last hour; what is said beside it tells its scale.
fn hour(values: &[f64], scale: impl Fn(f64) -> String) -> Cell {
    let greatest = values.iter().copied().fold(0.0, f64::max);
    let text = if greatest > 0.0 { scale(greatest) } else { "nothing".to_owned() };
    Cell { line: line(values), ..Cell::own(text) }
}

/// A sink, as far as it is looked at more than once.
struct Seen {
    name: String,
    about: About,
    status: Status,
}

impl Seen {
    fn is_down(&self) -> bool {
        self.status.up == Some(false)
    }

    /// What wants somebody to act, each with the command for it: whole, so that it can be copied. A sink's name is short,
    /// and the configuration's.
    fn alarms(&self) -> impl Iterator<Item = Cell> {
        let Self { name, status: Status { gap, unaccounted, .. }, .. } = self;
        let gap = gap.as_ref().map(|gap| format!("Sink {name}: {gap}. To go on without them: {}", gap.remedy(name)));
        let unaccounted = unaccounted.as_ref().map(|lost| {
            format!("Sink {name}: {lost}. Nothing is sent by itself; this sends that span again: {}", lost.remedy(name))
        });
        gap.into_iter().chain(unaccounted).map(|text| Cell::own(text).class("bad"))
    }
}

fn sinks(model: &mut Model, parts: &Parts, reading: &Reading, history: &History, bounds: Bounds) -> Vec<Seen> {
    let longest = bounds.text;
    let all = parts.sinks.all().into_iter();
    let mut seen: Vec<Seen> =
        all.map(|(name, handle)| Seen { about: handle.about().clone(), status: handle.status(), name }).collect();
    seen.sort_by_key(|sink| !sink.is_down());
    let rows = seen.iter().map(|sink| {
        let of_sink = |family| reading.sum(family, &[("sink", &sink.name)]);
        let (lag, oldest) = (of_sink("sink_lag_events"), of_sink("sink_oldest_unsent_age_seconds"));
        let ages = history.ages(&sink.name);
        let (state, class) = match sink.status.up {
            Some(true) => ("up", "good"),
            Some(false) => ("down", "bad"),
            None => ("not known yet", "quiet"),
        };
        Row::new(
            &sink.name,
            [
                Cell::foreign(&sink.name, longest),
                Cell::own(state).class(class),
                Cell::number(words::count(lag)),
                Cell::number(if lag > 0.0 { words::age(oldest) } else { "–".to_owned() }),
                hour(&ages, |greatest| format!("up to {}", words::age(greatest))),
                Cell::number(words::count(of_sink("sink_sent_total"))),
                letters_of(&sink.name, of_sink("sink_dead_letters")),
                Cell::foreign(&format!("{}: {}", sink.about.kind, sink.about.to), longest),
                note(sink, longest),
            ],
        )
    });
    model.table("sinks", rows.collect(), bounds);
    let up = seen.iter().filter(|sink| sink.status.up == Some(true)).count();
    let class = if up < seen.len() { "warn" } else { "" };
    model.figure("sinks.up", Cell::own(format!("{up} of {}", seen.len())).class(class));
    let greatest = |family: &str| reading.by(family, "sink").into_values().fold(0.0, f64::max);
    let waiting = greatest("sink_lag_events");
    model.figure("waiting", Cell::own(words::count(waiting)));
    let oldest = if waiting > 0.0 { words::age(greatest("sink_oldest_unsent_age_seconds")) } else { "–".to_owned() };
    model.figure("oldest", Cell::own(oldest));
    let letters = reading.sum("sink_dead_letters", &[]);
    model.figure("letters", Cell::own(words::count(letters)).class(if letters > 0.0 { "warn" } else { "" }));
    seen
}

fn letters_of(sink: &str, count: f64) -> Cell {
    let button = (count > 0.0).then(|| Button {
        label: "Retry all",
        name: format!("Retry all dead letters of {sink}"),
        path: letters::RETRY,
        body: serde_json::json!({"sink": sink, "all": true}).to_string(),
    });
    Cell { button, ..Cell::own(words::count(count)).class(if count > 0.0 { "number warn" } else { "number" }) }
}

/// What is wrong with it, or has been last.
fn note(sink: &Seen, longest: usize) -> Cell {
    if sink.about.insecure_skip_verify {
        return Cell::own("certificate not verified").class("warn").title("insecure_skip_verify is on");
    }
    match &sink.status.last_error {
        Some(error) => {
            let text = format!("{}{}: {}", if sink.is_down() { "" } else { "was " }, error.reason, error.message);
            let whole = Cell::foreign(&text, 4 * longest).text;
            Cell::foreign(&text, 2 * longest).class(if sink.is_down() { "long bad" } else { "long quiet" }).title(whole)
        }
        None => Cell::default(),
    }
}

fn sources(model: &mut Model, reading: &Reading, now: Timestamp, bounds: Bounds) {
    let names = reading.by("sandboxes", "source");
    let rows = names.keys().map(|source| {
        let of_source = |family| reading.sum(family, &[("source", source)]);
        let of_outcome = |outcome| reading.sum("deliveries_total", &[("source", source), ("outcome", outcome)]);
        let taken: f64 = TAKEN.into_iter().map(of_outcome).sum();
        let refused = of_source("deliveries_total") - taken;
        let ago = |family| {
            let at = reading.value(family, &[("source", source)]).filter(|at| *at > 0.0).and_then(words::time_of);
            at.map_or_else(
                || Cell::own("–").class("quiet"),
                |at| Cell::own(format!("{} ago", words::age(words::since(at, now)))).title(words::time(at)),
            )
        };
        let verified = reading.value("backfill_verified_through_timestamp_seconds", &[("source", source)]);
        let verified = verified.and_then(words::time_of).map_or_else(
            || Cell::own("not yet").class("quiet"),
            |at| Cell::own(words::time(at)).title(format!("{} ago", words::age(words::since(at, now)))),
        );
        let gaps = of_source("gaps_total");
        Row::new(
            source,
            [
                Cell::foreign(source, bounds.text),
                Cell::number(words::count(of_outcome("accepted"))),
                Cell::number(words::count(of_outcome("duplicate"))),
                Cell::number(words::count(refused)).class(if refused > 0.0 { "number warn" } else { "number" }),
                ago("last_delivery_timestamp_seconds"),
                verified,
                Cell::number(words::count(of_source("backfill_recovered_total"))),
                Cell::number(words::count(gaps)).class(if gaps > 0.0 { "number bad" } else { "number" }),
            ],
        )
    });
    model.table("sources", rows.collect(), bounds);
    model.figure("recovered", Cell::own(words::count(reading.sum("backfill_recovered_total", &[]))));
    let gaps = reading.sum("gaps_total", &[]);
    model.figure("gaps", Cell::own(words::count(gaps)).class(if gaps > 0.0 { "bad" } else { "" }));
    // The source of which least is known.
    let verified = reading.by("backfill_verified_through_timestamp_seconds", "source").into_values();
    let verified = verified.reduce(f64::min).and_then(words::time_of).map_or_else(
        || Cell::own("not yet").class("quiet"),
        |at| Cell::own(format!("{} ago", words::age(words::since(at, now)))).title(words::time(at)),
    );
    model.figure("verified", verified);
    let states: BTreeMap<String, f64> = reading.by("sandboxes", "state");
    for state in ["running", "paused", "other"] {
        let count = states.get(state).copied().unwrap_or_default();
        model.figure(format!("sandboxes.{state}"), Cell::own(words::count(count)));
    }
}

fn store(model: &mut Model, reading: &Reading) {
    let (size, most) = (reading.sum("store_size_bytes", &[]), reading.sum("store_max_size_bytes", &[]));
    let part = if most > 0.0 { (100.0 * size / most).min(100.0) } else { 0.0 };
    let class = match part {
        part if part >= 95.0 => "bad",
        part if part >= 80.0 => "warn",
        _ => "",
    };
    model.figure("store.size", Cell { bar: format!("{part:.1}"), ..Cell::own(words::bytes(size)).class(class) });
    model.figure("store.max", Cell::own(words::bytes(most)));
    model.figure("store.events", Cell::own(words::count(reading.sum("store_events", &[]))));
}

/// What an operator should know and might not look for.
fn warnings(reading: &Reading, sinks: &[Seen], longest: usize) -> Vec<Cell> {
    let unverified = sinks.iter().filter(|sink| sink.about.insecure_skip_verify).map(|sink| {
        let text = format!("Sink {}: any certificate is taken for its peer's (insecure_skip_verify).", sink.name);
        Cell::foreign(&text, 2 * longest)
    });
    let conflicts = reading.by("registration_conflict", "source").into_iter().filter(|(_, there)| *there > 0.0);
    let conflicts = conflicts.map(|(source, _)| {
        let text = format!("Source {source}: other webhooks have the name of the relay's own (register.name).");
        Cell::foreign(&text, 2 * longest)
    });
    let stale = reading.value("config_last_reload_successful", &[]).filter(|good| *good < 1.0);
    let stale = stale.map(|_| Cell::own("The configuration was read again and refused: the one before is in force."));
    let waiting = reading.sum("config_needs_restart", &[]);
    let waiting = (waiting > 0.0).then(|| Cell::own(format!("{waiting} changed keys wait for a restart.")));
    unverified.take(MOST).chain(conflicts.take(MOST)).chain(stale).chain(waiting).collect()
}

/// The whole in a sentence.
fn status(parts: &Parts, reading: &Reading, sinks: &[Seen], longest: usize) -> Cell {
    if let Err(reason) = parts.intake.ready() {
        return Cell::foreign(&format!("No deliveries are taken: {reason}"), 2 * longest).class("bad");
    }
    let lost: Vec<&str> =
        sinks.iter().filter(|sink| sink.status.unaccounted_events > 0).map(|sink| sink.name.as_str()).collect();
    if !lost.is_empty() {
        let text = format!("Deliveries are taken. Not all accounted for: {}", lost.join(", "));
        return Cell::foreign(&text, 2 * longest).class("bad");
    }
    let down: Vec<&str> = sinks.iter().filter(|sink| sink.is_down()).map(|sink| sink.name.as_str()).collect();
    if !down.is_empty() {
        let text = format!("Deliveries are taken. Down: {}", down.join(", "));
        return Cell::foreign(&text, 2 * longest).class("bad");
    }
    let letters = reading.sum("sink_dead_letters", &[]);
    if letters > 0.0 {
        let text = format!("Deliveries are taken. {} dead letters wait for you.", words::count(letters));
        return Cell::own(text).class("warn");
    }
    Cell::own("Deliveries are taken, and sent on.").class("good")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::{Gap, Log, Unaccounted};

    #[test]
    fn what_wants_somebody_to_act_is_red_and_has_its_command() {
        let status = Status {
            gap: Some(Gap { log: Log::Events, after: 7, through: 12, events: 4, first: 5 }),
            unaccounted_events: 17,
            unaccounted: Some(Unaccounted { since_sequence: 4000, through_sequence: 4200, events: 17 }),
            ..Status::default()
        };
        let name = "a".repeat(64);
        let alarms: Vec<Cell> = Seen { name: name.clone(), about: About::default(), status }.alarms().collect();
        assert!(alarms.len() == 2 && alarms.iter().all(|alarm| alarm.class == "bad"), "{alarms:?}");
        for (alarm, has) in alarms.iter().zip([
            ["4 missing in the log of events, after sequence 7 through 12", "sinks resume --accept-gap"],
            ["17 events not accounted for, after sequence 4000 through 4200", "--after 4000 --through 4200"],
        ]) {
            assert!(alarm.text.contains(&name) && has.iter().all(|has| alarm.text.contains(has)), "{}", alarm.text);
        }
        let well = Seen { name, about: About::default(), status: Status::default() };
        assert_eq!(well.alarms().count(), 0);
    }
}
