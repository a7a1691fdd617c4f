//! Which event ids of one UTC day are known: all of them in memory while the day is open, and a database to read them from
//! when it is next opened.
//!
//! Random keys are what sled is slow and large with: one key per id took 20 µs of processor time, 110 bytes of memory and
//! 150 bytes on disk. So each value holds many ids, in the order in which they came, and a day is read as a whole:
//!
//! ```text
//! chunk's number 8 → highest sequence so far 8 │ hash 16, sequence 8 │ hash 16, sequence 8 …
//! ```
//! The sequences are for the day on which a record turns out to be damaged: they tell which ids are lost with it.
//!
//! Ids that do not fill a chunk yet are in memory and in the journal only: after a kill they are read from there.

use crate::store::kv::{Bad, Database, KeyValue};
use crate::store::log::frame::{Day, DedupeHash};
use crate::store::log::ids::Id;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of the database's page cache, per day; nothing is read twice.
const CACHE: u64 = 1024 * 1024;
/// Ids in one value.
const CHUNK: usize = 512;
const SEQUENCE: usize = 8;
const HASH: usize = 16;
/// A hash and its sequence.
const ENTRY: usize = HASH + SEQUENCE;
/// A table that grows is copied while an event waits; so there are many small ones.
const SHARDS: usize = 256;

/// The ids of one day. Clones are handles to the same.
#[derive(Clone)]
pub(in crate::store) struct DayIndex {
    pub(in crate::store) day: Day,
    db: Arc<dyn Database>,
    ids: Arc<Mutex<Ids>>,
}

struct Ids {
    known: Vec<HashSet<DedupeHash, BuildHasherDefault<Hashed>>>,
    /// What the next chunk will hold, without its sequence.
    pending: Vec<u8>,
    next_chunk: u64,
    /// The highest sequence whose id is in here, 0 when there is none.
    highest: u64,
    /// The highest whose id is in the database.
    applied: u64,
}

impl DayIndex {
    /// Reads the ids of a day; none where there is no folder yet.
    pub(in crate::store) fn open(kv: &dyn KeyValue, seen: &Path, day: Day) -> Result<Self, Bad> {
        let db = kv.open(&folder(seen, day), CACHE)?;
        let mut ids =
            Ids { known: vec![HashSet::default(); SHARDS], pending: Vec::new(), next_chunk: 0, highest: 0, applied: 0 };
        db.for_each(&mut |key, value| {
            ids.read(key, value).ok_or_else(|| Bad::Corrupt("not a chunk of ids".to_owned()))
        })?;
        Ok(Self { day, db, ids: Arc::new(Mutex::new(ids)) })
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn contains(&self, hash: DedupeHash) -> bool {
        self.ids().shard(hash).is_some_and(|shard| shard.contains(&hash))
    }

    /// Adds ids. Where the database does not take them they are known nonetheless, until the index is closed.
    pub(in crate::store) fn insert(&self, ids: &[Id]) -> Result<(), Bad> {
        let mut all = self.ids();
        for id in ids {
            if all.shard(id.hash).is_some_and(|shard| shard.insert(id.hash)) {
                all.pending.extend_from_slice(&id.hash.to_be_bytes());
                all.pending.extend_from_slice(&id.sequence.to_be_bytes());
                all.highest = all.highest.max(id.sequence);
            }
            if all.pending.len() >= CHUNK * ENTRY {
                all.write_pending(&*self.db)?;
            }
        }
        Ok(())
    }

    /// The highest sequence whose id was read from the database or put there, 0 when there is none.
    pub(super) fn applied(&self) -> u64 {
        self.ids().applied
    }

    /// Puts everything on disk for good.
    pub(in crate::store) fn sync(&self) -> Result<(), Bad> {
        self.ids().write_pending(&*self.db)?;
        self.db.sync()
    }
}

impl Ids {
    fn shard(&mut self, hash: DedupeHash) -> Option<&mut HashSet<DedupeHash, BuildHasherDefault<Hashed>>> {
        self.known.get_mut((hash >> 120) as usize)
    }

    /// Takes in one value; `None` where it is no chunk.
    fn read(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let number = u64::from_be_bytes(key.try_into().ok()?);
        let (sequence, entries) = value.split_at_checked(SEQUENCE)?;
        let sequence = u64::from_be_bytes(sequence.try_into().ok()?);
        let rest = for_each_entry(entries, |hash, _| self.shard(hash).map(|shard| shard.insert(hash)).is_some())?;
        self.next_chunk = self.next_chunk.max(number + 1);
        self.highest = self.highest.max(sequence);
        self.applied = self.highest;
        rest.is_empty().then_some(())
    }

