//! The log as it grows, for those who read on and on.

use super::reader::Reader;
use super::recent::Recent;
use crate::event::Stored;
use std::io;
use std::sync::Arc;

/// Reads the events after a sequence, in order, like [`Reader`]; from memory while it keeps up with the log.
pub struct Feed {
    recent: Arc<Recent>,
    reader: Reader,
    /// Highest sequence given out.
    after: u64,
}

impl Feed {
    pub(super) fn new(recent: Arc<Recent>, reader: Reader, after: u64) -> Self {
        Self { recent, reader, after }
    }

    /// The next events, if they are in memory, up to `max_events` and about `max_bytes`; none when there are no more for
    /// now. `None` where the disk has to be read for them.
    pub fn recent(&mut self, max_events: usize, max_bytes: usize) -> Option<Vec<Arc<Stored>>> {
        let events = self.recent.read(self.after, max_events, max_bytes)?;
        if let Some(last) = events.last() {
            self.after = last.sequence;
            self.reader.skip_to(self.after);
        }
        Some(events)
    }

    /// The same from wherever they are. Blocks on the disk; call it where that is allowed.
    pub fn read(&mut self, max_events: usize, max_bytes: usize) -> io::Result<Vec<Arc<Stored>>> {
        if let Some(events) = self.recent(max_events, max_bytes) {
            return Ok(events);
        }
        let durable = self.reader.durable();
        let events = self.reader.read(max_events, max_bytes)?;
        // The highest sequences may belong to no event.
        self.after = events.last().map_or(self.after.max(durable), |last| last.sequence);
        Ok(events.into_iter().map(Arc::new).collect())
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("after", &self.after).finish_non_exhaustive()
    }
}
