//! How far each sink is, and other small state: sled, with all of it in memory too, since it is small.
//!
//! A position that is lost repeats a send and never skips one; so nothing here is synced but before a segment goes.

use super::sled_guard::{self, Bad};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const CACHE: u64 = 1024 * 1024;
const SINK: &str = "sink/";
const STATE: &str = "state/";
const SINK_STATE: &str = "sink-state/";

/// How far a sink is, and what became of the events up to there.
///
/// Events after `base` and up to `position` = `delivered` + `filtered` + `dead_lettered`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The sink gets events with a sequence greater than this, and the counts begin there.
    pub base: u64,
    /// Events that the store had accepted up to `base`, so that the counts can be proven from the journal.
    pub accepted_before: u64,
    /// Every event up to this sequence is settled.
    pub position: u64,
    /// Confirmed by the peer.
    pub delivered: u64,
    /// Not wanted by the sink.
    pub filtered: u64,
    /// Put among the dead letters.
    pub dead_lettered: u64,
}

/// The state in memory and the database that holds it between runs.
pub(super) struct Meta {
    folder: PathBuf,
    state: Mutex<State>,
    /// What was there could not be read.
    lost: bool,
}

struct State {
    /// `None` while sled is no good; memory goes on.
    db: Option<sled::Db>,
    values: BTreeMap<String, Vec<u8>>,
    sinks: BTreeMap<String, Progress>,
    /// As of the last sync that succeeded.
    durable: BTreeMap<String, u64>,
}

impl Meta {
    /// Opens what is there. What sled cannot read is set aside, and its sinks start again from what the journal knows.
    pub(super) fn open(folder: PathBuf) -> std::io::Result<Self> {
        let mut lost = false;
        let (db, values) = match load(&folder) {
            Ok(loaded) => loaded,
            Err(bad) => {
                tracing::error!(error = %bad, "the positions cannot be read: set aside; sinks repeat what they had since their birth");
                lost = true;
                sled_guard::set_aside(&folder)?;
                load(&folder).map_err(std::io::Error::other)?
            }
        };
        let sinks = sinks_in(&values);
        let durable = sinks.iter().map(|(name, progress)| (name.clone(), progress.position)).collect();
        Ok(Self { folder, state: Mutex::new(State { db: Some(db), values, sinks, durable }), lost })
    }

    /// Whether what was there when the store was opened could not be read.
    pub(super) fn was_lost(&self) -> bool {
        self.lost
    }

    /// A value of somebody else's.
    pub(super) fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.state().values.get(&format!("{STATE}{key}")).cloned()
    }

    /// Not on disk before [`Meta::sync`].
    pub(super) fn set_value(&self, key: &str, value: &[u8]) {
        self.state().put(&format!("{STATE}{key}"), value.to_owned());
    }

    /// A value of somebody else's about a sink: it goes along when that is renamed, and goes with it.
    pub(super) fn sink_value(&self, sink: &str) -> Option<Vec<u8>> {
        self.state().values.get(&format!("{SINK_STATE}{sink}")).cloned()
    }

    /// Not on disk before [`Meta::sync`].
    pub(super) fn set_sink_value(&self, sink: &str, value: Vec<u8>) {
        self.state().put(&format!("{SINK_STATE}{sink}"), value);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self, sink: &str) -> Option<Progress> {
        self.state().sinks.get(sink).copied()
    }

    pub(super) fn sinks(&self) -> BTreeMap<String, Progress> {
        self.state().sinks.clone()
    }

    pub(super) fn set_progress(&self, sink: &str, progress: Progress) {
        // Plain numbers: serialising them into memory cannot fail.
        let value = serde_json::to_vec(&progress).unwrap_or_default();
        let mut state = self.state();
        state.sinks.insert(sink.to_owned(), progress);
        state.put(&format!("{SINK}{sink}"), value);
    }

    pub(super) fn forget(&self, sink: &str) {
        let mut state = self.state();
        state.sinks.remove(sink);
        state.durable.remove(sink);
        for key in [format!("{SINK}{sink}"), format!("{SINK_STATE}{sink}")] {
            state.values.remove(&key);
            state.write(|db| db.remove(&key).map(drop));
        }
    }

    /// The sequence up to which the sink's events may go, by what is on disk for good.
    pub(super) fn durable_position(&self, sink: &str) -> u64 {
        self.state().durable.get(sink).copied().unwrap_or(0)
    }

    /// Hands what was noted to the system, so that a killed process loses none of it (a power cut may).
    pub(super) fn flush(&self) -> std::io::Result<()> {
        let db = self.state().db.clone();
        match db.map(|db| sled_guard::guard(|| db.flush().map(drop))) {
            Some(Ok(())) => Ok(()),
            Some(Err(bad)) => {
                tracing::error!(error = %bad, "the positions cannot be written: the database is made anew");
                self.state().db = None;
                self.sync()
            }
            None => self.sync(),
        }
    }

    /// Puts everything on disk for good. A database that is no good is made anew from memory.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        let (db, positions) = {
            let mut state = self.state();
            if state.db.is_none() {
                sled_guard::set_aside(&self.folder)?;
                let (db, _) = load(&self.folder).map_err(std::io::Error::other)?;
                for (key, value) in &state.values {
                    sled_guard::guard(|| db.insert(key, value.as_slice()).map(drop)).map_err(std::io::Error::other)?;
                }
                state.db = Some(db);
            }
            let positions: BTreeMap<_, _> =
                state.sinks.iter().map(|(name, progress)| (name.clone(), progress.position)).collect();
            (state.db.clone(), positions)
        };
        let Some(db) = db else { return Ok(()) };
        if let Err(bad) = sled_guard::sync(&db, &self.folder) {
            self.state().db = None;
            return Err(std::io::Error::other(bad));
        }
        self.state().durable = positions;
        Ok(())
    }
}

