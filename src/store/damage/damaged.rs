//! Bytes that were found damaged, kept for people: `damaged/NAME-OFFSET-LENGTH`.
//!
//! Nothing reads them again. A copy never takes another's place, and together they are bounded: the older ones are what
//! somebody may be at.

use crate::store::files::disk::{Disk, Open};
use std::io;
use std::path::{Path, PathBuf};

/// The folder in the store's own.
const FOLDER: &str = "damaged";
/// Most bytes that are kept.
pub(in crate::store) const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Most copies of one place: bytes at one offset of a file of one name, each time others.
const MAX_COPIES: u32 = 100;

/// Keeps a copy of damaged bytes of the file `name`, found at `offset`; on disk for good when it returns. The same bytes of
/// the same place are kept once.
///
/// # Errors
/// `QuotaExceeded` if there are too many already: then it is said, and gone on without.
pub(in crate::store) fn keep(
    disk: &dyn Disk,
    store: &Path,
    name: &str,
    offset: u64,
    bytes: &[u8],
) -> io::Result<PathBuf> {
    let folder = store.join(FOLDER);
    disk.create_dir_all(&folder)?;
    let kept = disk.list(&folder)?;
    let own = format!("{name}-{offset}-{}", bytes.len());
    for number in 0..MAX_COPIES {
        let path = folder.join(if number == 0 { own.clone() } else { format!("{own}.{number}") });
        let there = kept.iter().find(|(name, _)| path.file_name().is_some_and(|own| own == name.as_str()));
        if there.is_some() {
            if read(disk, &path)? == bytes {
                return Ok(path);
            }
            continue;
        }
        let taken: u64 = kept.iter().map(|(_, length)| length).sum();
        if taken + bytes.len() as u64 > MAX_BYTES {
            break;
        }
        let file = disk.open(&path, Open::New)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        disk.sync_dir(&folder)?;
        disk.sync_dir(store)?;
        return Ok(path);
    }
    let message = format!("{} is full: {MAX_BYTES} bytes at most are kept", folder.display());
    Err(io::Error::new(io::ErrorKind::QuotaExceeded, message))
}

fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Existing)?;
    let mut bytes = vec![0; file.length()?.min(MAX_BYTES) as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::disk::RealDisk;

    #[test]
    fn each_copy_is_kept_once_and_never_over_another() {
        let store = tempfile::tempdir().unwrap();
        let keep = |offset, bytes: &[u8]| keep(&RealDisk, store.path(), "letters.log", offset, bytes).unwrap();
        let first = keep(80, b"one");
        assert_eq!(first, store.path().join("damaged/letters.log-80-3"));
        assert_eq!(keep(80, b"one"), first);
        assert_eq!(keep(80, b"two"), store.path().join("damaged/letters.log-80-3.1"));
        assert_eq!(keep(80, b"two"), store.path().join("damaged/letters.log-80-3.1"));
        assert_eq!(keep(81, b"one"), store.path().join("damaged/letters.log-81-3"));
        assert_eq!(std::fs::read(first).unwrap(), b"one");
    }

    #[test]
    fn they_are_bounded_and_the_older_ones_stay() {
        let store = tempfile::tempdir().unwrap();
        let half = vec![7; MAX_BYTES as usize / 2];
        let first = keep(&RealDisk, store.path(), "log", 0, &half).unwrap();
        keep(&RealDisk, store.path(), "log", 1, &half).unwrap();
        let full = keep(&RealDisk, store.path(), "log", 2, b"x").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(std::fs::read(first).unwrap(), half);
        // What is there already needs no room.
        keep(&RealDisk, store.path(), "log", 1, &half).unwrap();
    }
}
