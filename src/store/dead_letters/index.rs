//! What the letters' file says, in memory: which letters wait, and what became of the others.
//!
//! The numbers of a sink hold for each letter once: one that was resolved and is put there again, since the sink's position
//! had not moved past it, waits and is resolved no more.

use super::coding::{self, Entry, What};
use super::{DeadLetter, DeadLetterCounts};
use crate::store::files::frames::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{AddAssign, Bound};

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Fate {
    Retried,
    Forwarded,
    Dropped,
    /// Its bytes were found damaged.
    Damaged,
}

#[derive(Default)]
pub(in crate::store) struct Index {
    sinks: BTreeMap<String, OfSink>,
    /// Bytes of letters that wait.
    live: u64,
    /// Of every letter ever, so that the next sequence is above them all.
    highest_sequence: u64,
}

#[derive(Default)]
struct OfSink {
    waiting: BTreeMap<u64, Waiting>,
    /// Those of them that do not count: from before the sink began again.
    of_before: u64,
    /// Those that may yet be put there again, each with a frame in the file.
    resolved: BTreeMap<u64, Fate>,
    /// Their numbers.
    of_resolved: DeadLetterCounts,
    /// The numbers of all the others.
    totals: DeadLetterCounts,
}

pub(super) struct Waiting {
    pub(super) letter: DeadLetter,
    pub(super) place: Place,
    of_before: bool,
}

/// A letter that waits, for writing the file anew.
pub(super) struct Copied {
    pub(super) place: Place,
    /// Which of the sinks, by name.
    pub(super) sink: usize,
}

/// The state of the index as frames, in the order in which they are to be written.
#[derive(Default)]
pub(super) struct Snapshot {
    pub(super) sinks: Vec<String>,
    /// Letters that do not count, by their place.
    pub(super) of_before: Vec<Copied>,
    /// That they do not.
    pub(super) restarts: Vec<Vec<u8>>,
    /// All the others, by their place.
    pub(super) letters: Vec<Copied>,
    /// What became of those that wait no more.
    pub(super) rest: Vec<Vec<u8>>,
}

impl Index {
    /// Takes in a frame's content; `false` where it says nothing.
    pub(in crate::store) fn apply(&mut self, content: &[u8], place: Place) -> bool {
        let Some(Entry { sink, sequence, what }) = coding::decode(content) else { return false };
        self.highest_sequence = self.highest_sequence.max(sequence);
        match what {
            What::Letter(letter, _) => {
                self.live += place.length;
                let replaced = self.of_mut(sink).add(sequence, Waiting { letter, place, of_before: false });
                self.live -= replaced.map_or(0, |replaced| replaced.place.length);
            }
            What::Resolved(fate) => {
                let gone = self.of_mut(sink).resolve(sequence, fate);
                self.live -= gone.map_or(0, |gone| gone.place.length);
            }
            What::Renamed { from } => self.rename(from, sink),
            What::Totals(counts) => self.of_mut(sink).totals += counts,
            What::Restarted => self.restart(sink),
        }
        true
    }

    /// The sink begins again: what it had up to here counts no more.
    pub(in crate::store) fn restart(&mut self, sink: &str) {
        if let Some(of) = self.sinks.get_mut(sink) {
            of.restart();
        }
    }

    fn of_mut(&mut self, sink: &str) -> &mut OfSink {
        if !self.sinks.contains_key(sink) {
            self.sinks.insert(sink.to_owned(), OfSink::default());
        }
        // It is there.
        self.sinks.entry(sink.to_owned()).or_default()
    }

    /// What another sink of the new key had before is not this one's, and stays there to be looked at.
    fn rename(&mut self, from: &str, to: &str) {
        let Some(moved) = (from != to).then(|| self.sinks.remove(from)).flatten() else { return };
        let target = self.of_mut(to);
        target.restart();
        let mut replaced = 0;
        for (sequence, waiting) in moved.waiting {
            let of_before = waiting.of_before;
            replaced += target.add(sequence, waiting).map_or(0, |replaced| replaced.place.length);
            target.of_before += u64::from(of_before);
        }
        (target.resolved, target.of_resolved, target.totals) = (moved.resolved, moved.of_resolved, moved.totals);
        self.live -= replaced;
    }

