//! A real disk, one call of which fails.

use super::{Disk, File, Open, RealDisk, Space};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct State {
    calls: usize,
    fails_at: usize,
    failed: Option<&'static str>,
}

/// Fails with EIO at one call that changes something, and does nothing then. Clones count together.
#[derive(Clone, Default)]
pub(in crate::store) struct FailingDisk(Arc<Mutex<State>>);

impl FailingDisk {
    /// Which of its calls fails, the first being 0.
    pub(in crate::store) fn new(fails_at: usize) -> Self {
        Self(Arc::new(Mutex::new(State { fails_at, ..State::default() })))
    }

    /// The call that failed, if it came to that.
    pub(in crate::store) fn failed(&self) -> Option<&'static str> {
        self.0.lock().unwrap().failed
    }

    fn call(&self, name: &'static str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let call = state.calls;
        state.calls += 1;
        if call == state.fails_at {
            state.failed = Some(name);
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

impl Disk for FailingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        if how != Open::Existing {
            self.call("open")?;
        }
        Ok(Arc::new(FailingFile(self.clone(), RealDisk.open(path, how)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename")?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove")?;
        RealDisk.remove(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("link")?;
        RealDisk.link(from, to)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call("remove_dir_all")?;
        RealDisk.remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call("create_dir_all")?;
        RealDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call("sync_dir")?;
        RealDisk.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        RealDisk.list(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        RealDisk.space(path)
    }
}

struct FailingFile(FailingDisk, Arc<dyn File>);

impl File for FailingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.call("write_all_at")?;
        self.1.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.call("sync_data")?;
        self.1.sync_data()
    }

    fn sync_and_reread(&self) -> io::Result<()> {
        self.0.call("sync_and_reread")?;
        self.1.sync_and_reread()
    }

    fn length(&self) -> io::Result<u64> {
        self.1.length()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.call("set_len")?;
        self.1.set_len(length)
    }
}
