//! Which indexes are closed and complete: `seen/closed.json`.

use crate::store::files::disk::{Disk, Open};
use crate::store::files::replace::replace;
use crate::store::log::frame::Day;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

const NAME: &str = "closed.json";

/// Checksums of the indexes that hold every id of their day, and up to which event that is so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Closed {
    /// The last event of the journal when this was noted. One behind it, which recovery found though its write had
    /// failed, may be in no index: then this is worth nothing.
    through: u64,
    days: BTreeMap<Day, u32>,
}

impl Closed {
    /// What was noted, as far as it goes for a journal that ends with `last`. Nothing where it is torn or not there: then
    /// every index is checked.
    pub(in crate::store) fn read(disk: &dyn Disk, seen: &Path, last: u64) -> io::Result<Self> {
        let file = match disk.open(&seen.join(NAME), Open::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file?,
        };
        let mut text = vec![0; file.length()? as usize];
        file.read_at(&mut text, 0)?;
        let closed: Self = serde_json::from_slice(&text).unwrap_or_default();
        Ok(if last > closed.through { Self::default() } else { closed })
    }

    pub(in crate::store) fn checksum(&self, day: Day) -> Option<u32> {
        self.days.get(&day).copied()
    }

    /// The same with another day, or with a new checksum for it.
    pub(in crate::store) fn with(&self, day: Day, checksum: u32) -> Self {
        let mut closed = self.clone();
        closed.days.insert(day, checksum);
        closed
    }

    /// The same without a day.
    pub(in crate::store) fn without(&self, day: Day) -> Self {
        let mut closed = self.clone();
        closed.days.remove(&day);
        closed
    }

    /// Puts it on disk for a journal that ends with `last`.
    pub(in crate::store) fn write(&mut self, disk: &dyn Disk, seen: &Path, last: u64) -> io::Result<()> {
        self.through = last;
        Ok(replace(disk, &seen.join(NAME), &serde_json::to_vec(self)?)?)
    }
}
