//! Records in order of their sequence, across the journal and the samples.

use super::frame::Frame;
use super::record::{Batch, Filling, Limits, LogKind, Record};
use super::segment::{Cursor, Step};
use super::segments::{Segment, Segments, for_each_frame};
use crate::sometimes;
use crate::store::shared::Shared;
use jiff::SignedDuration;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Reads the records behind a sequence, in order, and never past the last `fdatasync` that returned.
///
/// It has no position: each reading says from where. What it keeps between two readings, an open segment and what was read
/// ahead, makes the next one quicker where that goes on behind the last, and is thrown away where it does not.
///
/// Blocks on the disk; call it where that is allowed.
pub struct Reader {
    shared: Arc<Shared>,
    tracks: Vec<Track>,
}

impl Reader {
    pub(in crate::store) fn new(shared: &Arc<Shared>, logs: &[LogKind]) -> Self {
        let track = |log: &LogKind| Track::new(*log, Arc::clone(&shared.log(*log).segments));
        Self { shared: Arc::clone(shared), tracks: logs.iter().map(track).collect() }
    }

    /// The records behind the sequence `after`, up to the limits.
    pub fn read_after(&mut self, after: u64, limits: Limits) -> io::Result<Batch> {
        // Taken first: whatever a log shows afterwards, everything up to here is in it.
        let end = *self.shared.durable.borrow();
        self.tracks.iter_mut().for_each(|track| track.seek(after));
        let mut filling = Filling::new(limits);
        let complete = loop {
            for track in &mut self.tracks {
                track.fill(end.sequence, &self.shared)?;
            }
            let first = self.tracks.iter_mut().filter(|track| track.front(end.sequence).is_some());
            let Some(track) = first.min_by_key(|track| track.front(end.sequence)) else { break true };
            if filling.is_full() {
                break false;
            }
            match track.take() {
                Some(record) => filling.push(record),
                None => break true,
            }
        };
        Ok(Batch::new(filling.records, after, end, complete))
    }

    /// Lets go of files to which nothing is added any more: or the room of one that is removed would stay taken.
    pub(in crate::store) fn release(&mut self) {
        self.tracks.iter_mut().for_each(Track::release);
    }
}

/// Where a segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// What is in the segment has a higher sequence.
    pub after: u64,
    /// Whatever has a lower sequence was received earlier.
    pub at: jiff::Timestamp,
}

/// The host's clock may have been set back by so much between two events.
const SLACK: SignedDuration = SignedDuration::from_mins(1);

impl Mark {
    /// Whether what stands before the mark was all received before `since`.
    pub fn is_before(&self, since: jiff::Timestamp) -> bool {
        self.at.saturating_add(SLACK).is_ok_and(|at| at <= since)
    }
}

pub(in crate::store) fn marks<'s>(segments: impl Iterator<Item = &'s Arc<Segment>>) -> Vec<Mark> {
    let mark = |segment: &Arc<Segment>| Mark {
        after: segment.header.first_sequence.saturating_sub(1),
        at: jiff::Timestamp::from_microsecond(segment.header.created_at).unwrap_or(jiff::Timestamp::MIN),
    };
    let mut marks: Vec<Mark> = segments.map(mark).collect();
    marks.sort();
    marks.dedup_by_key(|mark| mark.after);
    marks
}

/// One log, and what is read ahead of it.
struct Track {
    log: LogKind,
    segments: Arc<Segments>,
    current: Option<(Arc<Segment>, Cursor)>,
    /// Read, not yet given out.
    buffer: VecDeque<Record>,
    /// Every record with a higher sequence is in the buffer or behind the cursor.
    floor: u64,
    /// The highest sequence that was read into the buffer, or passed over.
    read_through: u64,
}

impl Track {
    fn new(log: LogKind, segments: Arc<Segments>) -> Self {
        Self { log, segments, current: None, buffer: VecDeque::new(), floor: 0, read_through: 0 }
    }

    /// From now on only what is behind `after` is given out, and all of it.
    fn seek(&mut self, after: u64) {
        if after < self.floor {
            (self.current, self.read_through) = (None, 0);
            self.buffer.clear();
        }
        while self.buffer.front().is_some_and(|record| record.stored.sequence <= after) {
            self.buffer.pop_front();
        }
        self.floor = after;
        self.read_through = self.read_through.max(after);
    }

    fn release(&mut self) {
        if self.current.as_ref().is_some_and(|(segment, _)| segment.sealed.load(Ordering::Acquire)) {
            self.current = None;
            // What was read ahead goes with the cursor that stood behind it.
            self.buffer.clear();
            self.read_through = self.floor;
        }
    }

    fn front(&self, durable: u64) -> Option<u64> {
        self.buffer.front().map(|record| record.stored.sequence).filter(|sequence| *sequence <= durable)
    }

    fn take(&mut self) -> Option<Record> {
        let record = self.buffer.pop_front()?;
        self.floor = record.stored.sequence;
        Some(record)
    }

    /// Reads on until something is in the buffer or the log has no more up to `durable`.
    fn fill(&mut self, durable: u64, shared: &Shared) -> io::Result<()> {
        while self.buffer.is_empty() && self.read_through < durable {
            let Some((segment, cursor)) = &mut self.current else {
                if !self.open_next() {
                    return Ok(());
                }
                continue;
            };
            // Read before the length: once it is sealed, the length is final.
            let sealed = segment.sealed.load(Ordering::Acquire);
            if sealed && segment.last_sequence() <= self.floor {
                if !self.open_next() {
                    return Ok(());
                }
                continue;
            }
            let limit = segment.durable();
            match cursor.step(limit)? {
                Step::Group(group) => {
                    let mut ordinal = group.events_before;
                    let (log, floor) = (self.log, self.floor);
                    let (read_through, buffer) = (&mut self.read_through, &mut self.buffer);
                    let mut passed_over = false;
                    for_each_frame(group.frames, |frame| {
                        let Frame::Event(event) = frame else { return };
                        ordinal += 1;
                        if event.stored.sequence > floor {
                            *read_through = event.stored.sequence;
                            let (stored, replaces) = (Arc::new(event.stored), event.replaces);
                            if std::mem::take(&mut passed_over) {
                                sometimes::happened("a reading that begins within a group");
                            }
                            buffer.push_back(Record { stored, log, ordinal, replaces });
                        } else {
                            passed_over = true;
                        }
                    });
                }
                Step::Bad => {
                    let segment = Arc::clone(segment);
                    if cursor.resync(limit)?.is_none() {
                        cursor.offset = limit;
                    }
                    shared.inspect_damage(self.log, &segment)?;
                }
                Step::End if sealed => {
                    self.read_through = self.read_through.max(segment.last_sequence());
                    if !self.open_next() {
                        return Ok(());
                    }
                }
                Step::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Moves to the next segment that may hold something; `false` when there is none.
    fn open_next(&mut self) -> bool {
        let current = self.current.as_ref().map_or(0, |(segment, _)| segment.header.number);
        let next = self.segments.snapshot().into_iter().find(|segment| {
            let newest = !segment.sealed.load(Ordering::Acquire);
            segment.header.number > current && (newest || segment.last_sequence() > self.floor)
        });
        let Some(segment) = next else { return false };
        let cursor = segment.cursor();
        self.current = Some((segment, cursor));
        true
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
