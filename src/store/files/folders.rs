//! Whole folders whose files others write: summed up, moved out of the way, removed.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// CRC-32C over the files of a folder, their names and lengths included.
pub(in crate::store) fn checksum(folder: &Path) -> io::Result<u32> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut crc = 0;
    let mut buffer = vec![0; 256 * 1024];
    for path in files {
        crc = crc32c::crc32c_append(crc, path.file_name().unwrap_or_default().as_encoded_bytes());
        let mut file = std::fs::File::open(&path)?;
        crc = crc32c::crc32c_append(crc, &file.metadata()?.len().to_le_bytes());
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            crc = crc32c::crc32c_append(crc, buffer.get(..read).unwrap_or_default());
        }
    }
    Ok(crc)
}

/// Moves a folder out of the way, so that people can look at it; what was moved there before stays. Returns where it is; that
/// it is not there is no error.
pub(in crate::store) fn set_aside(folder: &Path) -> io::Result<PathBuf> {
    let aside = free_name(folder);
    match std::fs::rename(folder, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(aside),
    }
}

/// `meta.bad`, or if that is taken `meta.bad-1` and so on.
pub(in crate::store) fn free_name(folder: &Path) -> PathBuf {
    let first = beside(folder, ".bad");
    let others = (1u32..).map(|number| beside(folder, &format!(".bad-{number}")));
    std::iter::once(first.clone()).chain(others).find(|path| path.symlink_metadata().is_err()).unwrap_or(first)
}

/// The same name with more behind it.
pub(in crate::store) fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    folder.with_file_name(name)
}

/// Removes a folder with all that is in it; that it is not there is no error.
pub(in crate::store) fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
