//! What the store answers where it does not do what it is asked.

use std::io;
use std::path::{Path, PathBuf};

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{path} is in use by another daemon; two on one folder would overwrite each other's events: stop it, or set another store.path"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Another version's, or not a store.
    #[error("{0}")]
    Format(String),
    /// It is of an earlier version, and there is no room for the copy that is made before it is changed.
    #[error(
        "{path} is of an earlier version, and the copy that is made before it is changed needs {wanted} bytes, where {free} are free; make room, or use the version that wrote it"
    )]
    Room {
        /// The folder.
        path: PathBuf,
        /// Bytes.
        wanted: u64,
        /// Bytes.
        free: u64,
    },
    /// The disk does not do what is asked.
    #[error("{path}: {source}")]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// Why nothing is accepted for now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No room; the text says which limit.
    #[error("the store is full: {0}")]
    Full(String),
    /// Too many wait for the disk.
    #[error("too many events wait for the disk")]
    Overloaded,
    /// The store is being closed.
    #[error("the store is being closed")]
    Draining,
    /// The disk does not take what is written; the text is the system's.
    #[error("the store cannot write: {0}")]
    Failed(String),
    /// The same of a change to the sinks, which may be on disk all the same.
    #[error(
        "the store cannot write ({0}), nor tell whether the change is on disk: leave the settings as they now are, and load them or start again once the disk works"
    )]
    Unknown(String),
}

/// Why the sinks of the settings are not attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The store takes nothing.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// `renamed_from` contradicts what is known; the text says how, and what to change.
    #[error("{0}")]
    Rename(String),
}
