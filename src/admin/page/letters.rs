//! The newest dead letters, each with its reason and a button.

use super::model::{Button, Cell, Row};
use super::{Parts, words};
use crate::store::DeadLetter;
use jiff::Timestamp;

/// Letters that are shown.
const SHOWN: usize = 20;
/// Where they are sent once more, seen from the page.
pub(super) const RETRY: &str = "api/dead-letters/retry";

/// Blocks on the disk.
pub(super) fn rows(parts: &Parts, now: Timestamp, longest: usize) -> Vec<Row> {
    let letters = &parts.letters;
    let there = parts.sinks.all().into_keys();
    let sinks = there.chain(parts.registry.removed().into_iter().map(|removed| removed.name));
    let mut newest: Vec<(String, u64, DeadLetter)> = Vec::new();
    for sink in sinks {
        let of_sink = letters.newest(&sink, SHOWN).into_iter();
        newest.extend(of_sink.map(|(sequence, letter)| (sink.clone(), sequence, letter)));
    }
    newest.sort_by_key(|(_, sequence, letter)| std::cmp::Reverse((letter.at, *sequence)));
    newest.truncate(SHOWN);
    let row = |(sink, sequence, letter): &(String, u64, DeadLetter)| {
        let stored = letters.event(sink, *sequence).ok().flatten();
        let (kind, sandbox) = stored
            .map_or_else(|| (String::new(), String::new()), |stored| (stored.event.kind, stored.event.sandbox_id));
        let button = parts.sinks.get(sink).map(|_| Button {
            label: "Retry",
            name: Cell::foreign(&format!("Retry {} to {sink}", letter.id), longest).text,
            path: RETRY,
            body: serde_json::json!({"sink": sink, "ids": [sequence.to_string()]}).to_string(),
        });
        Row::new(
            format!("{sink}/{sequence}"),
            [
                Cell::foreign(sink, longest),
                Cell::number(words::age(words::since(letter.at, now))).title(words::time(letter.at)),
                Cell { button, ..Cell::default() },
                Cell::foreign(&letter.cause.reason, longest).class("bad"),
                Cell::foreign(&letter.cause.message, 2 * longest)
                    .class("long")
                    .title(Cell::foreign(&letter.cause.message, 4 * longest).text),
                Cell::foreign(&kind, longest),
                Cell::foreign(&sandbox, longest),
                Cell::foreign(&letter.id, longest),
            ],
        )
    };
    newest.iter().map(row).collect()
}
