//! The file of dead letters, from its first frame to its last.

use crate::store::dead_letters::{DeadLetterCounts, Index, SHAPE, file_path};
use crate::store::files::disk::{Disk, Open};
use crate::store::files::frames::{Found, Scanner};
use std::io;
use std::path::Path;

/// What the file says became of each letter.
#[derive(Default)]
pub(super) struct Letters(Index);

impl Letters {
    pub(super) fn read(disk: &dyn Disk, dir: &Path, faults: &mut Vec<String>) -> io::Result<Self> {
        let path = file_path(dir);
        let file = disk.open(&path, Open::Existing)?;
        let mut letters = Self::default();
        let mut scanner = Scanner::new(&*file, file.length()?, SHAPE);
        while let Some(found) = scanner.next()? {
            match found {
                Found::Frame(place, content) => drop(letters.0.apply(&content, place)),
                Found::Damaged(place) => {
                    let (start, end) = (place.start, place.end());
                    faults.push(format!("{} at {start}: damaged; letters follow at {end}", path.display()));
                }
                // A cut leaves an incomplete last frame. Should it have been more, the sink's sum does not come out.
                Found::Torn(_) => {}
            }
        }
        Ok(letters)
    }

    /// A start gives the sink a new position, and counts its letters from there.
    pub(super) fn restart(&mut self, sink: &str) {
        if self.0.has_totals(sink) {
            self.0.restart(sink);
        }
    }

    /// Those of a sink after `base` and up to `position`.
    pub(super) fn of(&self, sink: &str, base: u64, position: u64) -> DeadLetterCounts {
        self.0.counts(sink, base, position)
    }
}
