//! The machine's disk, whose syncs of segments can be held: what is offered meanwhile is committed as one group.
#![cfg(test)]

use e2b_relay::store::{Disk, File, Open, RealDisk, Space};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

#[derive(Default)]
struct State {
    closed: bool,
    /// Somebody waits before the gate.
    held: bool,
}

/// Open at first.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    /// Whoever syncs a segment from now on waits.
    pub(crate) fn close(&self) {
        *self.state.lock().unwrap() = State { closed: true, held: false };
    }

    /// Returns once somebody does.
    pub(crate) fn until_held(&self) {
        drop(self.wait(|state| !state.held));
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().closed = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        self.state.lock().unwrap().held = true;
        self.changed.notify_all();
        drop(self.wait(|state| state.closed));
    }

    fn wait(&self, unless: impl Fn(&mut State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(self.state.lock().unwrap(), unless).unwrap()
    }
}

pub(crate) struct GatedDisk(pub(crate) Arc<Gate>);

struct GatedFile(Arc<dyn File>, Arc<Gate>);

impl Disk for GatedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path, how)?;
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        Ok(if is_segment { Arc::new(GatedFile(file, Arc::clone(&self.0))) } else { file })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        RealDisk.list(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        RealDisk.space(path)
    }
}

impl File for GatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync_data()
    }

    fn sync_and_reread(&self) -> io::Result<()> {
        self.0.sync_and_reread()
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}
