//! Calls into sled that come back.
//!
//! sled 0.34.7 panics on some damage, inside `open` or later, and where the system refuses it something. Three things are
//! told apart: it works, it is not to be had now, it is corrupt. Only what is corrupt is ever moved aside.

use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why a database is not to be had.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum Bad {
    /// What it holds is proven not sound.
    #[error("{0}")]
    Corrupt(String),
    /// The system does not give what is asked for, now: room, file descriptors, a thread, the lock. What is on disk may be
    /// sound, and nothing of it is touched.
    #[error("{0}")]
    Unavailable(std::io::Error),
    /// It proves nothing about the files: sled panics at a damaged page, and also where it cannot have a file descriptor.
    #[error("sled panicked")]
    Panicked,
}

impl Bad {
    pub(in crate::store) fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt(_))
    }
}

impl From<Bad> for std::io::Error {
    fn from(bad: Bad) -> Self {
        match bad {
            Bad::Corrupt(message) => Self::new(std::io::ErrorKind::InvalidData, message),
            Bad::Unavailable(error) => error,
            Bad::Panicked => Self::other("sled panicked"),
        }
    }
}

/// Calls sled; whatever goes wrong is [`Bad`].
pub(in crate::store) fn guard<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Bad> {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, UnexpectedEof};
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error)))
            if !matches!(error.kind(), InvalidData | IsADirectory | NotADirectory | UnexpectedEof) =>
        {
            Err(Bad::Unavailable(error))
        }
        Ok(Err(error)) => Err(Bad::Corrupt(error.to_string())),
        Err(_) => Err(Bad::Panicked),
    }
}

/// Runs `open` for the database in `folder`. Where it panics and yet a fresh database beside it can be opened and written,
/// the system gives what is needed, and it is the files that are not sound.
pub(in crate::store) fn judge<T>(folder: &Path, open: impl FnOnce() -> Result<T, Bad>) -> Result<T, Bad> {
    match open() {
        Err(Bad::Panicked) if works_beside(folder) => Err(Bad::Corrupt("sled panicked".to_owned())),
        result => result,
    }
}

fn works_beside(folder: &Path) -> bool {
    let probe = beside(folder, ".probe");
    let works = remove(&probe).is_ok()
        && self::open(&probe, 1024 * 1024)
            .and_then(|db| {
                guard(|| {
                    db.insert(b"probe", vec![0; 4096])?;
                    db.flush().map(drop)
                })
            })
            .is_ok();
    // What is left of it is removed before the next.
    let _ = remove(&probe);
    works
}

/// How long the lock of a database is waited for. The store's own is held, so that whoever has it is this process, which is
/// letting go of it.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Opens or makes the database in `folder`.
pub(in crate::store) fn open(folder: &Path, cache_bytes: u64) -> Result<sled::Db, Bad> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let opened = guard(|| {
            sled::Config::new()
                .path(folder)
                .cache_capacity(cache_bytes)
                // With `None` sled never collects its garbage.
                .flush_every_ms(Some(500))
                .mode(sled::Mode::LowSpace)
                .open()
        });
        match opened {
            Err(Bad::Unavailable(error)) if is_locked(&error) && Instant::now() < deadline => {
                #[expect(clippy::disallowed_methods, reason = "a thread that may block, and nothing that tells")]
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// sled has no error of its own for it.
fn is_locked(error: &std::io::Error) -> bool {
    error.to_string().starts_with("could not acquire lock")
}

/// Puts everything written so far on disk for good. sled's own flush is `sync_file_range`, which a power cut undoes.
pub(in crate::store) fn sync(db: &sled::Db, folder: &Path) -> Result<(), Bad> {
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
pub(in crate::store) fn checksum(folder: &Path) -> std::io::Result<u32> {
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

/// Moves a database whose files are proven not sound out of the way, so that people can look at it; what was moved there
/// before stays. Returns where it is; that it is not there is no error.
pub(in crate::store) fn set_aside(folder: &Path) -> std::io::Result<PathBuf> {
    let aside = free_name(folder);
    match std::fs::rename(folder, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(aside),
    }
}

/// The same for one that can be rebuilt: the first is kept for people to look at, later ones are not.
pub(in crate::store) fn set_aside_once(folder: &Path) -> std::io::Result<()> {
    if beside(folder, ".bad").exists() { remove(folder) } else { set_aside(folder).map(drop) }
}

/// `meta.bad`, or if that is taken `meta.bad-1` and so on.
pub(in crate::store) fn free_name(folder: &Path) -> PathBuf {
    let first = beside(folder, ".bad");
    let others = (1u32..).map(|number| beside(folder, &format!(".bad-{number}")));
    std::iter::once(first.clone()).chain(others).find(|path| path.symlink_metadata().is_err()).unwrap_or(first)
}

fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    folder.with_file_name(name)
}

/// Removes a database; that it is not there is no error.
pub(in crate::store) fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
