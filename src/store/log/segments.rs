//! The segments of a log that are there, as everybody shares them: of each a reader sees only what an `fdatasync` that
//! returned has covered.

use super::frame::{self, EventFrame, Frame};
use super::ids::Id;
use super::segment::{Cursor, Header, Step};
use crate::event::{Event, Stored};
use crate::store::files::disk::File;
use crate::store::files::guarded::Guarded;
use bytes::Bytes;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A segment that is there.
pub(in crate::store) struct Segment {
    pub(in crate::store) header: Header,
    pub(in crate::store) path: PathBuf,
    pub(in crate::store) file: Arc<dyn File>,
    /// Bytes that a reader may look at.
    pub(in crate::store) durable: AtomicU64,
    /// Highest sequence in it; one below its first while it is empty.
    pub(in crate::store) last_sequence: AtomicU64,
    /// Records of the log up to its end.
    pub(in crate::store) last_ordinal: AtomicU64,
    /// When its last event was received, Unix microseconds.
    pub(in crate::store) last_received: AtomicI64,
    /// Bytes it takes on disk.
    pub(in crate::store) allocated: AtomicU64,
    /// Nothing more is written to it.
    pub(in crate::store) sealed: AtomicBool,
    /// Its ids are durable in a file of their own.
    pub(in crate::store) ids_written: AtomicBool,
    /// Until then: the ids of its events.
    pub(in crate::store) ids: Guarded<Vec<Id>>,
}

impl Segment {
    pub(in crate::store) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(in crate::store) fn last_sequence(&self) -> u64 {
        self.last_sequence.load(Ordering::Acquire)
    }

    pub(in crate::store) fn last_ordinal(&self) -> u64 {
        self.last_ordinal.load(Ordering::Acquire)
    }

    pub(in crate::store) fn last_received(&self) -> i64 {
        self.last_received.load(Ordering::Acquire)
    }

    pub(in crate::store) fn cursor(&self) -> Cursor {
        Cursor::new(Arc::clone(&self.file), &self.header)
    }

    /// Calls `visit` with every event's id, in order; what is damaged is passed over.
    pub(in crate::store) fn for_each_id(&self, mut visit: impl FnMut(Id)) -> io::Result<()> {
        self.for_each_record(|event, _| visit(id_of(event)))
    }

    /// Calls `visit` with every event and its ordinal, in order; what is damaged is passed over.
    pub(in crate::store) fn for_each_record(&self, mut visit: impl FnMut(&EventFrame, u64)) -> io::Result<()> {
        let mut cursor = self.cursor();
        let limit = self.durable();
        loop {
            match cursor.step(limit)? {
                Step::Group(group) => {
                    let mut ordinal = group.events_before;
                    for_each_frame(group.frames, |frame| {
                        if let Frame::Event(event) = frame {
                            ordinal += 1;
                            visit(&event, ordinal);
                        }
                    });
                }
                Step::Bad if cursor.resync(limit)?.is_some() => {}
                Step::Bad | Step::End => return Ok(()),
            }
        }
    }
}

pub(super) fn id_of(event: &EventFrame) -> Id {
    let Stored { sequence, event: Event { timestamp, .. }, .. } = &event.stored;
    Id { sequence: *sequence, day: frame::day_of(timestamp.instant()), hash: event.hash }
}

/// Calls `visit` with every frame of a group. A group whose CRC is right holds only whole frames.
pub(super) fn for_each_frame(mut frames: Bytes, mut visit: impl FnMut(Frame)) {
    while let Some(frame) = frame::take(&mut frames) {
        visit(frame);
    }
}

/// The segments that are there, oldest first.
#[derive(Default)]
pub(in crate::store) struct Segments(RwLock<Vec<Arc<Segment>>>);

impl Segments {
    pub(in crate::store) fn snapshot(&self) -> Vec<Arc<Segment>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::store) fn push(&self, segment: Arc<Segment>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// Takes a segment out, unless somebody else has; readers that hold it may go on reading.
    pub(in crate::store) fn remove(&self, number: u64) -> bool {
        let mut segments = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = segments.len();
        segments.retain(|segment| segment.header.number != number);
        segments.len() < before
    }

    /// Bytes on disk.
    pub(in crate::store) fn allocated(&self) -> u64 {
        let segments = self.0.read().unwrap_or_else(PoisonError::into_inner);
        segments.iter().map(|segment| segment.allocated.load(Ordering::Relaxed)).sum()
    }
}
