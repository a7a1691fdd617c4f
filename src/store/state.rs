//! Small state by name, and about a sink by its key: a database, with all of it in memory too, since it is small.

use super::files::guarded::{Guard, Guarded};
use super::kv::{Bad, Database, KeyValue, judge};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CACHE: u64 = 1024 * 1024;
const STATE: &str = "state/";
const SINK_STATE: &str = "sink-state/";
/// Where version 0.1.0 kept the positions.
pub(super) const SINK: &str = "sink/";

/// The state in memory and the database that holds it between runs.
pub(super) struct SmallState {
    kv: Arc<dyn KeyValue>,
    folder: PathBuf,
    state: Guarded<State>,
    /// What was there could not be read.
    lost: bool,
}

struct State {
    /// `None` while the database is no good; memory goes on.
    db: Option<Arc<dyn Database>>,
    values: BTreeMap<String, Vec<u8>>,
    closed: bool,
}

impl SmallState {
    /// Opens what is there. What is proven corrupt is moved aside; where it is not to be had now, that is an error.
    pub(super) fn open(kv: Arc<dyn KeyValue>, folder: PathBuf) -> std::io::Result<Self> {
        let (loaded, lost) = match judge(&*kv, &folder, || load(&*kv, &folder)) {
            Err(bad) if bad.is_corrupt() => {
                let aside = kv.set_aside(&folder)?;
                tracing::error!(
                    error = %bad, kept = %aside.display(),
                    "the small state is corrupt: moved aside; cursors of the backfill and replays begin anew"
                );
                (load(&*kv, &folder), true)
            }
            loaded => (loaded, false),
        };
        let (db, values) = loaded?;
        Ok(Self { kv, folder, state: Guarded::new(State { db: Some(db), values, closed: false }), lost })
    }

    /// Whether what was there when the store was opened could not be read.
    pub(super) fn was_lost(&self) -> bool {
        self.lost
    }

    /// A value.
    pub(super) fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.state().values.get(&format!("{STATE}{key}")).cloned()
    }

    /// Not on disk before [`Self::sync`].
    pub(super) fn set_value(&self, key: &str, value: &[u8]) {
        self.state().put(&format!("{STATE}{key}"), value.to_owned());
    }

    /// A value about a sink, by its key.
    pub(super) fn sink_value(&self, sink: &str) -> Option<Vec<u8>> {
        self.state().values.get(&format!("{SINK_STATE}{sink}")).cloned()
    }

    /// Not on disk before [`Self::sync`].
    pub(super) fn set_sink_value(&self, sink: &str, value: Vec<u8>) {
        self.state().put(&format!("{SINK_STATE}{sink}"), value);
    }

    /// Forgets the values about sinks but those of these keys.
    pub(super) fn retain_sinks(&self, keys: impl Fn(&str) -> bool) {
        let mut state = self.state();
        let over = |key: &&String| key.strip_prefix(SINK_STATE).is_some_and(|sink| !keys(sink));
        let over: Vec<String> = state.values.keys().filter(over).cloned().collect();
        for key in over {
            state.values.remove(&key);
            state.write(|db| db.remove(key.as_bytes()));
        }
    }

    fn state(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// Puts everything on disk for good. A database that is no good is made anew from memory.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        let (db, values) = {
            let state = self.state();
            if state.closed {
                return Err(std::io::Error::other("the store is closed"));
            }
            (state.db.clone(), if state.db.is_none() { state.values.clone() } else { BTreeMap::new() })
        };
        let db = match db {
            Some(db) => db,
            None => {
                let db = self.make_anew(&values)?;
                self.state().db = Some(db.clone());
                db
            }
        };
        db.sync().map_err(|bad| {
            self.state().db = None;
            std::io::Error::from(bad)
        })
    }

    /// Memory has what the database had, and more: what cannot be written any more is no loss.
    fn make_anew(&self, values: &BTreeMap<String, Vec<u8>>) -> std::io::Result<Arc<dyn Database>> {
        self.kv.remove(&self.folder)?;
        let (db, _) = load(&*self.kv, &self.folder)?;
        for (key, value) in values {
            db.insert(key.as_bytes(), value)?;
        }
        Ok(db)
    }

    /// Puts everything on disk for good; whatever comes later is refused.
    pub(super) fn close(&self) -> std::io::Result<()> {
        let synced = self.sync();
        let mut state = self.state();
        (state.closed, state.db) = (true, None);
        synced
    }
}

impl State {
    fn put(&mut self, key: &str, value: Vec<u8>) {
        self.write(|db| db.insert(key.as_bytes(), &value));
        self.values.insert(key.to_owned(), value);
    }

    fn write(&mut self, call: impl FnOnce(&dyn Database) -> Result<(), Bad>) {
        let Some(db) = &self.db else { return };
        if let Err(bad) = call(&**db) {
            tracing::error!(error = %bad, "small state cannot be written: it is kept in memory until the database is made anew");
            self.db = None;
        }
    }
}

type Loaded = (Arc<dyn Database>, BTreeMap<String, Vec<u8>>);

/// Opens the database, and reads all of it.
pub(super) fn load(kv: &dyn KeyValue, folder: &Path) -> Result<Loaded, Bad> {
    let db = kv.open(folder, CACHE)?;
    let mut values = BTreeMap::new();
    db.for_each(&mut |key, value| {
        values.insert(String::from_utf8_lossy(key).into_owned(), value.to_vec());
        Ok(())
    })?;
    Ok((db, values))
}

#[cfg(test)]
mod tests {
    use super::super::kv::OnSled;
    use super::*;

    fn open(folder: PathBuf) -> std::io::Result<SmallState> {
        SmallState::open(Arc::new(OnSled), folder)
    }

    #[test]
    fn it_is_kept_and_its_loss_is_known_and_kept_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta");
        {
            let state = open(path.clone()).unwrap();
            assert_eq!((state.value("backfill/acme"), state.was_lost()), (None, false));
            state.set_value("backfill/acme", b"1");
            state.set_value("backfill/acme", b"2");
            state.set_sink_value("lake", b"3".to_vec());
            state.set_sink_value("gone", b"4".to_vec());
            state.retain_sinks(|key| key == "lake");
            state.close().unwrap();
            state.set_value("backfill/acme", b"5");
            assert!(state.sync().is_err(), "nothing is written behind the end");
        }
        let state = open(path.clone()).unwrap();
        assert_eq!((state.value("backfill/acme"), state.was_lost()), (Some(b"2".to_vec()), false));
        assert_eq!((state.sink_value("lake"), state.sink_value("gone")), (Some(b"3".to_vec()), None));
        drop(state);
        for kept in ["meta.bad", "meta.bad-1"] {
            std::fs::remove_file(path.join("db")).unwrap();
            std::fs::create_dir(path.join("db")).unwrap();
            let state = open(path.clone()).unwrap();
            assert_eq!((state.value("backfill/acme"), state.was_lost()), (None, true));
            assert!(folder.path().join(kept).join("db").is_dir());
        }
    }

    #[test]
    fn what_is_in_use_is_not_taken_for_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta");
        let state = open(path.clone()).unwrap();
        state.set_value("backfill/acme", b"1");
        assert!(open(path.clone()).is_err());
        state.close().unwrap();
        assert_eq!(open(path).unwrap().value("backfill/acme"), Some(b"1".to_vec()));
        assert!(!folder.path().join("meta.bad").exists());
    }
}
