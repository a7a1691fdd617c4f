//! Calls into sled that come back.
//!
//! sled 0.34.7 panics on some damage, inside `open` or later; a panic and an error mean the same here: the database is
//! no good any more, and is rebuilt from the journal.

use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The database can no longer be relied on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Bad(String);

/// Calls sled; whatever goes wrong is [`Bad`].
pub(super) fn guard<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Bad> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Bad(error.to_string())),
        Err(_) => Err(Bad("sled panicked".to_owned())),
    }
}

/// Opens or makes the database in `folder`.
pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<sled::Db, Bad> {
    guard(|| {
        sled::Config::new()
            .path(folder)
            .cache_capacity(cache_bytes)
            // With `None` sled never collects its garbage.
            .flush_every_ms(Some(500))
            .mode(sled::Mode::LowSpace)
            .open()
    })
}

/// Puts everything written so far on disk for good. sled's own flush is `sync_file_range`, which a power cut undoes.
pub(super) fn sync(db: &sled::Db, folder: &Path) -> Result<(), Bad> {
    guard(|| {
        db.flush()?;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                std::fs::File::open(&path)?.sync_all()?;
            }
        }
        std::fs::File::open(folder)?.sync_all()?;
        Ok(())
    })
}

/// CRC-32C over the files of a closed database, their names and lengths included.
pub(super) fn checksum(folder: &Path) -> std::io::Result<u32> {
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

/// Moves a database that is no good out of the way, so that people can look at it; an older one there goes.
pub(super) fn set_aside(folder: &Path) -> std::io::Result<()> {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(".bad");
    let aside = folder.with_file_name(name);
    remove(&aside)?;
    match std::fs::rename(folder, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a database; that it is not there is no error.
pub(super) fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
