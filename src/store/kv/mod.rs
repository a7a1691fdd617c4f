//! Databases of keys and values: what the journal can give back, and small state. Each has a folder of its own.
//!
//! Three things are told apart: a database works, it is not to be had now, it is corrupt. Only what is corrupt is ever moved
//! aside.

mod on_sled;

pub use on_sled::OnSled;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where databases are. Each call blocks on the disk.
pub trait KeyValue: Send + Sync {
    /// Opens or makes the database in `folder`, with so much memory for what it read. It is closed with its last handle.
    fn open(&self, folder: &Path, cache_bytes: u64) -> Result<Arc<dyn Database>, Bad>;

    /// Whether a fresh database beside the one in `folder` can be opened and written.
    fn works_beside(&self, folder: &Path) -> bool;

    /// Whether there is one.
    fn exists(&self, folder: &Path) -> bool;

    /// The names of what lies in a folder of databases.
    fn names(&self, parent: &Path) -> io::Result<Vec<String>>;

    /// A checksum over all that a closed database has on disk.
    fn checksum(&self, folder: &Path) -> io::Result<u32>;

    /// Moves a database that is proven not sound out of the way, so that people can look at it; what was moved there before
    /// stays. Returns where it is; that it is not there is no error.
    fn set_aside(&self, folder: &Path) -> io::Result<PathBuf>;

    /// The same for one that can be rebuilt: the first is kept for people to look at, later ones are not.
    fn set_aside_once(&self, folder: &Path) -> io::Result<()>;

    /// Removes a database; that it is not there is no error.
    fn remove(&self, folder: &Path) -> io::Result<()>;
}

/// Takes in a key and its value; where it says no, the pair is none that belongs there.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), Bad>;

/// An open database. Each call may block on the disk.
pub trait Database: Send + Sync {
    /// Not on disk for good before [`Self::sync`].
    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), Bad>;

    /// Not on disk for good before [`Self::sync`].
    fn remove(&self, key: &[u8]) -> Result<(), Bad>;

    /// Calls `visit` with each key and its value, by rising key, until it says no.
    fn for_each(&self, visit: Visit<'_>) -> Result<(), Bad>;

    /// Puts everything written so far on disk for good.
    fn sync(&self) -> Result<(), Bad>;
}

/// Why a database is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Bad {
    /// What it holds is proven not sound.
    #[error("{0}")]
    Corrupt(String),
    /// The system does not give what is asked for, now: room, file descriptors, a thread, the lock. What is on disk may be
    /// sound, and nothing of it is touched.
    #[error("{0}")]
    Unavailable(io::Error),
    /// It proves nothing about the files: sled panics at a damaged page, and also where it cannot have a file descriptor.
    #[error("sled panicked")]
    Panicked,
}

impl Bad {
    /// Whether it may be moved aside.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt(_))
    }
}

impl From<Bad> for io::Error {
    fn from(bad: Bad) -> Self {
        match bad {
            Bad::Corrupt(message) => Self::new(io::ErrorKind::InvalidData, message),
            Bad::Unavailable(error) => error,
            Bad::Panicked => Self::other("sled panicked"),
        }
    }
}

/// Runs `open` for the database in `folder`. Where it panics and yet a fresh database beside it can be opened and written,
/// the system gives what is needed, and it is the files that are not sound.
pub(in crate::store) fn judge<T>(
    kv: &dyn KeyValue,
    folder: &Path,
    open: impl FnOnce() -> Result<T, Bad>,
) -> Result<T, Bad> {
    match open() {
        Err(Bad::Panicked) if kv.works_beside(folder) => Err(Bad::Corrupt("sled panicked".to_owned())),
        result => result,
    }
}
