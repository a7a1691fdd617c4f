//! Calls into sled that come back.
//!
//! sled 0.34.7 panics on some damage, inside `open` or later, and where the system refuses it something.

use super::{Bad, Database, KeyValue, Visit};
use crate::store::files::folders::{self, beside};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Databases of sled's, in real files.
pub struct OnSled;

/// sled's handle, and where its files are.
struct SledDatabase {
    db: sled::Db,
    folder: PathBuf,
}

impl KeyValue for OnSled {
    fn open(&self, folder: &Path, cache_bytes: u64) -> Result<Arc<dyn Database>, Bad> {
        let db = open(folder, cache_bytes)?;
        Ok(Arc::new(SledDatabase { db, folder: folder.to_owned() }))
    }

    fn works_beside(&self, folder: &Path) -> bool {
        let probe = beside(folder, ".probe");
        let works = folders::remove(&probe).is_ok()
            && open(&probe, 1024 * 1024)
                .and_then(|db| {
                    guard(|| {
                        db.insert(b"probe", vec![0; 4096])?;
                        db.flush().map(drop)
                    })
                })
                .is_ok();
        // What is left of it is removed before the next.
        let _ = folders::remove(&probe);
        works
    }

    fn exists(&self, folder: &Path) -> bool {
        folder.exists()
    }

    fn names(&self, parent: &Path) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(parent)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn checksum(&self, folder: &Path) -> io::Result<u32> {
        folders::checksum(folder)
    }

    fn set_aside(&self, folder: &Path) -> io::Result<PathBuf> {
        folders::set_aside(folder)
    }

    fn set_aside_once(&self, folder: &Path) -> io::Result<()> {
        if beside(folder, ".bad").exists() { folders::remove(folder) } else { folders::set_aside(folder).map(drop) }
    }

    fn remove(&self, folder: &Path) -> io::Result<()> {
        folders::remove(folder)
    }
}

impl Database for SledDatabase {
    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), Bad> {
        guard(|| self.db.insert(key, value).map(drop))
    }

    fn remove(&self, key: &[u8]) -> Result<(), Bad> {
        guard(|| self.db.remove(key).map(drop))
    }

    fn for_each(&self, visit: Visit<'_>) -> Result<(), Bad> {
        guard(|| {
            for pair in self.db.iter() {
                let (key, value) = pair?;
                if let Err(bad) = visit(&key, &value) {
                    return Ok(Err(bad));
                }
            }
            Ok(Ok(()))
        })?
    }

    /// sled's own flush is `sync_file_range`, which a power cut undoes.
    fn sync(&self) -> Result<(), Bad> {
        guard(|| {
            self.db.flush()?;
            for entry in std::fs::read_dir(&self.folder)? {
                let path = entry?.path();
                if path.is_file() {
                    std::fs::File::open(&path)?.sync_all()?;
                }
            }
            std::fs::File::open(&self.folder)?.sync_all()?;
            Ok(())
        })
    }
}

/// Calls sled; whatever goes wrong is [`Bad`].
fn guard<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Bad> {
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

/// How long the lock of a database is waited for. The store's own is held, so that whoever has it is this process, which is
/// letting go of it.
const LOCK_WAIT: Duration = Duration::from_secs(2);

fn open(folder: &Path, cache_bytes: u64) -> Result<sled::Db, Bad> {
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
fn is_locked(error: &io::Error) -> bool {
    error.to_string().starts_with("could not acquire lock")
}
