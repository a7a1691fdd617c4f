//! The newest durable records, kept in memory: whoever keeps up with the log need not read them from the disk.
//!
//! It answers for a span or not at all. What it answers is what the disk would, in the same order and with the same places.

use super::record::{Batch, End, Filling, Limits, Record};
use crate::store::files::guarded::{Guard, Guarded};
use std::collections::VecDeque;

/// So much is kept, bytes of bodies: a sink that is further behind reads the disk.
pub const TAIL: Limits = Limits { events: 4_096, bytes: 4 * 1024 * 1024 };

pub(in crate::store) struct TailCache {
    ring: Guarded<Ring>,
    most: Limits,
}

struct Ring {
    /// Every durable record with a higher sequence is here.
    after: u64,
    /// By sequence.
    records: VecDeque<Record>,
    bytes: usize,
    /// Of the log, with what is here.
    end: End,
}

impl TailCache {
    /// Nothing yet; what is up to `end` is on disk alone.
    pub(in crate::store) fn new(end: End, most: Limits) -> Self {
        let ring = Ring { after: end.sequence, records: VecDeque::new(), bytes: 0, end };
        Self { ring: Guarded::new(ring), most }
    }

    /// Takes in what has just become durable, with which the log has come to `end`, and lets the oldest go.
    pub(in crate::store) fn push(&self, records: Vec<Record>, end: End) {
        let mut ring = self.lock();
        for record in records {
            ring.bytes += record.stored.event.body.len();
            ring.records.push_back(record);
        }
        ring.end = end;
        while ring.records.len() > self.most.events || ring.bytes > self.most.bytes {
            let Some(oldest) = ring.records.pop_front() else { return };
            ring.bytes -= oldest.stored.event.body.len();
            ring.after = oldest.stored.sequence;
        }
    }

    /// The records behind a sequence; `None` where some of them are not here.
    pub(in crate::store) fn read_after(&self, after: u64, limits: Limits) -> Option<Batch> {
        let ring = self.lock();
        if after < ring.after {
            return None;
        }
        let start = ring.records.partition_point(|record| record.stored.sequence <= after);
        let mut filling = Filling::new(limits);
        let mut rest = ring.records.range(start..);
        let complete = loop {
            if filling.is_full() {
                break rest.len() == 0;
            }
            match rest.next() {
                Some(record) => filling.push(record.clone()),
                None => break true,
            }
        };
        Some(Batch::new(filling.records, after, ring.end, complete))
    }

    fn lock(&self) -> Guard<'_, Ring> {
        self.ring.lock()
    }
}
