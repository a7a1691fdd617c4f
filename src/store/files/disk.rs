//! The few calls by which the store touches the disk, behind a trait, so that tests can stand a failing disk in.
//!
//! sled opens its files itself and does not go through here; what it holds can be rebuilt.

#[cfg(test)]
pub(in crate::store) mod failing;

use super::guarded::assert_no_lock_held;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What the store asks of an open file. Offsets and lengths are bytes.
pub trait File: Send + Sync {
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`, growing the file if need be.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// `fdatasync`: what was written, and the length if it grew, is on disk once this returns.
    fn sync_data(&self) -> io::Result<()>;
    /// The same, and then what is read comes from the disk: a sync that failed for an earlier process left in the page
    /// cache what is not on disk and, being taken for clean, would never be written.
    fn sync_and_reread(&self) -> io::Result<()>;
    /// The file's length.
    fn length(&self) -> io::Result<u64>;
    /// Cuts or extends the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It must not be there yet; reading and writing.
    New,
    /// It is there; reading and writing.
    Existing,
    /// It is there or not; reading and writing.
    Either,
}

/// What the store asks of the file system.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// Renames within the file system; durable only after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable only after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name; durable only after [`Disk::sync_dir`].
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a folder and all that is below it; durable only after [`Disk::sync_dir`] of the one above.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// `fsync` of a folder: its names are on disk once this returns.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Names and lengths of the files in a folder, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>>;
    /// Free and total bytes of the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Free for this process.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// The real one.
#[derive(Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        assert_no_lock_held();
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true);
        // What is in there is other people's.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match how {
            Open::New => options.create_new(true),
            Open::Existing => &mut options,
            Open::Either => options.create(true).truncate(false),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_no_lock_held();
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        assert_no_lock_held();
        std::fs::remove_file(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_no_lock_held();
        std::fs::hard_link(from, to)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        assert_no_lock_held();
        std::fs::remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        assert_no_lock_held();
        // What is in there is other people's: nobody else on the machine may read it.
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        assert_no_lock_held();
        std::fs::File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        assert_no_lock_held();
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                files.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        assert_no_lock_held();
        let answer = rustix::fs::statvfs(path)?;
        Ok(Space {
            free: answer.f_bavail.saturating_mul(answer.f_frsize),
            total: answer.f_blocks.saturating_mul(answer.f_frsize),
        })
    }
}

/// The real one for those who only look: whatever would change something fails.
#[derive(Debug, Default)]
pub(in crate::store) struct ReadOnlyDisk;

impl Disk for ReadOnlyDisk {
    fn open(&self, path: &Path, _: Open) -> io::Result<Arc<dyn File>> {
        // The system refuses what is written to it.
        Ok(Arc::new(RealFile(std::fs::File::open(path)?)))
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        RealDisk.list(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        RealDisk.space(path)
    }
}

struct RealFile(std::fs::File);

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        assert_no_lock_held();
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match std::os::unix::fs::FileExt::read_at(&self.0, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        assert_no_lock_held();
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        assert_no_lock_held();
        self.0.sync_data()
    }

    fn sync_and_reread(&self) -> io::Result<()> {
        assert_no_lock_held();
        self.0.sync_data()?;
        Ok(rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    fn length(&self) -> io::Result<u64> {
        assert_no_lock_held();
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        assert_no_lock_held();
        self.0.set_len(length)
    }
}
