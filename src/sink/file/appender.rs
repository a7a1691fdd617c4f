//! The file itself: opened, locked, mended, appended to, rotated.

use super::files::{Failure, failure, folder, numbered, prune, rotated, sync_folder};
use super::gzip::Compressor;
use super::{Clock, Compress, Fsync, Settings};
use crate::sink::SendError;
use crate::sink::lines::{Target, Unfinished};
use bytes::Bytes;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Read at once when looking for the last line feed.
const CHUNK: usize = 64 * 1024;

/// Appends groups of lines to the file at `settings.path`.
pub(super) struct Appender {
    settings: Settings,
    clock: Clock,
    file: Option<fs::File>,
    /// Of the records in the file: how many times `rotate_every` lay before them.
    period: u64,
    buffer: Vec<u8>,
    compressor: Option<Compressor>,
}

impl Drop for Appender {
    /// Closing would end the lock too, but not while a child process that is just being started still has a copy of the
    /// descriptor.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Should it fail, closing ends the lock all the same.
            let _ = file.unlock();
        }
    }
}

impl Target for Appender {
    fn append(&mut self, lines: &[Bytes]) -> Result<(), Unfinished> {
        let mut rest = lines;
        while !rest.is_empty() {
            match self.append_some(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(failure) => {
                    return Err(Unfinished { appended: lines.len() - rest.len(), error: failure.into() });
                }
            }
        }
        Ok(())
    }

    fn reopen(&mut self) {
        self.file = None;
        // So that the new file is there when the operator's program looks for it. If it cannot be opened the next
        // record meets the same error and reports it.
        let _ = self.open();
    }

    fn probe(&mut self) -> Result<String, SendError> {
        self.look().map_err(SendError::from)
    }
}

impl Appender {
    pub(super) fn new(settings: Settings, clock: Clock) -> io::Result<Self> {
        let compressor = match settings.compress {
            Compress::None => None,
            Compress::Gzip => Some(Compressor::start(settings.path.clone(), settings.keep)?),
        };
        Ok(Self { settings, clock, file: None, period: 0, buffer: Vec::new(), compressor })
    }

    /// Appends as many lines as the file still takes, at least one; returns how many.
    fn append_some(&mut self, lines: &[Bytes]) -> Result<usize, Failure> {
        let mut length = self.open()?;
        let limit = self.settings.rotate_size.map_or(u64::MAX, |size| size.as_u64());
        let period = self.period_of((self.clock)());
        let is_full = lines.first().is_some_and(|line| length.saturating_add(size_of_line(line)) > limit);
        if length > 0 && (is_full || period != self.period) {
            self.rotate()?;
            length = self.open()?;
        }
        self.period = period;
        self.buffer.clear();
        let mut count = 0;
        for line in lines {
            let grown = length.saturating_add(self.buffer.len() as u64).saturating_add(size_of_line(line));
            if count > 0 && grown > limit {
                break;
            }
            self.buffer.extend_from_slice(line);
            self.buffer.push(b'\n');
            count += 1;
        }
        self.write(length)?;
        Ok(count)
    }

    /// Writes the buffer behind `length` and syncs it, or takes everything back.
    fn write(&mut self, length: u64) -> Result<(), Failure> {
        let Some(mut file) = self.file.take() else {
            return Err(failure("write to", &self.settings.path)(io::ErrorKind::NotFound.into()));
        };
        let outcome = match (file.write_all(&self.buffer), self.settings.fsync) {
            (Ok(()), Fsync::Always) => file.sync_data(),
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(()) => {
                self.file = Some(file);
                Ok(())
            }
            Err(error) => {
                // The file stays closed: after a failed fdatasync the page cache tells of pages that are not on disk,
                // and opening it anew mends what this may leave, should the cut fail too.
                let _ = file.set_len(length);
                Err(failure("write to", &self.settings.path)(error))
            }
        }
    }

    /// Makes sure that the open file is the one at the path; returns its length.
    fn open(&mut self) -> Result<u64, Failure> {
        let path = &self.settings.path;
        if let Some(file) = &self.file {
            let open = file.metadata().map_err(failure("examine", path))?;
            if is_at(&open, path)? {
                return Ok(open.len());
            }
            self.file = None;
        }
        let file = open(path)?;
        file.try_lock().map_err(|error| failure("lock", path)(describe_lock(error)))?;
        // Whoever held the lock before may just have moved the file away.
        if !is_at(&file.metadata().map_err(failure("examine", path))?, path)? {
            return Err(failure("open", path)(io::Error::other("it was moved meanwhile")));
        }
        let length = mend(&file, path)?;
        // Nothing was written to it in a later period: that would have rotated it.
        let written = file.metadata().and_then(|metadata| metadata.modified()).map_err(failure("examine", path))?;
        self.period = self.period_of(written);
        self.file = Some(file);
        if let Some(keep) = self.settings.keep {
            prune(&self.settings.path, keep)?;
        }
        // Only here is it certain that the rotated files are ours.
        if let Some(compressor) = &self.compressor {
            compressor.wake();
        }
        Ok(length)
    }

