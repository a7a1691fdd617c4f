//! A disk in memory that keeps apart what is on it for good and what only the page cache holds, fails by plan, and at a
//! power cut forgets whatever was not synced: all of it, none of it, or any part.
//!
//! One [`World`] outlives many processes: each [`World::disk`] is a life, whose calls fail once it has ended.

#![allow(dead_code, reason = "two test binaries, each of which uses its part")]

mod calls;

use calls::FaultDisk;
use e2b_relay::store::{Disk, assert_no_lock_held};
use fastrand::Rng;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Bytes before and behind a place that rots by which it can be spared.
const AROUND: usize = 400;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power fails during the call: its effect may be on disk, and nothing answers any more.
    Cut,
    /// The same, but not before something is written to a file.
    CutInWrite,
    /// EIO. A write leaves a part of itself in the cache; a failed sync leaves open what is on disk.
    Io,
    /// The next sync of a file fails, and what it had to write stays in the cache and is never written, as on Linux. From
    /// then on every call fails.
    LostSync,
    /// ENOSPC, where something is written or made.
    Full,
}

/// Which calls of a life go wrong: `calls` of them from call number `at` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub at: u64,
    pub calls: u64,
    pub fault: Fault,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// What was not synced is lost, or not, or torn.
    PowerCut,
    /// The process alone: the page cache stays, and with it what a failed sync never wrote.
    Kill,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub cuts: u64,
    pub kills: u64,
    /// Unsynced writes of which a part reached the disk.
    pub torn: u64,
    /// Calls that were made to fail.
    pub failed: u64,
}

type Inode = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(Inode),
}

type Names = BTreeMap<PathBuf, Node>;

/// A change to a folder that is not synced yet.
enum NameChange {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

impl NameChange {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(_, path, _) => path.parent(),
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Unlink(path) => drop(names.remove(path)),
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

/// A change to a file that is not synced yet.
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let (start, end) = (*offset as usize, *offset as usize + data.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
            }
            Self::Length(length) => bytes.resize(*length as usize, 0),
        }
    }

    /// Any part of it: what is before a byte, what is behind it, or some of its sectors.
    fn tear(&self, bytes: &mut Vec<u8>, rng: &mut Rng) {
        let Self::Write(offset, data) = self else { return };
        let at = rng.usize(0..=data.len());
        let mut put = |from: usize, to: usize| Self::Write(offset + from as u64, data[from..to].to_vec()).apply(bytes);
        match rng.u8(0..3) {
            0 => put(0, at),
            1 => put(at, data.len()),
            _ => {
                for start in (0..data.len()).step_by(512) {
                    if rng.bool() {
                        put(start, (start + 512).min(data.len()));
                    }
                }
            }
        }
    }
}

#[derive(Default)]
struct Content {
    /// What a read sees.
    cache: Vec<u8>,
    /// What is on the medium.
    disk: Vec<u8>,
    /// What will be written there, in the order of the calls.
    dirty: Vec<Change>,
}

struct State {
    rng: Rng,
    life: u64,
    cut: bool,
    calls: u64,
    plan: Option<Plan>,
    /// Bytes that are free, as the store is told.
    free: u64,
    /// There is no room, until something is removed.
    full: bool,
    files: HashMap<Inode, Content>,
    names: Names,
    names_on_disk: Names,
    unsynced: Vec<NameChange>,
    next_inode: Inode,
    tally: Tally,
}

/// The medium and its page cache.
#[derive(Clone)]
pub(crate) struct World {
    /// Below it everything is kept here; it is there itself.
    root: PathBuf,
    state: Arc<Mutex<State>>,
    syncs: Arc<Gate>,
}

/// Where `fdatasync` may be held up.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    /// Below which folder it is shut.
    shut: Option<PathBuf>,
    /// How many wait before it.
    waiting: usize,
}

impl Gate {
    fn pass(&self, path: &Path) {
        let mut state = self.state.lock().unwrap();
        let is_shut = |state: &mut GateState| state.shut.as_ref().is_some_and(|folder| path.starts_with(folder));
        if is_shut(&mut state) {
            state.waiting += 1;
            self.changed.notify_all();
            state = self.changed.wait_while(state, is_shut).unwrap();
            state.waiting -= 1;
        }
    }
}

