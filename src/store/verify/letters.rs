//! The file of dead letters, from its first frame to its last.

use super::super::dead_letters::{Resolution, decode, file_path, read_frame};
use super::super::disk::{Disk, Open};
use super::super::frame::{self, Frame};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// How far behind a frame that is not sound a sound one is looked for: several of the largest.
const LOOK_AHEAD: u64 = 4 * 1024 * 1024;

/// What became of each letter; `None` while it waits.
#[derive(Default)]
pub(super) struct Letters(BTreeMap<(String, u64), Option<Resolution>>);

/// Letters of one sink.
#[derive(Default)]
pub(super) struct Counted {
    pub(super) waiting: u64,
    pub(super) retried: u64,
    pub(super) forwarded: u64,
    pub(super) dropped: u64,
}

impl Letters {
    pub(super) fn read(disk: &dyn Disk, dir: &Path, faults: &mut Vec<String>) -> io::Result<Self> {
        let path = file_path(dir);
        let file = disk.open(&path, Open::Existing)?;
        let end = file.length()?;
        let mut letters = Self::default();
        let mut offset = 0;
        while let Some(content) = read_frame(&*file, offset, end)? {
            match decode(&content) {
                Some(entry) => {
                    let whole = match frame::take(&mut content.slice_ref(entry.event)) {
                        Some(Frame::Event(event)) => event.stored.sequence == entry.sequence,
                        _ => entry.letter.is_none(),
                    };
                    if !whole {
                        faults.push(format!("{} at {offset}: the letter has no event", path.display()));
                    }
                    match entry.renamed_from {
                        Some(old) => letters.carry_over(old, entry.sink),
                        None => drop(letters.0.insert((entry.sink.to_owned(), entry.sequence), entry.resolution)),
                    }
                }
                None => faults.push(format!("{} at {offset}: a frame that means nothing", path.display())),
            }
            offset += 8 + content.len() as u64;
        }
        // A cut leaves an incomplete last frame; a sound one behind it makes it damage, and a start would cut it off.
        for next in offset + 1..end.min(offset + LOOK_AHEAD) {
            if read_frame(&*file, next, end)?.is_some_and(|content| decode(&content).is_some()) {
                faults.push(format!("{} at {offset}: damaged; letters follow at {next}", path.display()));
                break;
            }
        }
        Ok(letters)
    }

    fn carry_over(&mut self, old: &str, new: &str) {
        let own = (old.to_owned(), 0)..=(old.to_owned(), u64::MAX);
        let moved: Vec<_> = self.0.extract_if(own, |_, _| true).collect();
        self.0.extend(moved.into_iter().map(|((_, sequence), resolution)| ((new.to_owned(), sequence), resolution)));
    }

    /// Those of a sink after `base` and up to `position`.
    pub(super) fn of(&self, sink: &str, base: u64, position: u64) -> Counted {
        let range = (sink.to_owned(), base.saturating_add(1))..=(sink.to_owned(), position.max(base.saturating_add(1)));
        let mut counted = Counted::default();
        for ((_, sequence), resolution) in self.0.range(range) {
            if *sequence > position {
                continue;
            }
            match resolution {
                None => counted.waiting += 1,
                Some(Resolution::Retried) => counted.retried += 1,
                Some(Resolution::Dropped) => counted.dropped += 1,
                Some(Resolution::Forwarded) => counted.forwarded += 1,
            }
        }
        counted
    }
}
