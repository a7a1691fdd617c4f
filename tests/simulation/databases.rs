//! Databases in memory, as sled's are: what was written is there, and what was not synced may be lost behind a power cut or a
//! kill, the last of it first. Held against the real ones by `agrees`.

use crate::support::fault_disk::World;
use e2b_relay::store::{Bad, Database, KeyValue, Visit};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;
type Change = (Vec<u8>, Option<Vec<u8>>);

#[derive(Default)]
struct Folder {
    /// On disk for good.
    synced: Pairs,
    /// What came since.
    unsynced: Vec<Change>,
    is_open: bool,
    is_spoilt: bool,
}

impl Folder {
    fn pairs(&self) -> Pairs {
        let mut pairs = self.synced.clone();
        self.unsynced.iter().for_each(|change| apply(&mut pairs, change));
        pairs
    }
}

fn apply(pairs: &mut Pairs, (key, value): &Change) {
    match value {
        Some(value) => drop(pairs.insert(key.clone(), value.clone())),
        None => drop(pairs.remove(key)),
    }
}

#[derive(Default)]
struct State {
    folders: BTreeMap<PathBuf, Folder>,
    life: u64,
    /// Of so many calls one fails; none for 0.
    fails: u32,
    rng: Rng,
    failed: u64,
    /// Where the power may be cut.
    world: Option<World>,
}

/// All databases of a medium. Cloning shares them.
#[derive(Clone, Default)]
pub(super) struct Databases(Arc<Mutex<State>>);

impl Databases {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State { rng: Rng::with_seed(seed), ..State::default() })))
    }

    /// On the medium of this world: what comes behind a cut of its power does not happen.
    pub(super) fn on(world: &World, seed: u64) -> Self {
        let databases = Self::new(seed);
        databases.state().world = Some(world.clone());
        databases
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// As the next process sees them.
    pub(super) fn of_this_life(&self) -> Arc<dyn KeyValue> {
        let life = self.state().life;
        Arc::new(Life { all: self.clone(), life })
    }

    pub(super) fn fail_one_of(&self, calls: u32) {
        self.state().fails = calls;
    }

    pub(super) fn failed(&self) -> u64 {
        self.state().failed
    }

    /// One of those below `parent` is not sound any more. Whether there was any.
    pub(super) fn spoil(&self, parent: &Path) -> bool {
        let mut state = self.state();
        let State { folders, rng, .. } = &mut *state;
        let below = folders.iter_mut().filter(|(folder, _)| folder.parent() == Some(parent));
        let chosen = rng.choice(below.map(|(_, folder)| folder).collect::<Vec<_>>());
        chosen.map(|folder| folder.is_spoilt = true).is_some()
    }

    /// The process ends; what was not synced is there as far as it likes.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.life += 1;
        let State { folders, rng, .. } = &mut *state;
        for folder in folders.values_mut() {
            folder.is_open = false;
            let kept = rng.usize(0..=folder.unsynced.len());
            folder.unsynced.truncate(kept);
            for change in std::mem::take(&mut folder.unsynced) {
                apply(&mut folder.synced, &change);
            }
        }
    }
}

struct Life {
    all: Databases,
    life: u64,
}

struct Open {
    all: Databases,
    life: u64,
    folder: PathBuf,
}

impl State {
    /// Whether this call fails by plan, or since the process has ended.
    fn enter(&mut self, life: u64) -> Result<(), Bad> {
        if self.life != life || self.world.as_ref().is_some_and(World::is_cut) {
            return Err(Bad::Unavailable(io::Error::other("the process has ended")));
        }
        if self.fails > 0 && self.rng.u32(0..self.fails) == 0 {
            self.failed += 1;
            return Err(Bad::Unavailable(io::Error::from_raw_os_error(5)));
        }
        Ok(())
    }
}

fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl KeyValue for Life {
    fn open(&self, folder: &Path, _: u64) -> Result<Arc<dyn Database>, Bad> {
        let mut state = self.all.state();
        state.enter(self.life)?;
        let found = state.folders.entry(folder.to_owned()).or_default();
        if found.is_spoilt {
            return Err(Bad::Corrupt("spoilt".to_owned()));
        }
        if std::mem::replace(&mut found.is_open, true) {
            return Err(Bad::Unavailable(io::Error::other("could not acquire lock")));
        }
        Ok(Arc::new(Open { all: self.all.clone(), life: self.life, folder: folder.to_owned() }))
    }

    fn works_beside(&self, _: &Path) -> bool {
        self.all.state().enter(self.life).is_ok()
    }

    fn exists(&self, folder: &Path) -> bool {
        self.all.state().folders.contains_key(folder)
    }

    fn names(&self, parent: &Path) -> io::Result<Vec<String>> {
        let mut state = self.all.state();
        state.enter(self.life)?;
        let inside = state.folders.keys().filter(|folder| folder.parent() == Some(parent));
        Ok(inside.filter_map(|folder| Some(folder.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn checksum(&self, folder: &Path) -> io::Result<u32> {
        let mut state = self.all.state();
        state.enter(self.life)?;
        let mut sum = DefaultHasher::new();
        state.folders.get(folder).map(Folder::pairs).hash(&mut sum);
        Ok(sum.finish() as u32)
    }

    fn set_aside(&self, folder: &Path) -> io::Result<PathBuf> {
        let mut state = self.all.state();
        state.enter(self.life)?;
        let mut aside = beside(folder, ".bad");
        for number in 1.. {
            if !state.folders.contains_key(&aside) {
                break;
            }
            aside = beside(folder, &format!(".bad-{number}"));
        }
        if let Some(moved) = state.folders.remove(folder) {
            state.folders.insert(aside.clone(), moved);
        }
        Ok(aside)
    }

    fn set_aside_once(&self, folder: &Path) -> io::Result<()> {
        if self.exists(&beside(folder, ".bad")) { self.remove(folder) } else { self.set_aside(folder).map(drop) }
    }

    fn remove(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.all.state();
        state.enter(self.life)?;
        state.folders.remove(folder);
        Ok(())
    }
}

impl Open {
    fn change(&self, change: Change) -> Result<(), Bad> {
        let mut state = self.all.state();
        state.enter(self.life)?;
        // A folder that was removed meanwhile takes what is written, and nobody finds it again.
        if let Some(folder) = state.folders.get_mut(&self.folder) {
            folder.unsynced.push(change);
        }
        Ok(())
    }
}

impl Database for Open {
    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), Bad> {
        self.change((key.to_owned(), Some(value.to_owned())))
    }

    fn remove(&self, key: &[u8]) -> Result<(), Bad> {
        self.change((key.to_owned(), None))
    }

    fn for_each(&self, visit: Visit<'_>) -> Result<(), Bad> {
        let pairs = {
            let mut state = self.all.state();
            state.enter(self.life)?;
            state.folders.get(&self.folder).map(Folder::pairs).unwrap_or_default()
        };
        pairs.iter().try_for_each(|(key, value)| visit(key, value))
    }

    fn sync(&self) -> Result<(), Bad> {
        let mut state = self.all.state();
        state.enter(self.life)?;
        if let Some(folder) = state.folders.get_mut(&self.folder) {
            for change in std::mem::take(&mut folder.unsynced) {
                apply(&mut folder.synced, &change);
            }
        }
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.all.state();
        if state.life == self.life
            && let Some(folder) = state.folders.get_mut(&self.folder)
        {
            folder.is_open = false;
        }
    }
}
