//! The way through the list of events, page by page, newest first. Pure: it is told what each page held and says which
//! one to ask for next.
//!
//! # Why nothing is skipped
//! The list is sorted by time, newest first, and each page is another query: offset *o* and what stands there at that
//! moment. Between two queries rows may be inserted anywhere, and the oldest may leave. Say that a row's *rank* is the
//! number of rows before it.
//!
//! 1. A row's rank never falls, unequal times assumed: what is inserted before it raises the rank, what is inserted
//!    after it or leaves at the old end does not change it.
//! 2. So a row that was at rank *o + n* or beyond when page [*o*, *o + n*) was read is still at or beyond *o + n*
//!    afterwards, and asking next at *o + n* cannot have passed it. It may have moved so far that rows come again: a
//!    shift repeats, and never skips.
//! 3. The walk ends at a page that is not full (no row has a rank beyond it), or after a row that is older than the
//!    floor (nor has any row at or above the floor). Whatever was listed when the walk began, is not older than the
//!    floor, and did not leave meanwhile, has therefore been on one of the pages. (Of equal times the one that leaves
//!    may stand before another, whose rank then falls; that one is about to leave too.)
//!
//! Ascending pages have no such argument: each oldest row that leaves lowers every rank by one, and the row that moves
//! from *o + n* to *o + n - 1* is skipped.
//!
//! Rows of *equal* times may change places from one query to the next, so that 1 holds for the run of them as a whole
//! only: its first rank never falls, nor does the rank behind its last row. Where such a run is cut by the end of a page,
//! some of its rows may hide on the other side of the cut both times. That it was cut is seen on the next page: its first
//! row has the time of the last row before. Then that page is put away, and the next one begins where the run began, so
//! that one query shows all of it; if it begins with any other row, the run lies wholly before or wholly behind the cut.
//! A run that is longer than a page is read again until as many different events as rows were seen, [`MAX_PASSES`] times
//! at most.

use super::progress::PATIENCE;
use crate::e2b::MAX_EVENTS;
use jiff::Timestamp;
use std::collections::HashSet;

/// How often a run of equal times that is longer than a page is read.
const MAX_PASSES: u32 = 10;

/// Events of such a run that are told apart; with more than these it is read once.
const MAX_RUN: usize = 100_000;

/// What the walk needs to know of a listed event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) at: Timestamp,
    pub(super) id: String,
}

/// What to do after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Keep the page; go on at this offset.
    Next(usize),
    /// Put the page away; ask again at this offset.
    Again(usize),
    /// Keep the page: it was the last. Whether the list ended there; else the floor was reached.
    Done {
        /// No older event is listed.
        list_ended: bool,
    },
}

/// One walk.
#[derive(Debug)]
pub(super) struct Walk {
    floor: Timestamp,
    offset: usize,
    /// The last run of equal times on the page before: its time, and the offset of its first row.
    before: Option<(Timestamp, usize)>,
    long_run: Option<LongRun>,
}

/// A run that is longer than a page.
#[derive(Debug)]
struct LongRun {
    at: Timestamp,
    first: usize,
    seen: HashSet<String>,
    passes: u32,
}

impl Walk {
    /// From the newest event down to those at `floor`, those included.
    pub(super) fn new(floor: Timestamp) -> Self {
        Self { floor, offset: 0, before: None, long_run: None }
    }

    /// So many pages one after the other may bring no row that was not seen before: more where a run of equal times is
    /// read again.
    pub(super) fn patience(&self) -> usize {
        let run = self.long_run.as_ref().map_or(0, |run| run.seen.len().div_ceil(MAX_EVENTS));
        PATIENCE + run * MAX_PASSES as usize
    }

    /// Takes what stood on the page at the offset that was asked for; `None` is a row that could not be read, and `full`
    /// says whether there were as many as were asked for.
    pub(super) fn take(&mut self, rows: &[Option<Row>], full: bool) -> Step {
        let mut read = rows.iter().flatten();
        let (first, last) = match (read.next(), read.next_back()) {
            (Some(first), last) => (first.at, last.unwrap_or(first).at),
            // Nothing that could be read: on, if there is more.
            (None, _) if full => {
                self.before = None;
                return self.go_on(self.offset + rows.len());
            }
            (None, _) => return Step::Done { list_ended: true },
        };
        if let Some((at, start)) = self.before.take()
            && at == first
            && self.long_run.is_none()
        {
            self.offset = start;
            return Step::Again(start);
        }
        if let Some(again) = self.follow_long_run(rows, full) {
            return again;
        }
        if !full {
            return Step::Done { list_ended: true };
        }
        if last < self.floor {
            return Step::Done { list_ended: false };
        }
        let other = rows.iter().rposition(|row| row.as_ref().is_some_and(|row| row.at != last));
        match other {
            Some(other) => self.before = Some((last, self.offset + other + 1)),
            None if self.long_run.is_none() => {
                let seen = rows.iter().flatten().map(|row| row.id.clone()).collect();
                self.long_run = Some(LongRun { at: last, first: self.offset, seen, passes: 1 });
            }
            None => {}
        }
        self.go_on(self.offset + rows.len())
    }

    fn go_on(&mut self, offset: usize) -> Step {
        self.offset = offset;
        Step::Next(offset)
    }

    /// Counts the rows of a long run, and sends back to its beginning where it was not seen whole.
    fn follow_long_run(&mut self, rows: &[Option<Row>], full: bool) -> Option<Step> {
        let run = self.long_run.as_mut()?;
        for row in rows.iter().flatten().filter(|row| row.at == run.at) {
            if run.seen.len() < MAX_RUN {
                run.seen.insert(row.id.clone());
            }
        }
        let behind = rows.iter().position(|row| row.as_ref().is_some_and(|row| row.at < run.at));
        let end = match behind {
            Some(behind) => self.offset + behind,
            None if !full => self.offset + rows.len(),
            None => return None,
        };
        let is_whole = run.seen.len() >= (end - run.first).min(MAX_RUN);
        if is_whole || run.passes >= MAX_PASSES {
            self.long_run = None;
            return None;
        }
        run.passes += 1;
        let first = run.first;
        // This page is kept: what it brought counts.
        Some(self.go_on(first))
    }
}

#[cfg(test)]
mod tests;
