//! Events in order of their sequence, across the journal and the samples.

use super::frame::Frame;
use super::log::{Segment, Segments, for_each_frame};
use super::segment::{Cursor, Step};
use crate::event::Stored;
use crate::metrics::Metrics;
use jiff::SignedDuration;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// Reads the events after a sequence, in order, and never past the last `fdatasync` that returned.
///
/// Blocks on the disk; call it where that is allowed.
pub struct Reader {
    tracks: Vec<Track>,
    durable: watch::Receiver<u64>,
    metrics: Metrics,
}

impl Reader {
    pub(super) fn new(logs: &[Arc<Segments>], after: u64, durable: watch::Receiver<u64>, metrics: Metrics) -> Self {
        let tracks = logs.iter().map(|segments| Track::new(Arc::clone(segments), after)).collect();
        Self { tracks, durable, metrics }
    }

    /// The next events, up to `max_events` and about `max_bytes`; none when there are no more for now.
    pub fn read(&mut self, max_events: usize, max_bytes: usize) -> io::Result<Vec<Stored>> {
        // Taken first: whatever a log shows afterwards, everything up to here is in it.
        let durable = *self.durable.borrow();
        let mut events = Vec::new();
        let mut bytes = 0;
        while events.len() < max_events && bytes < max_bytes {
            for track in &mut self.tracks {
                track.fill(durable, &self.metrics)?;
            }
            let next = self
                .tracks
                .iter_mut()
                .filter(|track| track.front(durable).is_some())
                .min_by_key(|track| track.front(durable));
            let Some(event) = next.and_then(|track| track.buffer.pop_front()) else { break };
            bytes += event.event.body.len();
            events.push(event);
        }
        Ok(events)
    }

    /// Up to here everything is on disk.
    pub(super) fn durable(&self) -> u64 {
        *self.durable.borrow()
    }

    /// Goes on behind a sequence that somebody has read elsewhere.
    pub(super) fn skip_to(&mut self, sequence: u64) {
        self.tracks.iter_mut().for_each(|track| track.skip_to(sequence));
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

pub(super) fn marks<'s>(segments: impl Iterator<Item = &'s Arc<Segment>>) -> Vec<Mark> {
    let mark = |segment: &Arc<Segment>| Mark {
        after: segment.header.first_sequence.saturating_sub(1),
        at: jiff::Timestamp::from_microsecond(segment.header.created_at).unwrap_or(jiff::Timestamp::MIN),
    };
    let mut marks: Vec<Mark> = segments.map(mark).collect();
    marks.sort();
    marks.dedup_by_key(|mark| mark.after);
    marks
}

/// The place in one log.
struct Track {
    segments: Arc<Segments>,
    current: Option<(Arc<Segment>, Cursor)>,
    /// Read, not yet given out.
    buffer: VecDeque<Stored>,
    /// Highest sequence read so far.
    after: u64,
}

impl Track {
    fn new(segments: Arc<Segments>, after: u64) -> Self {
        Self { segments, current: None, buffer: VecDeque::new(), after }
    }

    fn skip_to(&mut self, sequence: u64) {
        self.buffer.clear();
        self.after = self.after.max(sequence);
        // Or its file would stay, and its room on the disk be taken, long after it was removed.
        if self.current.as_ref().is_some_and(|(segment, _)| segment.sealed.load(Ordering::Acquire)) {
            self.current = None;
        }
    }

    fn front(&self, durable: u64) -> Option<u64> {
        self.buffer.front().map(|stored| stored.sequence).filter(|sequence| *sequence <= durable)
    }

    /// Reads on until something is in the buffer or the log has no more up to `durable`.
    fn fill(&mut self, durable: u64, metrics: &Metrics) -> io::Result<()> {
        while self.buffer.is_empty() && self.after < durable {
            let Some((segment, cursor)) = &mut self.current else {
                if !self.open_next() {
                    return Ok(());
                }
                continue;
            };
            // Read before the length: once it is sealed, the length is final.
            let sealed = segment.sealed.load(Ordering::Acquire);
            let limit = segment.durable();
            match cursor.step(limit)? {
                Step::Group(group) => {
                    let (after, buffer) = (&mut self.after, &mut self.buffer);
                    for_each_frame(group.frames, |frame| {
                        if let Frame::Event(event) = frame
                            && event.stored.sequence > *after
                        {
                            *after = event.stored.sequence;
                            buffer.push_back(event.stored);
                        }
                    });
                }
                Step::Bad => {
                    let lost = cursor.resync(limit)?;
                    metrics.store_damaged(1);
                    tracing::error!(segment = %segment.path.display(), offset = cursor.offset, bytes = ?lost, "a damaged group of the journal is passed over");
                    if lost.is_none() {
                        cursor.offset = limit;
                    }
                }
                Step::End if sealed => {
                    self.after = self.after.max(segment.last_sequence());
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
            segment.header.number > current && (newest || segment.last_sequence() > self.after)
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
