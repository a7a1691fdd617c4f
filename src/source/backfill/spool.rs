//! Where a sweep's pages wait until the oldest is there: they come newest first and are accepted oldest first.
//!
//! A stack of pages in a few files. It outlives nothing: a sweep that is cut short begins anew, so nothing is synced, and
//! what an earlier process left is removed. When it is full the *newest* pages go, and the sweep is told so: what is
//! left is accepted, and the next sweep fetches the rest.

use bytes::Bytes;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a spool may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// A file is left for the next once it is so long, in bytes.
    pub file: u64,
    /// Files at once.
    pub files: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { file: 32 << 20, files: 8 }
    }
}

pub(super) struct Spool {
    folder: PathBuf,
    source: String,
    bounds: Bounds,
    files: VecDeque<Part>,
    next: u64,
    lost: Option<Timestamp>,
}

struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    /// The oldest event in it.
    oldest: Timestamp,
}

impl Spool {
    /// An empty one; what a killed process left for this source is removed.
    pub(super) fn new(folder: &Path, source: &str, bounds: Bounds) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let prefix = format!("{source}.");
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                std::fs::remove_file(entry.path())?;
            }
        }
        let (folder, source) = (folder.to_owned(), source.to_owned());
        Ok(Self { folder, source, bounds, files: VecDeque::new(), next: 0, lost: None })
    }

    /// Puts a page on top: events from the oldest to the newest, `oldest` the first one's time.
    pub(super) fn push(&mut self, events: &[Bytes], oldest: Timestamp) -> io::Result<()> {
        let mut page = Vec::with_capacity(events.iter().map(|event| event.len() + 4).sum::<usize>() + 8);
        for event in events {
            page.extend_from_slice(&length(event.len())?.to_le_bytes());
            page.extend_from_slice(event);
        }
        let whole = page.len() as u64;
        page.extend_from_slice(&whole.to_le_bytes());
        if self.files.back().is_none_or(|part| part.length >= self.bounds.file) {
            self.start_file(oldest)?;
        }
        let Some(part) = self.files.back_mut() else { return Ok(()) };
        part.file.write_all_at(&page, part.length)?;
        part.length += page.len() as u64;
        part.oldest = part.oldest.min(oldest);
        Ok(())
    }

    fn start_file(&mut self, oldest: Timestamp) -> io::Result<()> {
        if self.files.len() >= self.bounds.files
            && let Some(newest) = self.files.pop_front()
        {
            // Later files are older: the last one to go tells from where on events are missing.
            self.lost = Some(newest.oldest);
            std::fs::remove_file(&newest.path)?;
        }
        let path = self.folder.join(format!("{}.{}", self.source, self.next));
        self.next += 1;
        let file = File::options().create_new(true).read(true).write(true).open(&path)?;
        self.files.push_back(Part { path, file, length: 0, oldest });
        Ok(())
    }

    /// Takes the page on top off, the oldest that is there: its events from the oldest to the newest.
    pub(super) fn pop(&mut self) -> io::Result<Option<Vec<Bytes>>> {
        while let Some(part) = self.files.back_mut() {
            if part.length == 0 {
                std::fs::remove_file(&part.path)?;
                self.files.pop_back();
                continue;
            }
            let mut trailer = [0; 8];
            let end = part.length.checked_sub(8).ok_or_else(torn)?;
            part.file.read_exact_at(&mut trailer, end)?;
            let whole = u64::from_le_bytes(trailer);
            let start = end.checked_sub(whole).ok_or_else(torn)?;
            let mut page = vec![0; usize::try_from(whole).map_err(|_| torn())?];
            part.file.read_exact_at(&mut page, start)?;
            part.length = start;
            return split(&page).map(Some);
        }
        Ok(None)
    }

    /// If pages had to go: no event that is newer than the oldest of theirs is complete.
    pub(super) fn lost(&self) -> Option<Timestamp> {
        self.lost
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        for part in &self.files {
            // What stays is removed by the next spool.
            let _ = std::fs::remove_file(&part.path);
        }
    }
}

fn split(page: &[u8]) -> io::Result<Vec<Bytes>> {
    let mut events = Vec::new();
    let mut rest = page;
    while let Some((head, after)) = rest.split_first_chunk() {
        let (event, after) = after.split_at_checked(u32::from_le_bytes(*head) as usize).ok_or_else(torn)?;
        events.push(Bytes::copy_from_slice(event));
        rest = after;
    }
    Ok(events)
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "an event of over 4 GiB"))
}

fn torn() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the spool is not as it was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn page(number: i64) -> Vec<Bytes> {
        (0..3).map(|event| Bytes::from(format!("{number}-{event}"))).collect()
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn pages_come_back_last_first_and_the_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), "acme", Bounds { file: 40, files: 100 }).unwrap();
        for number in (0..20).rev() {
            spool.push(&page(number), at(number)).unwrap();
        }
        assert!(files(folder.path()) > 5);
        for number in 0..20 {
            assert_eq!(spool.pop().unwrap(), Some(page(number)));
        }
        assert_eq!((spool.pop().unwrap(), spool.lost(), files(folder.path())), (None, None, 0));
    }

    #[test]
    fn a_full_spool_lets_the_newest_go_and_says_up_to_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        // Each page fills a file.
        let mut spool = Spool::new(folder.path(), "acme", Bounds { file: 1, files: 4 }).unwrap();
        for number in (0..10).rev() {
            spool.push(&page(number), at(number)).unwrap();
        }
        assert_eq!((spool.lost(), files(folder.path())), (Some(at(4)), 4));
        for number in 0..4 {
            assert_eq!(spool.pop().unwrap(), Some(page(number)));
        }
        assert_eq!(spool.pop().unwrap(), None);
    }

    #[test]
    fn what_another_process_left_goes_and_a_neighbours_stays() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["acme.0", "acme.17", "acme_two.0"] {
            std::fs::write(folder.path().join(name), "old").unwrap();
        }
        let mut spool = Spool::new(folder.path(), "acme", Bounds::default()).unwrap();
        assert_eq!(files(folder.path()), 1);
        spool.push(&page(1), at(1)).unwrap();
        assert_eq!(files(folder.path()), 2);
        drop(spool);
        assert_eq!(files(folder.path()), 1);
    }
}
