//! Which fault, how often, by what it shows, and what else there must be to see that it struck.

use super::case::Case;

pub(super) struct Row {
    pub(super) fault: &'static str,
    pub(super) part: &'static str,
    /// Further arguments of `simulate`.
    pub(super) arguments: &'static [&'static str],
    /// Further keys of the source.
    pub(super) keys: &'static str,
    /// Parameters of the events that happen.
    pub(super) events: &'static str,
    /// The family, and a label of it.
    pub(super) moves: (&'static str, &'static str),
    /// At least by so much, by the provider's own ledger.
    pub(super) least: fn(&Case) -> u64,
    /// Whether it stands at zero where nothing goes wrong.
    pub(super) only_then: bool,
    /// What else the fault must have brought about.
    pub(super) struck: fn(&Case) -> bool,
}

const OFTEN: &str = "    backfill: {interval: 500ms, overlap: 20s}\n";
const NEVER: &str = "    backfill: {enabled: false}\n";
const UNDELIVERED: &[&str] = &["--drop-deliveries", "1"];
const RECOVERED: (&str, &str) = ("backfill_recovered_total", "");
const ACCEPTED: (&str, &str) = ("deliveries_total", "outcome=\"accepted\"");
const REQUESTS: &str = "api_requests_total";

impl Row {
    /// Nothing goes wrong.
    pub(super) const NOTHING: Self = Self {
        fault: "",
        part: "0",
        arguments: &[],
        keys: OFTEN,
        events: "count=300",
        moves: ("deliveries_total", ""),
        least: |_| 300,
        only_then: false,
        struck: |_| true,
    };

    /// A reply of the API that is not what it should be.
    const fn reply(fault: &'static str, label: &'static str) -> Self {
        Self {
            fault,
            part: "0.3",
            arguments: UNDELIVERED,
            moves: (REQUESTS, label),
            least: |_| 1,
            only_then: true,
            ..Self::NOTHING
        }
    }

    /// Something about the list, by which everything comes.
    const fn list(fault: &'static str, part: &'static str, struck: fn(&Case) -> bool) -> Self {
        Self { fault, part, arguments: UNDELIVERED, moves: RECOVERED, least: Case::told, struck, ..Self::NOTHING }
    }
}

pub(super) const TABLE: &[Row] = &[
    Row {
        fault: "drop-deliveries",
        part: "0.5",
        moves: RECOVERED,
        least: |case| case.count("withheld"),
        ..Row::NOTHING
    },
    Row {
        fault: "repeat-deliveries",
        part: "0.5",
        keys: NEVER,
        moves: ("deliveries_total", "outcome=\"duplicate\""),
        least: |case| case.count("repeated"),
        struck: |case| case.count("repeated") > 100,
        ..Row::NOTHING
    },
    Row {
        fault: "reorder-deliveries",
        part: "0.3",
        keys: NEVER,
        moves: ACCEPTED,
        least: Case::told,
        struck: |case| !case.arrived().is_sorted(),
        ..Row::NOTHING
    },
    Row {
        fault: "delay-deliveries",
        part: "1",
        arguments: &["--delay-by", "6s"],
        moves: ("deliveries_total", "outcome=\"duplicate\""),
        least: |_| 1,
        struck: |case| case.sum(RECOVERED) > 50.0,
        ..Row::NOTHING
    },
    Row {
        fault: "forge-deliveries",
        part: "0.5",
        moves: ("deliveries_total", "outcome=\"bad_signature\""),
        least: |case| case.count("forged"),
        only_then: true,
        struck: |case| case.count("forged") > 100 && case.sum(RECOVERED) >= case.count("forged") as f64,
        ..Row::NOTHING
    },
    Row::reply("rate-limit", "code=\"429\""),
    Row::reply("rate-limit-html", "code=\"429\""),
    Row::reply("server-errors", "code=\"50"),
    Row::reply("html-errors", "code=\"50"),
    Row { arguments: &["--drop-deliveries", "1", "--slow-by", "5s"], ..Row::reply("slow-replies", "code=\"timeout\"") },
    Row::reply("truncated-replies", "code=\"broken\""),
    // One before each page: more were told than the test asked for.
    Row::list("shifting-pages", "1", |case| case.told() > 300),
    Row {
        arguments: &["--drop-deliveries", "1", "--late-by", "4s"],
        ..Row::list("late-rows", "1", |case| case.latest() > 1.0)
    },
    Row {
        fault: "lost-rows",
        part: "1",
        moves: ACCEPTED,
        least: Case::told,
        struck: |case| case.sum(RECOVERED) == 0.0,
        ..Row::NOTHING
    },
    Row::list("repeated-rows", "1", |case| case.sum(RECOVERED) == case.told() as f64),
    Row::list("equal-times", "0.7", |case| case.times() < 200),
    // Nothing is said to be verified through a time that has not come.
    Row::list("wrong-clock", "0.5", |case| case.latest() < -60.0 && case.verified_ago() >= 20.0),
    Row {
        fault: "crashes",
        part: "0.3",
        keys: "    backfill: {interval: 500ms}\n    reconcile: {interval: 1s, emit: true}\n",
        moves: ("events_total", "type=\"sandbox.reconciled\""),
        least: |_| 1,
        struck: |case| case.records.iter().any(|record| record["event_data"]["state"] == "gone"),
        ..Row::NOTHING
    },
    Row {
        fault: "missing-samples",
        part: "0.5",
        keys: "    backfill: {interval: 500ms}\n    metrics: {interval: 1s}\n",
        events: "count=300&span=1200",
        moves: ("events_total", "type=\"sandbox.metrics\""),
        least: |_| 20,
        struck: Case::lacks_samples,
        ..Row::NOTHING
    },
    Row {
        fault: "odd-rows",
        part: "0.3",
        arguments: &["--sandboxes", "30"],
        keys: "    backfill: {interval: 500ms}\n    reconcile: {interval: 1s, emit: true}\n    metrics: {interval: 1s}\n",
        moves: ("api_rows_skipped_total", "endpoint=\"metrics\""),
        least: |_| 60,
        only_then: true,
        // Its list is read, and so are the samples, for those whose rows are sound.
        struck: |case| {
            ["sandbox.reconciled", "sandbox.metrics"]
                .iter()
                .all(|kind| case.records.iter().any(|record| record["type"] == *kind))
        },
        ..Row::NOTHING
    },
    Row {
        fault: "ignored-offsets",
        part: "1",
        moves: ("backfill_polls_total", "outcome=\"invalid\""),
        least: |_| 2,
        only_then: true,
        ..Row::NOTHING
    },
    Row {
        fault: "no-events-api",
        part: "1",
        moves: ("backfill_polls_total", "outcome=\"not_offered\""),
        least: |_| 1,
        only_then: true,
        struck: |case| case.sum(ACCEPTED) == case.told() as f64,
        ..Row::NOTHING
    },
];