impl State {
    fn put(&mut self, key: &str, value: Vec<u8>) {
        self.write(|db| db.insert(key, value.as_slice()).map(drop));
        self.values.insert(key.to_owned(), value);
    }

    fn write(&mut self, call: impl FnOnce(&sled::Db) -> sled::Result<()>) {
        let Some(db) = &self.db else { return };
        if let Err(bad) = sled_guard::guard(|| call(db)) {
            tracing::error!(error = %bad, "the positions cannot be written: they are kept in memory until the database is rebuilt");
            self.db = None;
        }
    }
}

/// How far each sink is, from a database that nobody has open. Opening it may change its files.
pub(super) fn read(folder: &Path) -> Result<BTreeMap<String, Progress>, Bad> {
    load(folder).map(|(_, values)| sinks_in(&values))
}

fn sinks_in(values: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Progress> {
    let sink = |(key, value): (&String, &Vec<u8>)| {
        Some((key.strip_prefix(SINK)?.to_owned(), serde_json::from_slice(value).ok()?))
    };
    values.iter().filter_map(sink).collect()
}

type Loaded = (sled::Db, BTreeMap<String, Vec<u8>>);

fn load(folder: &Path) -> Result<Loaded, Bad> {
    let db = sled_guard::open(folder, CACHE)?;
    let mut values = BTreeMap::new();
    sled_guard::guard(|| {
        for pair in db.iter() {
            let (key, value): (sled::IVec, sled::IVec) = pair?;
            values.insert(String::from_utf8_lossy(&key).into_owned(), value.to_vec());
        }
        Ok(())
    })?;
    Ok((db, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_and_count_as_durable_only_once_synced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta");
        let progress =
            Progress { base: 3, accepted_before: 3, position: 10, delivered: 5, filtered: 1, dead_lettered: 1 };
        {
            let meta = Meta::open(path.clone()).unwrap();
            meta.set_progress("lake", progress);
            assert_eq!(meta.durable_position("lake"), 0);
            meta.sync().unwrap();
            assert_eq!(meta.durable_position("lake"), 10);
        }
        let meta = Meta::open(path).unwrap();
        assert_eq!(meta.progress("lake"), Some(progress));
        assert_eq!(meta.durable_position("lake"), 10);
        assert_eq!(meta.sink_value("lake"), None);
        meta.set_sink_value("lake", b"1".to_vec());
        assert_eq!(meta.sink_value("lake"), Some(b"1".to_vec()));
        meta.forget("lake");
        assert_eq!((meta.progress("lake"), meta.sink_value("lake")), (None, None));
    }

    #[test]
    fn small_state_is_kept_beside_the_positions_and_its_loss_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta");
        {
            let meta = Meta::open(path.clone()).unwrap();
            assert_eq!((meta.value("backfill/acme"), meta.was_lost()), (None, false));
            meta.set_value("backfill/acme", b"1");
            meta.set_value("backfill/acme", b"2");
            meta.sync().unwrap();
        }
        let meta = Meta::open(path.clone()).unwrap();
        assert_eq!((meta.value("backfill/acme"), meta.was_lost()), (Some(b"2".to_vec()), false));
        assert!(meta.sinks().is_empty(), "it is no sink's");
        drop(meta);
        std::fs::remove_file(path.join("db")).unwrap();
        std::fs::create_dir(path.join("db")).unwrap();
        let meta = Meta::open(path).unwrap();
        assert_eq!((meta.value("backfill/acme"), meta.was_lost()), (None, true));
    }

    #[test]
    fn a_damaged_database_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta");
        {
            let meta = Meta::open(path.clone()).unwrap();
            meta.set_progress("lake", Progress::default());
            meta.sync().unwrap();
        }
        std::fs::remove_file(path.join("db")).unwrap();
        std::fs::create_dir(path.join("db")).unwrap();
        let meta = Meta::open(path).unwrap();
        assert_eq!(meta.progress("lake"), None);
        assert!(folder.path().join("meta.bad").is_dir());
    }
}
