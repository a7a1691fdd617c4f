//! The positions of a stopped store, read from a copy: sled writes to whatever it opens.

use super::super::meta::{self, Progress};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("e2b-relay-verify-{}", uuid::Uuid::new_v4()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            let message = format!(
                "is read from a copy, for which {} cannot be made: {error}; let TMPDIR name a folder that can be written",
                path.display()
            );
            io::Error::new(error.kind(), message)
        })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), error = %error, "a temporary folder is left behind");
        }
    }
}

/// How far each sink is.
pub(super) fn read(folder: &Path, faults: &mut Vec<String>) -> io::Result<BTreeMap<String, Progress>> {
    let scratch = Scratch::new()?;
    let copied = scratch.0.join("meta");
    copy(folder, &copied)?;
    Ok(meta::read(&copied).unwrap_or_else(|bad| {
        faults.push(format!("meta: the positions cannot be read: {bad}; sinks will repeat what they had"));
        BTreeMap::new()
    }))
}

/// The sequences up to which events are to be counted, each at none.
pub(super) fn marks(sinks: &BTreeMap<String, Progress>) -> BTreeMap<u64, u64> {
    sinks.values().flat_map(|progress| [(progress.base, 0), (progress.position, 0)]).collect()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
