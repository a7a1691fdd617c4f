//! Reads one segment from its header to its end, and says what is missing between its sound groups.

use super::frame::Frame;
use super::segment::Step;
use super::segments::{Segment, for_each_frame};
use std::io;

/// Records of one log that are gone, and the bytes where they lay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Hole {
    /// Ordinals of the first and the last of them. Where the last is below the first, what is damaged held no record.
    pub(in crate::store) first: u64,
    pub(in crate::store) last: u64,
    /// Their sequences are above this one …
    pub(in crate::store) after: u64,
    /// … and not above this one.
    pub(in crate::store) through: u64,
    /// The bytes in the segment's file; none where those are gone too.
    pub(in crate::store) offset: u64,
    pub(in crate::store) length: u64,
    /// When the last sound record before it and the first behind it were received, Unix microseconds.
    pub(in crate::store) received_after: Option<i64>,
    pub(in crate::store) received_before: Option<i64>,
}

impl Hole {
    fn up_to(self, through: u64, received_before: Option<i64>) -> Self {
        Self { through: through.max(self.after), received_before, ..self }
    }

    /// How many records are gone.
    pub(in crate::store) fn count(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first)
    }
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(in crate::store) struct Scan {
    /// Behind the last sound group.
    pub(in crate::store) end: u64,
    /// The number that the next group gets.
    pub(super) next_group: u64,
    /// Records of the log up to there.
    pub(in crate::store) events: u64,
    /// Of the last sound record; one below the segment's first while there is none.
    pub(in crate::store) last_sequence: u64,
    pub(in crate::store) last_received: Option<i64>,
    holes: Vec<Hole>,
    /// From this one on they are followed by notes only: up to which sequence they reach is not known here.
    open: usize,
    /// Bytes behind [`Self::end`] that are no sound group.
    rest: u64,
    /// Passed over in a segment of format 1, whose groups do not say how many records came before them.
    uncounted: Option<(u64, u64)>,
}

/// Reads up to `limit`, and has `visit` look at every frame.
pub(in crate::store) fn scan(segment: &Segment, limit: u64, mut visit: impl FnMut(Frame)) -> io::Result<Scan> {
    let mut cursor = segment.cursor();
    let first_sequence = segment.header.first_sequence;
    let mut scan = Scan {
        events: segment.header.events_before,
        last_sequence: first_sequence.saturating_sub(1),
        ..Scan::default()
    };
    let mut passed = None;
    loop {
        let start = cursor.offset;
        match cursor.step(limit)? {
            Step::Group(group) => {
                let mut first = None;
                let (mut last_sequence, mut last_received) = (scan.last_sequence, scan.last_received);
                for_each_frame(group.frames, |frame| {
                    if let Frame::Event(event) = &frame {
                        let received = event.stored.arrival.received_at.as_microsecond();
                        first.get_or_insert((event.stored.sequence, received));
                        (last_sequence, last_received) = (event.stored.sequence, Some(received));
                    }
                    visit(frame);
                });
                if let Some((offset, length)) = passed.take() {
                    scan.pass(segment, (offset, length), group.events_before);
                }
                if let Some((sequence, received)) = first {
                    for hole in scan.holes.iter_mut().skip(scan.open) {
                        *hole = hole.up_to(sequence.saturating_sub(1), Some(received));
                    }
                    scan.open = scan.holes.len();
                }
                scan.events = group.events_before + u64::from(group.count);
                (scan.last_sequence, scan.last_received) = (last_sequence, last_received);
                (scan.end, scan.next_group) = (group.end, group.number + 1);
            }
            // Only a whole group behind it makes it damage: a group is written after the one before was synced.
            Step::Bad => match cursor.resync(limit)? {
                Some(length) => passed = Some((start, length)),
                None => {
                    scan.rest = limit - start;
                    break;
                }
            },
            Step::End => break,
        }
    }
    scan.end = scan.end.max(super::segment::HEADER);
    Ok(scan)
}

impl Scan {
    /// All between the sound groups. `through` and `received_before` as for [`Self::tail`], where no record follows.
    pub(in crate::store) fn holes(&self, through: u64, received_before: Option<i64>) -> impl Iterator<Item = Hole> {
        let closed = self.holes.iter().take(self.open).copied();
        closed.chain(self.holes.iter().skip(self.open).map(move |hole| hole.up_to(through, received_before)))
    }

    fn pass(&mut self, segment: &Segment, bytes: (u64, u64), events_before: u64) {
        if segment.header.format == 1 {
            let (offset, length) = self.uncounted.unwrap_or((bytes.0, 0));
            self.uncounted = Some((offset, length.max(bytes.0 + bytes.1 - offset)));
            return;
        }
        self.holes.push(Hole {
            first: self.events + 1,
            last: events_before,
            after: self.last_sequence,
            through: self.last_sequence,
            offset: bytes.0,
            length: bytes.1,
            received_after: self.last_received,
            received_before: None,
        });
    }

    /// What is missing behind the last sound group, where the log is known to have had `events` records and the sequence
    /// `through` up to the segment's end, and the next record was received at `received_before`.
    pub(in crate::store) fn tail(&self, events: u64, through: u64, received_before: Option<i64>) -> Option<Hole> {
        let (offset, length) = self.uncounted.unwrap_or((self.end, self.rest));
        if events <= self.events && length == 0 {
            return None;
        }
        Some(Hole {
            first: self.events + 1,
            last: events,
            // In format 1 it may lie anywhere behind the first damage.
            after: if self.uncounted.is_some() { 0 } else { self.last_sequence },
            through: through.max(self.last_sequence),
            offset,
            length,
            received_after: self.last_received,
            received_before,
        })
    }
}