impl World {
    pub(crate) fn new(root: &Path, seed: u64) -> Self {
        let state = State {
            rng: Rng::with_seed(seed),
            life: 0,
            cut: false,
            calls: 0,
            plan: None,
            // Enough for all a test writes, and not enough for the reserve file, which would only make it slow.
            free: 8 << 20,
            full: false,
            files: HashMap::new(),
            names: Names::new(),
            names_on_disk: Names::new(),
            unsynced: Vec::new(),
            next_inode: 1,
            tally: Tally::default(),
        };
        Self { root: root.into(), state: Arc::new(Mutex::new(state)), syncs: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The disk as the next process sees it.
    pub(crate) fn disk(&self, plan: Option<Plan>) -> Arc<dyn Disk> {
        let mut state = self.state();
        (state.plan, state.calls) = (plan, 0);
        let life = state.life;
        drop(state);
        self.disk_of(life)
    }

    /// The disk as whoever else is in this life sees it: what goes wrong goes on.
    pub(crate) fn disk_beside(&self) -> Arc<dyn Disk> {
        let life = self.state().life;
        self.disk_of(life)
    }

    fn disk_of(&self, life: u64) -> Arc<dyn Disk> {
        Arc::new(FaultDisk { world: self.clone(), life })
    }

    /// Whether the planned cut has come.
    pub(crate) fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// Calls are counted anew from here on, and go wrong by this plan.
    pub(crate) fn plan(&self, plan: Plan) {
        let mut state = self.state();
        (state.plan, state.calls) = (Some(plan), 0);
    }

    /// Nothing goes wrong from here on, unless the power is cut already.
    pub(crate) fn heal(&self) {
        self.state().plan = None;
    }

    /// So much is free, as the store is told.
    pub(crate) fn set_free(&self, bytes: u64) {
        self.state().free = bytes;
    }

    /// ENOSPC from here on, until something is removed.
    pub(crate) fn fill(&self) {
        self.state().full = true;
    }

    /// Whether that is so.
    pub(crate) fn is_full(&self) -> bool {
        self.state().full
    }

    /// From here on `fdatasync` does not return, until the syncs are released.
    pub(crate) fn block_syncs(&self) {
        self.block_syncs_below(&self.root);
    }

    /// The same for the files below one folder alone.
    pub(crate) fn block_syncs_below(&self, folder: &Path) {
        self.syncs.state.lock().unwrap().shut = Some(folder.into());
    }

    /// Returns once somebody waits for one that is blocked.
    pub(crate) fn until_a_sync_is_blocked(&self) {
        let state = self.syncs.state.lock().unwrap();
        drop(self.syncs.changed.wait_while(state, |state| state.shut.is_none() || state.waiting == 0).unwrap());
    }

    pub(crate) fn release_syncs(&self) {
        self.syncs.state.lock().unwrap().shut = None;
        self.syncs.changed.notify_all();
    }

    /// There is room again.
    pub(crate) fn make_room(&self) {
        self.state().full = false;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.state().tally
    }

    /// Whether a file or folder is there.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        self.state().names.contains_key(path)
    }

    /// The length of a file that is there, as the process sees it.
    pub(crate) fn length(&self, path: &Path) -> Option<usize> {
        let state = self.state();
        match state.names.get(path)? {
            Node::File(inode) => Some(state.files[inode].cache.len()),
            Node::Folder => None,
        }
    }

    /// A bit of a file turns, or a stretch of it becomes anything, somewhere in what was written to it behind `from`; on the
    /// medium for good. `of` says which files, `spares` by what is around a place that it is not to be there. What and where,
    /// if there is any.
    pub(crate) fn rot(
        &self,
        from: usize,
        of: impl Fn(&Path) -> bool,
        spares: impl Fn(&[u8]) -> bool,
    ) -> Option<String> {
        let mut guard = self.state();
        let state = &mut *guard;
        let files: Vec<_> = state.names.iter().filter(|(path, _)| of(path)).collect();
        let (path, node) = state.rng.choice(files)?;
        let Node::File(inode) = node else { return None };
        let content = state.files.get_mut(inode)?;
        let written = content.disk.iter().rposition(|byte| *byte != 0)?;
        if written < from {
            return None;
        }
        let at = state.rng.usize(from..=written);
        let length = if state.rng.bool() { 1 } else { state.rng.usize(1..5_000) };
        let bytes: Vec<u8> = match length {
            1 => vec![content.disk[at] ^ (1 << state.rng.u8(0..8))],
            _ if state.rng.bool() => vec![0; length],
            _ => (0..length).map(|_| state.rng.u8(..)).collect(),
        };
        let around = at.saturating_sub(AROUND)..(at + length + AROUND).min(content.disk.len());
        if content.disk.get(around).is_some_and(spares) {
            return None;
        }
        for medium in [&mut content.cache, &mut content.disk] {
            let end = (at + length).min(medium.len());
            if let Some(place) = medium.get_mut(at..end) {
                place.copy_from_slice(&bytes[..place.len()]);
            }
        }
        Some(format!("{length} bytes of {:?} at {at} of {written}", path.file_name()))
    }

    /// Ends the life of whoever has the disk. From here on its calls fail and change nothing.
    pub(crate) fn end(&self, how: End) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.life += 1;
        state.cut = false;
        match how {
            End::Kill => state.tally.kills += 1,
            End::PowerCut => state.lose_power(&self.root),
        }
    }
}

