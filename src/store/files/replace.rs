//! The one way in which a file takes another's place: the new one is written beside it, synced, renamed, and the folder
//! synced.
//!
//! | what fails | is under the name | is under `NAME.new` | whoever called may believe |
//! |---|---|---|---|
//! | making, writing or syncing the new file | the old file, untouched | nothing, or what the disk would not let go of | [`Failed::Before`]: nothing has happened |
//! | the rename | either | either | [`Failed::InDoubt`] |
//! | syncing the folder | the new file, and after a power cut either | nothing, or after a power cut the new file | [`Failed::InDoubt`] |
//! | nothing | the new file, for good | nothing | all of it |
//!
//! In doubt both files are whole and synced, so that a start finds a sound one whichever it is. But what is written to one
//! of them from then on may be gone with it: before anything more is promised, the file is to be replaced once more, with
//! success. A sync of the folder alone, tried again, proves nothing: the system may have dropped what the first one failed
//! to write.
//!
//! A kill or a power cut between the calls leaves what the row of the next call says. `NAME.new` is never read; the next
//! replacement removes it.

use super::disk::{Disk, File, Open};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a file was not replaced.
#[derive(Debug)]
pub enum Failed {
    /// The old one is there as if nothing had been asked.
    Before(io::Error),
    /// The old one is there or the new one, and a power cut may change which.
    InDoubt(io::Error),
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Before(error) | Failed::InDoubt(error) => error,
        }
    }
}

/// Puts a file with these bytes in the place of `path`, whether or not there is one; on disk for good when it returns. Only
/// its owner can read it.
///
/// Blocks on the disk.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    let new = Replacement::begin(disk, path).map_err(Failed::Before)?;
    if let Err(error) = new.file.write_all_at(bytes, 0) {
        new.give_up(disk);
        return Err(Failed::Before(error));
    }
    new.finish(disk).map(drop)
}

/// The same for what is written bit by bit.
pub(in crate::store) struct Replacement {
    path: PathBuf,
    temporary: PathBuf,
    /// The new one, empty at first.
    pub(in crate::store) file: Arc<dyn File>,
}

impl Replacement {
    /// Nothing but `NAME.new` is touched before [`Self::finish`].
    pub(in crate::store) fn begin(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let temporary = temporary(path);
        // Always a new one: of what lies there nobody knows whose it is, and who can read it.
        let file = match disk.open(&temporary, Open::New) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(&temporary)?;
                disk.open(&temporary, Open::New)?
            }
            file => file?,
        };
        Ok(Self { path: path.to_owned(), temporary, file })
    }

    /// Syncs what was written and puts it in the old one's place.
    pub(in crate::store) fn finish(self, disk: &dyn Disk) -> Result<Arc<dyn File>, Failed> {
        if let Err(error) = self.file.sync_data() {
            self.give_up(disk);
            return Err(Failed::Before(error));
        }
        disk.rename(&self.temporary, &self.path).map_err(Failed::InDoubt)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        disk.sync_dir(folder.unwrap_or(Path::new("."))).map_err(Failed::InDoubt)?;
        Ok(self.file)
    }

    /// Leaves the old one as it is. What the disk does not let go of is removed by the next replacement.
    pub(in crate::store) fn give_up(self, disk: &dyn Disk) {
        let _ = disk.remove(&self.temporary);
    }
}

/// Where the new one is written.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::disk::RealDisk;
    use crate::store::files::disk::failing::FailingDisk;
    use std::os::unix::fs::PermissionsExt;

    fn names(folder: &Path) -> Vec<String> {
        RealDisk.list(folder).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_file_is_made_or_replaced_whatever_was_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["first", "second, longer", "third"] {
            std::fs::write(folder.path().join("file.new"), "left behind by a kill").unwrap();
            replace(&RealDisk, &path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(names(folder.path()), ["file"]);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    /// Each call in turn: what it leaves behind, and what is said of it, are those of the table.
    #[test]
    fn whichever_step_fails_it_is_known_what_is_there() {
        let steps = ["open", "write_all_at", "sync_data", "rename", "sync_dir"];
        for (index, step) in steps.into_iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            replace(&RealDisk, &path, b"old").unwrap();
            let disk = FailingDisk::new(index);
            let failed = replace(&disk, &path, b"new").unwrap_err();
            assert_eq!(disk.failed(), Some(step));
            let there = std::fs::read_to_string(&path).unwrap();
            match (step, &failed) {
                ("rename", Failed::InDoubt(_)) => {
                    assert_eq!(
                        (&*there, names(folder.path())),
                        ("old", vec!["file".to_owned(), "file.new".to_owned()])
                    );
                }
                ("sync_dir", Failed::InDoubt(_)) => {
                    assert_eq!((&*there, names(folder.path())), ("new", vec!["file".to_owned()]))
                }
                (_, Failed::Before(_)) => {
                    assert_eq!((&*there, names(folder.path())), ("old", vec!["file".to_owned()]), "{step}")
                }
                (_, failed) => panic!("{step}: {failed:?}"),
            }
            assert_eq!(io::Error::from(failed).raw_os_error(), Some(5));
            // Once the disk works it is as if nothing had been.
            replace(&RealDisk, &path, b"newer").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "newer");
            assert_eq!(names(folder.path()), ["file"]);
        }
        let folder = tempfile::tempdir().unwrap();
        let disk = FailingDisk::new(steps.len());
        replace(&disk, &folder.path().join("file"), b"new").unwrap();
        assert_eq!(disk.failed(), None, "there are calls that were not tried");
    }
}
