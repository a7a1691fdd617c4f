//! The lock on a store's folder: one process at a time.

use crate::store::errors::OpenError;
use std::fs::{File, TryLockError};
use std::path::Path;

/// The system gives it back when the process ends, however it ends.
pub(in crate::store) struct Lock(File);

impl Lock {
    /// Opens the file with `open`, and takes it at once or not at all.
    pub(in crate::store) fn take(
        folder: &Path,
        open: impl FnOnce(&Path) -> std::io::Result<File>,
    ) -> Result<Self, OpenError> {
        let path = folder.join("lock");
        let file = open(&path).map_err(|error| OpenError::io(&path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: folder.to_owned() }),
            Err(TryLockError::Error(error)) => Err(OpenError::io(&path, error)),
        }
    }
}

impl Drop for Lock {
    /// Closing would end the lock too, but not while a child process that is just being started still has a copy of the
    /// descriptor.
    fn drop(&mut self) {
        // Should it fail, closing ends the lock all the same.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_its_holder_though_a_copy_of_the_descriptor_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path(), |path| File::create(path)).unwrap();
        assert!(matches!(Lock::take(folder.path(), |path| File::open(path)), Err(OpenError::InUse { .. })));
        // As a child process has one until it begins its own program.
        let copy = lock.0.try_clone().unwrap();
        drop(lock);
        Lock::take(folder.path(), |path| File::open(path)).unwrap();
        drop(copy);
    }
}
