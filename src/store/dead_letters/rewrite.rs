//! The letters' file written anew, without what is over: in pieces, while the old one goes on taking frames.
//!
//! First what waited when it was begun, and the numbers of the rest; then, frame by frame as they are, what the old one was
//! given meanwhile. Read from the front both say the same.

use super::index::{Copied, Snapshot};
use super::writer::Writer;
use super::{Fate, coding};
use crate::store::files::disk::Disk;
use crate::store::files::frames::{self, Place};
use crate::store::files::replace::{Failed, Replacement};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes that are written and synced before whoever waits is looked after.
const PIECE: usize = 1024 * 1024;

pub(super) struct Rewrite {
    new: Replacement,
    /// What is written of it.
    written: u64,
    sinks: Vec<String>,
    /// What is still to be written, in this order.
    of_before: std::vec::IntoIter<Copied>,
    restarts: std::vec::IntoIter<Vec<u8>>,
    letters: std::vec::IntoIter<Copied>,
    rest: std::vec::IntoIter<Vec<u8>>,
    /// Where letters were and are, by where they were, of both lists one behind the other.
    moved: Vec<(u64, Place)>,
    /// The old one's length when this was begun, and up to where it is copied since.
    begun: u64,
    copied: u64,
    /// Where in the new one that lies what followed `begun`.
    followed: Option<u64>,
}

impl Rewrite {
    pub(super) fn begin(writer: &Writer) -> io::Result<Self> {
        let known = (writer.context.positions)();
        let snapshot = {
            let mut state = writer.shared.state.lock();
            state.index.fold(|sink| known.get(sink).map(|known| (known.progress.base, known.durable)));
            state.index.snapshot()
        };
        let new = Replacement::begin(&*writer.context.disk, &writer.path)?;
        let Snapshot { sinks, of_before, restarts, letters, rest } = snapshot;
        Ok(Self {
            new,
            written: 0,
            sinks,
            moved: Vec::with_capacity(of_before.len() + letters.len()),
            of_before: of_before.into_iter(),
            restarts: restarts.into_iter(),
            letters: letters.into_iter(),
            rest: rest.into_iter(),
            begun: writer.length,
            copied: writer.length,
            followed: None,
        })
    }

    /// Writes one piece; `true` once there is nothing more to write.
    pub(super) fn piece(&mut self, writer: &mut Writer) -> io::Result<bool> {
        let mut bytes = Vec::new();
        while bytes.len() < PIECE {
            if let Some(copied) = self.of_before.next() {
                self.copy(writer, &copied, &mut bytes)?;
            } else if let Some(content) = self.restarts.next() {
                frames::put(&mut bytes, &content);
            } else if let Some(copied) = self.letters.next() {
                self.copy(writer, &copied, &mut bytes)?;
            } else if let Some(content) = self.rest.next() {
                frames::put(&mut bytes, &content);
            } else {
                break;
            }
        }
        if bytes.len() < PIECE {
            self.followed.get_or_insert(self.written + bytes.len() as u64);
            let length = (writer.length - self.copied).min((PIECE - bytes.len()) as u64);
            let place = Place { start: self.copied, length };
            bytes.extend_from_slice(&frames::bytes(&*writer.file, place)?);
            self.copied += length;
        }
        self.new.file.write_all_at(&bytes, self.written)?;
        self.new.file.sync_data()?;
        self.written += bytes.len() as u64;
        Ok(self.followed.is_some() && self.copied == writer.length)
    }

    /// One that cannot be read is lost, and costs no other its place.
    fn copy(&mut self, writer: &mut Writer, copied: &Copied, bytes: &mut Vec<u8>) -> io::Result<()> {
        let sink = self.sinks.get(copied.sink).map(String::as_str).unwrap_or_default();
        let content = frames::read(&*writer.file, copied.place)?;
        match content.as_ref().and_then(|content| coding::of_sink(content, sink)) {
            Some(content) => {
                let start = self.written + bytes.len() as u64;
                frames::put(bytes, &content);
                self.moved.push((copied.place.start, Place::of(start, content.len())));
            }
            None => {
                let mut state = writer.shared.state.lock();
                let lost = state
                    .index
                    .at(copied.place)
                    .map(|(sink, sequence)| coding::resolved(sink, sequence, Fate::Damaged));
                if let Some(content) = &lost {
                    state.index.apply(content, Place { start: 0, length: 0 });
                }
                drop(state);
                writer.set_aside(copied.place);
                // It may be noted by the old file, too, if that is gone on with: there it is found damaged again.
                if let Some(content) = lost {
                    frames::put(bytes, &content);
                }
            }
        }
        Ok(())
    }

    /// Puts the new file in the old one's place.
    pub(super) fn finish(mut self, writer: &mut Writer) -> Result<(), Failed> {
        let file = self.new.finish(&*writer.context.disk)?;
        self.moved.sort_unstable_by_key(|(start, _)| *start);
        let (begun, followed) = (self.begun, self.followed.unwrap_or(self.written));
        let place = |old: Place| {
            if old.start >= begun {
                return Place { start: followed + (old.start - begun), ..old };
            }
            let found = self.moved.binary_search_by_key(&old.start, |(start, _)| *start);
            found.ok().and_then(|found| self.moved.get(found)).map_or(old, |(_, new)| *new)
        };
        {
            let mut state = writer.shared.state.lock();
            state.index.relocate(place);
            state.file = Arc::clone(&file);
        }
        writer.file = file;
        writer.length = self.written;
        writer.shared.size.store(self.written, Ordering::Relaxed);
        writer.tail = super::writer::Tail::Clean;
        // It is worth it again once it has doubled.
        writer.rewrite_from = self.written * 2;
        writer.has_damage = false;
        Ok(())
    }

    pub(super) fn give_up(self, disk: &dyn Disk) {
        self.new.give_up(disk);
    }
}