impl State {
    fn lose_power(&mut self, root: &Path) {
        self.tally.cuts += 1;
        // All or nothing often enough: what is likeliest in practice.
        let mood = self.rng.u8(0..4);
        let survives = |rng: &mut Rng| match mood {
            0 => 0,
            1 => 2,
            _ => rng.u8(0..3),
        };
        for change in std::mem::take(&mut self.unsynced) {
            if survives(&mut self.rng) >= 1 {
                change.apply(&mut self.names_on_disk);
            }
        }
        let mut inodes: Vec<Inode> = self.files.keys().copied().collect();
        inodes.sort_unstable();
        for inode in inodes {
            let Content { cache, disk, dirty } = self.files.get_mut(&inode).unwrap();
            for change in std::mem::take(dirty) {
                match survives(&mut self.rng) {
                    0 => {}
                    1 => {
                        self.tally.torn += 1;
                        change.tear(disk, &mut self.rng);
                    }
                    _ => change.apply(disk),
                }
            }
            cache.clone_from(disk);
        }
        let on_disk = self.names_on_disk.clone();
        let reachable = |path: &Path| {
            path.ancestors().skip(1).take_while(|folder| *folder != root).all(|folder| on_disk.contains_key(folder))
        };
        self.names_on_disk.retain(|path, _| reachable(path));
        self.names = self.names_on_disk.clone();
        let names = &self.names;
        self.files.retain(|inode, _| names.values().any(|node| *node == Node::File(*inode)));
    }

    /// Counts the call, and says what goes wrong with it. `writes`: whether it needs room.
    fn enter(&mut self, life: u64, writes: bool) -> io::Result<Option<Fault>> {
        assert_no_lock_held();
        if self.life != life || self.cut {
            return Err(io::Error::other("the power is cut"));
        }
        let call = self.calls;
        self.calls += 1;
        let planned = |plan: &Plan| (plan.at..plan.at.saturating_add(plan.calls)).contains(&call);
        let fault = self.plan.filter(planned).map(|plan| plan.fault).filter(|fault| !fault.is_patient());
        if self.full && writes {
            return Ok(Some(Fault::Full));
        }
        if fault.is_none() || (fault == Some(Fault::Full) && !writes) {
            return Ok(None);
        }
        if fault == Some(Fault::Cut) {
            self.cut = true;
        } else {
            self.tally.failed += 1;
        }
        Ok(fault)
    }

    /// A call that changes names, or asks for something: not done at all when it fails, done but unsynced at a cut.
    fn simple(&mut self, life: u64, writes: bool) -> io::Result<bool> {
        match self.enter(life, writes)? {
            None => Ok(false),
            Some(Fault::Cut) => Ok(true),
            Some(fault) => Err(error(fault)),
        }
    }

    /// Whether it is time for a fault that waits for its call.
    fn due(&self, fault: Fault) -> bool {
        !self.cut && self.plan.is_some_and(|plan| plan.fault == fault && self.calls >= plan.at)
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced.push(change);
    }

    fn content(&mut self, inode: Inode) -> &mut Content {
        self.files.entry(inode).or_default()
    }

    fn alter(&mut self, inode: Inode, change: Change) {
        let content = self.content(inode);
        change.apply(&mut content.cache);
        content.dirty.push(change);
    }
}

impl Fault {
    /// Whether it waits for a call of its kind.
    fn is_patient(self) -> bool {
        matches!(self, Self::CutInWrite | Self::LostSync)
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Cut | Fault::CutInWrite => io::Error::other("the power is cut"),
        Fault::Io | Fault::LostSync => io::Error::from_raw_os_error(5),
        Fault::Full => io::Error::from_raw_os_error(28),
    }
}

fn unless_cut(cut: bool) -> io::Result<()> {
    if cut { Err(error(Fault::Cut)) } else { Ok(()) }
}