    pub(super) fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn highest_sequence(&self) -> u64 {
        self.highest_sequence
    }

    pub(super) fn waiting(&self, sink: &str) -> u64 {
        self.sinks.get(sink).map_or(0, |of| of.waiting.len() as u64)
    }

    pub(super) fn letter(&self, sink: &str, sequence: u64) -> Option<&Waiting> {
        self.sinks.get(sink)?.waiting.get(&sequence)
    }

    /// Sequences above this one of which there is a letter, or was one until somebody resolved it.
    pub(super) fn above(&self, sink: &str, sequence: u64) -> BTreeSet<u64> {
        let Some(of) = self.sinks.get(sink) else { return BTreeSet::new() };
        let above = (Bound::Excluded(sequence), Bound::Unbounded);
        let waiting = of.waiting.range(above).filter(|(_, waiting)| !waiting.of_before).map(|(sequence, _)| *sequence);
        // The record of one whose bytes are damaged is still in the log.
        let resolved =
            of.resolved.range(above).filter(|(_, fate)| **fate != Fate::Damaged).map(|(sequence, _)| *sequence);
        waiting.chain(resolved).collect()
    }

    /// Whether there is a letter of this sequence, or was one until somebody resolved it.
    pub(super) fn has(&self, sink: &str, sequence: u64) -> bool {
        let fate = self.sinks.get(sink).and_then(|of| of.resolved.get(&sequence));
        self.is_counted(sink, sequence) || fate.is_some_and(|fate| *fate != Fate::Damaged)
    }

    /// Whether it waits and counts: then it need not be put there again.
    pub(super) fn is_counted(&self, sink: &str, sequence: u64) -> bool {
        self.letter(sink, sequence).is_some_and(|waiting| !waiting.of_before)
    }

    /// Which letter waits at a place.
    pub(super) fn at(&self, place: Place) -> Option<(&str, u64)> {
        self.sinks.iter().find_map(|(sink, of)| {
            let (sequence, _) = of.waiting.iter().find(|(_, waiting)| waiting.place == place)?;
            Some((sink.as_str(), *sequence))
        })
    }

    /// Whether of some of a sink's letters only the number is known.
    pub(in crate::store) fn has_totals(&self, sink: &str) -> bool {
        self.sinks.get(sink).is_some_and(|of| of.totals.sum() > 0)
    }

    /// Those of a sink, by sequence.
    pub(super) fn of(&self, sink: &str) -> impl DoubleEndedIterator<Item = (u64, &DeadLetter)> {
        let waiting = self.sinks.get(sink).into_iter().flat_map(|of| &of.waiting);
        waiting.map(|(sequence, waiting)| (*sequence, &waiting.letter))
    }

    /// Those of all sinks or of one, behind the one at `after`, by sink and sequence.
    pub(super) fn after(
        &self,
        sink: Option<&str>,
        after: Option<&(String, u64)>,
    ) -> impl Iterator<Item = (&str, u64, &DeadLetter)> {
        let behind = move |name: &str| match after {
            Some((of, sequence)) if of == name => Bound::Excluded(*sequence),
            _ => Bound::Unbounded,
        };
        let is_wanted = move |name: &str| sink.is_none_or(|sink| sink == name);
        let is_behind = move |name: &str| after.is_none_or(|(of, _)| of.as_str() <= name);
        let wanted = self.sinks.iter().filter(move |(name, _)| is_wanted(name) && is_behind(name));
        wanted.flat_map(move |(name, of)| {
            let waiting = of.waiting.range((behind(name), Bound::Unbounded));
            waiting.map(move |(sequence, waiting)| (name.as_str(), *sequence, &waiting.letter))
        })
    }

    /// How many letters a sink has that came after `base` and up to `through`, by what became of them. What lies outside is
    /// a few at most: letters whose position was not noted before the process ended.
    pub(in crate::store) fn counts(&self, sink: &str, base: u64, through: u64) -> DeadLetterCounts {
        let Some(of) = self.sinks.get(sink) else { return DeadLetterCounts::default() };
        let mut counts = of.totals;
        counts += of.of_resolved;
        counts.waiting = of.waiting.len() as u64 - of.of_before;
        let above = (Bound::Excluded(through.max(base)), Bound::Unbounded);
        let below = (Bound::Unbounded, Bound::Included(base));
        for outside in [below, above] {
            let waiting = of.waiting.range(outside).filter(|(_, waiting)| !waiting.of_before).count();
            counts.waiting -= waiting as u64;
            of.resolved.range(outside).for_each(|(_, fate)| *counts.of(*fate) -= 1);
        }
        counts
    }