    fn write_pending(&mut self, db: &dyn Database) -> Result<(), Bad> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let value = [&self.highest.to_be_bytes(), self.pending.as_slice()].concat();
        db.insert(&self.next_chunk.to_be_bytes(), &value)?;
        self.pending.clear();
        self.next_chunk += 1;
        self.applied = self.highest;
        Ok(())
    }
}

/// Calls `visit` with each hash and its sequence, and returns what is left behind the last whole one; `None` where `visit`
/// says no.
fn for_each_entry(entries: &[u8], mut visit: impl FnMut(DedupeHash, u64) -> bool) -> Option<&[u8]> {
    let (entries, rest) = entries.as_chunks::<ENTRY>();
    for entry in entries {
        let (hash, sequence) = entry.split_at_checked(HASH)?;
        let hash = DedupeHash::from_be_bytes(hash.try_into().ok()?);
        visit(hash, u64::from_be_bytes(sequence.try_into().ok()?)).then_some(())?;
    }
    Some(rest)
}

/// All ids of a closed index, with their sequences.
pub(in crate::store) fn ids_of(kv: &dyn KeyValue, seen: &Path, day: Day) -> Result<Vec<Id>, Bad> {
    let db = kv.open(&folder(seen, day), CACHE)?;
    let mut ids = Vec::new();
    db.for_each(&mut |_, value| {
        let entries = value.get(SEQUENCE..).unwrap_or_default();
        for_each_entry(entries, |hash, sequence| {
            ids.push(Id { sequence, day, hash });
            true
        });
        Ok(())
    })?;
    Ok(ids)
}

/// A dedupe hash is keyed and evenly spread already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

/// `seen/2026-11-21`.
pub(in crate::store) fn folder(seen: &Path, day: Day) -> PathBuf {
    seen.join(name(day))
}

fn name(day: Day) -> String {
    jiff::Timestamp::from_second(i64::from(day) * 86_400)
        .map_or_else(|_| day.to_string(), |midnight| midnight.strftime("%Y-%m-%d").to_string())
}

/// The days that have a folder.
pub(in crate::store) fn days(kv: &dyn KeyValue, seen: &Path) -> std::io::Result<Vec<Day>> {
    let mut days = Vec::new();
    for name in kv.names(seen)? {
        if let Ok(midnight) = format!("{name}T00:00:00Z").parse::<jiff::Timestamp>() {
            days.push(crate::store::log::frame::day_of(midnight));
        }
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kv::OnSled;

    const DAY: Day = 20_000;

    fn id(sequence: u64) -> Id {
        Id { sequence, day: DAY, hash: u128::from(sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) }
    }

    #[test]
    fn what_was_synced_is_known_again_and_what_filled_no_chunk_is_not() {
        let seen = tempfile::tempdir().unwrap();
        let ids: Vec<Id> = (1..=2 * CHUNK as u64 + 10).map(id).collect();
        {
            let index = DayIndex::open(&OnSled, seen.path(), DAY).unwrap();
            index.insert(&ids).unwrap();
            assert!(ids.iter().all(|id| index.contains(id.hash)));
            assert_eq!(index.applied(), 2 * CHUNK as u64, "two chunks are full");
        }
        {
            let index = DayIndex::open(&OnSled, seen.path(), DAY).unwrap();
            let known = ids.iter().filter(|id| index.contains(id.hash)).count();
            assert_eq!((known, index.applied()), (2 * CHUNK, 2 * CHUNK as u64));
            // An early id that came late must not take another chunk's place.
            index.insert(&[id(5), Id { sequence: 3, ..id(9_999) }]).unwrap();
            index.insert(&ids).unwrap();
            index.sync().unwrap();
        }
        let index = DayIndex::open(&OnSled, seen.path(), DAY).unwrap();
        assert!(ids.iter().chain(&[id(9_999)]).all(|id| index.contains(id.hash)));
        assert!(!index.contains(id(10_000).hash));
        assert_eq!(index.applied(), ids.len() as u64);
    }

    #[test]
    fn what_is_no_chunk_is_bad() {
        let seen = tempfile::tempdir().unwrap();
        for (key, value) in [
            (&b"applied"[..], &[0; 8][..]),
            (&[0; 16], &[0; 8]),
            (&[0; 8], &[0; 7]),
            (&[0; 8], &[0; 30]),
            (&[0; 8], &[0; 24]),
        ] {
            OnSled.remove(&folder(seen.path(), DAY)).unwrap();
            let db = OnSled.open(&folder(seen.path(), DAY), CACHE).unwrap();
            db.insert(key, value).unwrap();
            drop(db);
            assert!(DayIndex::open(&OnSled, seen.path(), DAY).is_err(), "{key:?}: {value:?}");
        }
    }
}
