//! A file of nothing, given up when the disk is full, so that positions, ids and dead letters can still be written.

use crate::sometimes;
use crate::store::files::disk::{Disk, Open};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is set aside.
pub(super) const SIZE: u64 = 4 * 1024 * 1024;

pub(in crate::store) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// All of it was synced, so that there is nothing to do while its length says that it is there.
    held: AtomicBool,
}

impl Reserve {
    pub(in crate::store) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path, held: AtomicBool::new(false) }
    }

    /// Sets the bytes aside, if they are not; they are really written, since a sparse file reserves nothing.
    pub(in crate::store) fn hold(&self) -> io::Result<()> {
        let file = self.disk.open(&self.path, Open::Either)?;
        let mut length = file.length()?;
        if length >= SIZE && self.held.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.held.store(false, Ordering::Relaxed);
        let block = vec![0; 256 * 1024];
        while length < SIZE {
            file.write_all_at(&block, length)?;
            length += block.len() as u64;
        }
        file.sync_data()?;
        self.held.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Gives them up. That they are gone already is no error.
    pub(in crate::store) fn release(&self) -> io::Result<()> {
        match self.disk.remove(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Runs `write`; where it meets a full disk, once more after giving up the reserve.
    pub(in crate::store) fn write<T>(&self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match write() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                sometimes::happened("the reserve is given up");
                self.release()?;
                write()
            }
            result => result,
        }
    }
}