    /// What is behind a sink's position for good can never be put there again: of that the numbers are enough. `known`
    /// has a sink's base and that position.
    pub(super) fn fold(&mut self, known: impl Fn(&str) -> Option<(u64, u64)>) {
        for (sink, of) in &mut self.sinks {
            let Some((base, settled)) = known(sink) else { continue };
            let above = settled.checked_add(1).map(|above| of.resolved.split_off(&above)).unwrap_or_default();
            for (sequence, fate) in std::mem::replace(&mut of.resolved, above) {
                *of.of_resolved.of(fate) -= 1;
                if sequence > base {
                    *of.totals.of(fate) += 1;
                }
            }
        }
        self.sinks.retain(|_, of| !of.waiting.is_empty() || !of.resolved.is_empty() || of.totals.sum() > 0);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (index, (sink, of)) in self.sinks.iter().enumerate() {
            snapshot.sinks.push(sink.clone());
            for waiting in of.waiting.values() {
                let list = if waiting.of_before { &mut snapshot.of_before } else { &mut snapshot.letters };
                list.push(Copied { place: waiting.place, sink: index });
            }
            if of.of_before > 0 {
                snapshot.restarts.push(coding::restarted(sink));
            }
            if of.totals.sum() > 0 {
                snapshot.rest.push(coding::totals(sink, &of.totals));
            }
            let resolved = of.resolved.iter();
            snapshot.rest.extend(resolved.map(|(sequence, fate)| coding::resolved(sink, *sequence, *fate)));
        }
        snapshot.of_before.sort_unstable_by_key(|copied| copied.place.start);
        snapshot.letters.sort_unstable_by_key(|copied| copied.place.start);
        snapshot
    }

    /// Every letter that waits has a new place.
    pub(super) fn relocate(&mut self, moved: impl Fn(Place) -> Place) {
        self.live = 0;
        for waiting in self.sinks.values_mut().flat_map(|of| of.waiting.values_mut()) {
            waiting.place = moved(waiting.place);
            self.live += waiting.place.length;
        }
    }
}

impl OfSink {
    /// Returns the one whose place it takes.
    fn add(&mut self, sequence: u64, waiting: Waiting) -> Option<Waiting> {
        if let Some(fate) = self.resolved.remove(&sequence) {
            *self.of_resolved.of(fate) -= 1;
        }
        let replaced = self.waiting.insert(sequence, waiting);
        self.of_before -= u64::from(replaced.as_ref().is_some_and(|replaced| replaced.of_before));
        replaced
    }

    /// Counts also where the letter itself is not there: then its own bytes were damaged.
    fn resolve(&mut self, sequence: u64, fate: Fate) -> Option<Waiting> {
        let gone = self.waiting.remove(&sequence);
        if gone.as_ref().is_some_and(|gone| gone.of_before) {
            self.of_before -= 1;
            return gone;
        }
        *self.of_resolved.of(fate) += 1;
        if let Some(before) = self.resolved.insert(sequence, fate) {
            *self.of_resolved.of(before) -= 1;
        }
        gone
    }

    /// What waits goes on waiting; nothing counts any more.
    fn restart(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.of_before = true);
        self.of_before = self.waiting.len() as u64;
        self.resolved.clear();
        (self.of_resolved, self.totals) = Default::default();
    }
}

impl DeadLetterCounts {
    fn of(&mut self, fate: Fate) -> &mut u64 {
        match fate {
            Fate::Retried => &mut self.retried,
            Fate::Forwarded => &mut self.forwarded,
            Fate::Dropped => &mut self.dropped,
            Fate::Damaged => &mut self.damaged,
        }
    }
}

impl AddAssign for DeadLetterCounts {
    fn add_assign(&mut self, other: Self) {
        self.waiting += other.waiting;
        self.retried += other.retried;
        self.forwarded += other.forwarded;
        self.dropped += other.dropped;
        self.damaged += other.damaged;
    }
}
