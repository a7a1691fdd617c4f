//! The newest durable events, kept in memory: whoever keeps up with the log need not read it from the disk.

use crate::event::Stored;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A sink that is further behind reads the disk.
const MAX_EVENTS: usize = 4_096;
/// Of their bodies.
const MAX_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct Recent(Mutex<Ring>);

struct Ring {
    /// Every durable event with a higher sequence is here.
    after: u64,
    /// By sequence.
    events: VecDeque<Arc<Stored>>,
    bytes: usize,
}

impl Recent {
    /// Nothing yet; what is up to `after` is on disk alone.
    pub(super) fn new(after: u64) -> Self {
        Self(Mutex::new(Ring { after, events: VecDeque::new(), bytes: 0 }))
    }

    /// Takes in what has just become durable, and lets the oldest go.
    pub(super) fn push(&self, events: Vec<Arc<Stored>>) {
        let mut ring = self.lock();
        for stored in events {
            ring.bytes += stored.event.body.len();
            ring.events.push_back(stored);
        }
        while ring.events.len() > MAX_EVENTS || ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.events.pop_front() else { return };
            ring.bytes -= oldest.event.body.len();
            ring.after = oldest.sequence;
        }
    }

    /// The events after a sequence, up to `max_events` and about `max_bytes`; `None` where some of them are not here.
    pub(super) fn read(&self, after: u64, max_events: usize, max_bytes: usize) -> Option<Vec<Arc<Stored>>> {
        let ring = self.lock();
        if after < ring.after {
            return None;
        }
        let start = ring.events.partition_point(|stored| stored.sequence <= after);
        let mut bytes = 0;
        let few = |stored: &&Arc<Stored>| {
            let fits = bytes < max_bytes;
            bytes += stored.event.body.len();
            fits
        };
        Some(ring.events.range(start..).take(max_events).take_while(few).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
