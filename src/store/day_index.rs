//! Which event ids of one UTC day are known: a sled database, hash → sequence.

use super::frame::{Day, DedupeHash};
use super::ids::Id;
use super::sled_guard::{self, Bad, guard};
use std::path::{Path, PathBuf};

/// Of sled's page cache, per day.
const CACHE: u64 = 8 * 1024 * 1024;
/// More operations in one batch take sled gigabytes.
const BATCH: usize = 1_000;
/// Not 16 bytes long, so that no hash is ever taken for it.
const APPLIED: &[u8] = b"applied";

/// The ids of one day. Clones are handles to the same database.
#[derive(Clone)]
pub(super) struct DayIndex {
    pub(super) day: Day,
    folder: PathBuf,
    db: sled::Db,
}

impl DayIndex {
    pub(super) fn open(seen: &Path, day: Day) -> Result<Self, Bad> {
        let folder = folder(seen, day);
        let db = sled_guard::open(&folder, CACHE)?;
        Ok(Self { day, folder, db })
    }

    pub(super) fn contains(&self, hash: DedupeHash) -> Result<bool, Bad> {
        guard(|| self.db.contains_key(hash.to_be_bytes()))
    }

    /// Adds ids, whose sequences rise, and notes the last of them as applied.
    pub(super) fn insert(&self, ids: &[Id]) -> Result<(), Bad> {
        for chunk in ids.chunks(BATCH - 1) {
            let mut batch = sled::Batch::default();
            for id in chunk {
                batch.insert(&id.hash.to_be_bytes(), &id.sequence.to_be_bytes());
            }
            if let Some(last) = chunk.last() {
                batch.insert(APPLIED, &last.sequence.to_be_bytes());
            }
            guard(|| self.db.apply_batch(batch))?;
        }
        Ok(())
    }

    /// The highest sequence whose id is in here, 0 when there is none.
    pub(super) fn applied(&self) -> Result<u64, Bad> {
        let value = guard(|| self.db.get(APPLIED))?;
        Ok(value.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes))
    }

    /// Puts everything on disk for good.
    pub(super) fn sync(&self) -> Result<(), Bad> {
        sled_guard::sync(&self.db, &self.folder)
    }
}

/// `seen/2026-11-21`.
pub(super) fn folder(seen: &Path, day: Day) -> PathBuf {
    seen.join(name(day))
}

fn name(day: Day) -> String {
    jiff::Timestamp::from_second(i64::from(day) * 86_400)
        .map_or_else(|_| day.to_string(), |midnight| midnight.strftime("%Y-%m-%d").to_string())
}

/// The days that have a folder.
pub(super) fn days(seen: &Path) -> std::io::Result<Vec<Day>> {
    let mut days = Vec::new();
    for entry in std::fs::read_dir(seen)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Ok(midnight) = format!("{name}T00:00:00Z").parse::<jiff::Timestamp>() {
            days.push(super::frame::day_of(midnight));
        }
    }
    Ok(days)
}
