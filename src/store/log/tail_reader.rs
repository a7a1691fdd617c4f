//! The log as it grows, for those who read on and on.

use super::reader::Reader;
use super::record::{Batch, Limits};
use super::tail_cache::TailCache;
use crate::sometimes;
use std::io;
use std::sync::Arc;

/// Reads what lies behind a sequence, like [`Reader`]; from memory while that is still there.
///
/// It has no position: each reading says from where, so that memory and disk cannot disagree about it.
pub struct TailReader {
    cache: Arc<TailCache>,
    reader: Reader,
    /// Where the last reading was.
    was_on_disk: bool,
}

impl TailReader {
    pub(in crate::store) fn new(cache: Arc<TailCache>, reader: Reader) -> Self {
        Self { cache, reader, was_on_disk: false }
    }

    /// The records behind the sequence `after`, if all of them are in memory; `None` where the disk has to be read for them.
    pub fn cached_after(&mut self, after: u64, limits: Limits) -> Option<Batch> {
        let batch = self.cache.read_after(after, limits)?;
        self.reader.release();
        if std::mem::replace(&mut self.was_on_disk, false) {
            sometimes::happened("from the disk to memory");
        }
        Some(batch)
    }

    /// The same from wherever they are. Blocks on the disk; call it where that is allowed.
    pub fn read_after(&mut self, after: u64, limits: Limits) -> io::Result<Batch> {
        match self.cached_after(after, limits) {
            Some(batch) => Ok(batch),
            None => {
                if !std::mem::replace(&mut self.was_on_disk, true) {
                    sometimes::happened("from memory to the disk");
                }
                self.reader.read_after(after, limits)
            }
        }
    }
}

impl std::fmt::Debug for TailReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TailReader").finish_non_exhaustive()
    }
}
