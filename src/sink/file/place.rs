//! Where a file sink's files really are: by whatever spelling, `..` and symbolic links lead there, and before they are there.

use super::files::{folder, number_and_ending};
use super::{InvalidSetting, Settings};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// As many as the kernel follows.
const MOST_LINKS: u8 = 40;

/// What two sinks have in common that they must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// The file.
    File,
    /// The other's file has a name that this one gives to a rotated file.
    Rotated,
}

impl Settings {
    /// Refuses a file among the store's own, and one in the way of the store's folder. Blocks on the disk.
    pub fn check_place(&self, store: &Path) -> Result<(), InvalidSetting> {
        let store = resolved(store, MOST_LINKS);
        if self.places().iter().any(|place| place.starts_with(&store) || store.starts_with(place)) {
            let (path, store) = (self.path.display(), store.display());
            let message =
                format!("{path} is among the store's own files (store.path: {store}); give it a folder of its own");
            return Err(InvalidSetting::new("path", message));
        }
        Ok(())
    }

    /// What this sink's files and the other's have in common. Blocks on the disk.
    pub fn shares(&self, other: &Self) -> Option<Shared> {
        let (own, others) = (self.places(), other.places());
        if own.iter().any(|place| others.contains(place)) {
            return Some(Shared::File);
        }
        let rotates = self.rotate_size.is_some() || self.rotate_every.is_some();
        let [named, _] = &own;
        let is_rotated = |place: &PathBuf| {
            let names = (named.file_name().unwrap_or_default(), place.file_name().unwrap_or_default());
            place.parent() == named.parent() && number_and_ending(names.0, names.1).is_some()
        };
        (rotates && others.iter().any(is_rotated)).then_some(Shared::Rotated)
    }

    /// Where the name is, beside which rotated files get theirs, and where what is written goes: not the same for a link.
    fn places(&self) -> [PathBuf; 2] {
        let name = self.path.file_name().unwrap_or(OsStr::new(".."));
        [resolved(folder(&self.path), MOST_LINKS).join(name), resolved(&self.path, MOST_LINKS)]
    }
}

/// The path without links and `..`; what of it is not there yet stays as it is.
fn resolved(path: &Path, links: u8) -> PathBuf {
    if let Ok(there) = path.canonicalize() {
        return there;
    }
    let Some(parent) = path.parent() else { return path.to_owned() };
    if let (Ok(target), Some(links)) = (path.read_link(), links.checked_sub(1)) {
        return resolved(&parent.join(target), links);
    }
    let parent = resolved(parent, links);
    match path.file_name() {
        Some(name) => parent.join(name),
        // It ends in `..`.
        None => parent.parent().map(Path::to_owned).unwrap_or(parent),
    }
}