    /// Periods begin at multiples of their length since 1970, in UTC.
    fn period_of(&self, at: SystemTime) -> u64 {
        let Some(every) = self.settings.rotate_every else { return 0 };
        at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / every.as_secs().max(1))
    }

    /// Gives the file the next number; the caller opens a new one.
    fn rotate(&mut self) -> Result<(), Failure> {
        let path = &self.settings.path;
        if self.settings.fsync == Fsync::Never
            && let Some(file) = &self.file
        {
            // Once per file, so that what is to be shipped elsewhere is whole.
            file.sync_data().map_err(failure("write to", path))?;
        }
        let last = rotated(path)?.last_key_value().map_or(0, |(number, _)| *number);
        fs::rename(path, numbered(path, last.saturating_add(1))).map_err(failure("rotate", path))?;
        sync_folder(path)?;
        self.file = None;
        Ok(())
    }

    /// For `probe`: opens nothing that is not there and changes nothing.
    fn look(&self) -> Result<String, Failure> {
        let path = &self.settings.path;
        let name = path.display();
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => Err(not_regular(path)),
            Ok(metadata) => {
                let file = OpenOptions::new().append(true).open(path).map_err(failure("open", path))?;
                let length = metadata.len();
                match file.try_lock() {
                    _ if self.file.is_some() => Ok(format!("{name}, {length} bytes, open")),
                    Ok(()) => Ok(format!("{name}, {length} bytes")),
                    Err(TryLockError::WouldBlock) => {
                        Ok(format!("{name}, {length} bytes; another process writes it, the running relay perhaps"))
                    }
                    Err(error @ TryLockError::Error(_)) => Err(failure("lock", path)(describe_lock(error))),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = folder(path);
                rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
                    .map_err(|error| failure("make files in", folder)(error.into()))?;
                Ok(format!("{name} will be made"))
            }
            Err(error) => Err(failure("examine", path)(error)),
        }
    }
}

fn not_regular(path: &Path) -> Failure {
    failure("write to", path)(io::Error::other("it is not a regular file"))
}

fn describe_lock(error: TryLockError) -> io::Error {
    match error {
        TryLockError::WouldBlock => io::Error::other("another process writes it"),
        TryLockError::Error(error) => error,
    }
}

fn size_of_line(line: &Bytes) -> u64 {
    line.len() as u64 + 1
}

/// Whether the open file is the one that `path` leads to.
fn is_at(open: &fs::Metadata, path: &Path) -> Result<bool, Failure> {
    match fs::metadata(path) {
        Ok(there) => Ok(there.dev() == open.dev() && there.ino() == open.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failure("examine", path)(error)),
    }
}

/// Opens the file for reading and appending, or makes it, its name durable.
fn open(path: &Path) -> Result<fs::File, Failure> {
    // Before it is opened: a FIFO without a reader would block.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(not_regular(path));
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(super::MODE);
    match options.open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = folder(path);
            fs::metadata(folder).map_err(failure("make a file in", folder))?;
            let file = options.create(true).open(path).map_err(failure("make", path))?;
            sync_folder(path)?;
            Ok(file)
        }
        Err(error) => Err(failure("open", path)(error)),
    }
}

/// Cuts off what follows the last line feed; returns the length left.
fn mend(file: &fs::File, path: &Path) -> Result<u64, Failure> {
    let length = file.metadata().map_err(failure("examine", path))?.len();
    let whole = end_of_last_line(file, length).map_err(failure("read", path))?;
    if whole < length {
        tracing::warn!(path = %path.display(), bytes = length - whole, "cut off an unfinished last line");
        file.set_len(whole).and_then(|()| file.sync_all()).map_err(failure("mend", path))?;
    }
    Ok(whole)
}

fn end_of_last_line(file: &fs::File, length: u64) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let part = chunk.get_mut(..usize::try_from(end - start).unwrap_or(CHUNK)).unwrap_or_default();
        file.read_exact_at(part, start)?;
        if let Some(position) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + position as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
