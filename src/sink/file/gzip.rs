//! Compresses rotated files, beside the writing, in a thread of its own.
//!
//! A file is compressed under another name, synced, renamed, and only then is the plain one deleted: whatever happens in
//! between, one of the two is whole. What was cut short is done again when the file is next written to.

use super::files::{self, Failure, GZIP, PART, Rotated, failure, remove, rotated, sync_folder, with_ending};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

/// Read and compressed at once; between two, the end is looked for.
const CHUNK: usize = 256 * 1024;

/// The thread's front; it ends, in the middle of a file if need be, when this is dropped.
pub(super) struct Compressor {
    wake: SyncSender<()>,
    ending: Arc<AtomicBool>,
}

impl Drop for Compressor {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
    }
}

impl Compressor {
    /// Of the rotated files of `path`, of which `keep` are kept.
    pub(super) fn start(path: PathBuf, keep: Option<usize>) -> io::Result<Self> {
        // One that waits is enough: it looks at all files.
        let (wake, woken) = sync_channel(1);
        let ending = Arc::new(AtomicBool::new(false));
        let thread = Thread { path, keep, ending: Arc::clone(&ending) };
        std::thread::Builder::new().name("compressor".to_owned()).spawn(move || {
            while woken.recv().is_ok() {
                if let Err(error) = thread.compress_all() {
                    // Nothing is lost: the plain file stays, and is tried again at the next rotation.
                    tracing::warn!(%error, "a rotated file is not compressed");
                }
            }
        })?;
        Ok(Self { wake, ending })
    }

    /// Has it look for files that are to be compressed.
    pub(super) fn wake(&self) {
        // An error means that it is about to look anyway.
        let _ = self.wake.try_send(());
    }
}

struct Thread {
    path: PathBuf,
    keep: Option<usize>,
    ending: Arc<AtomicBool>,
}

impl Thread {
    fn compress_all(&self) -> Result<(), Failure> {
        for files in rotated(&self.path)?.into_values() {
            if self.ending.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.compress(&files)?;
        }
        // While it was compressed, a file may have been deleted for its age.
        self.keep.map_or(Ok(()), |keep| files::prune(&self.path, keep))
    }

    fn compress(&self, files: &Rotated) -> Result<(), Failure> {
        let Some(plain) = &files.plain else {
            // Deleted for its age, or by hand, in the middle of it.
            return files.part.as_deref().map_or(Ok(()), remove);
        };
        if let Some(compressed) = &files.compressed
            && is_of(compressed, plain)?
        {
            return remove(plain);
        }
        let (part, whole) = (with_ending(plain, PART), with_ending(plain, GZIP));
        match self.write(plain, &part) {
            Ok(true) => {}
            Ok(false) => return remove(&part),
            Err(error) => {
                // What it left takes room, of which there may be none; it is no more than that.
                let _ = remove(&part);
                return Err(error);
            }
        }
        fs::rename(&part, &whole).map_err(failure("rename", &part))?;
        sync_folder(plain)?;
        remove(plain)
    }

    /// Whether it came to the end of the file.
    fn write(&self, plain: &Path, part: &Path) -> Result<bool, Failure> {
        let mut source = match fs::File::open(plain) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            source => source.map_err(failure("read", plain))?,
        };
        remove(part)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(super::MODE);
        let target = options.open(part).map_err(failure("make", part))?;
        let mut encoder = GzEncoder::new(target, Compression::default());
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = source.read(&mut chunk).map_err(failure("read", plain))?;
            if self.ending.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let Some(read @ [_, ..]) = chunk.get(..length) else { break };
            encoder.write_all(read).map_err(failure("write to", part))?;
        }
        let target = encoder.finish().map_err(failure("write to", part))?;
        target.sync_all().map_err(failure("write to", part))?;
        Ok(true)
    }
}

/// Whether the compressed file is of the plain one's length, by its last four bytes: RFC 1952, 2.3.1, ISIZE.
fn is_of(compressed: &Path, plain: &Path) -> Result<bool, Failure> {
    let mut file = fs::File::open(compressed).map_err(failure("read", compressed))?;
    let mut size = [0; 4];
    let read = file.seek(SeekFrom::End(-4)).and_then(|_| file.read_exact(&mut size));
    let length = fs::metadata(plain).map_err(failure("examine", plain))?.len();
    Ok(read.is_ok() && u64::from(u32::from_le_bytes(size)) == length % (1 << 32))
}
