//! Records that a sink will never take, kept until an operator decides.
//!
//! One append-only file of frames (length, CRC-32C, content). A letter is synced before its sink's position moves past
//! it; what became of it later is a frame too, and so is the new name of a sink that has some.

use super::bytes::{Reader, put_text};
use super::disk::{Disk, File, Open};
use super::frame::{self, EventFrame, Frame};
use crate::event::Stored;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LETTER: u8 = 1;
const RETRIED: u8 = 2;
const DROPPED: u8 = 3;
const RENAMED: u8 = 4;
const FORWARDED: u8 = 5;
const PREFIX: u64 = 8;
/// Below this a file is not worth being written anew.
const COMPACT_FROM: u64 = 1024 * 1024;

/// Why a record became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// One of the metrics' reasons.
    pub reason: String,
    /// The peer's or the client's own words.
    pub message: String,
}

/// A dead letter that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event's id.
    pub id: String,
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub at: jiff::Timestamp,
    place: (u64, u64),
}

/// What an operator did with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Sent again with success.
    Retried,
    /// Given up.
    Dropped,
    /// Handed on to where the peer keeps dead letters.
    Forwarded,
}

pub(super) struct DeadLetters {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Arc<dyn File>,
    /// What of the file is on disk for good and read.
    length: u64,
    /// Bytes of letters that wait, and most that there may be.
    live: u64,
    max_live: u64,
    /// Bytes of what became of the others.
    notes: u64,
    /// A write or sync failed: what is behind `length` is unknown, and a new file must be made first.
    broken: bool,
    waiting: BTreeMap<(String, u64), DeadLetter>,
    /// Of every letter ever, so that the next sequence is above them all.
    highest_sequence: u64,
}

impl DeadLetters {
    pub(super) fn open(disk: Arc<dyn Disk>, dir: PathBuf, max_live: u64) -> io::Result<Self> {
        disk.create_dir_all(&dir)?;
        let file = disk.open(&file_path(&dir), Open::Either)?;
        disk.sync_dir(&dir)?;
        let mut letters = Self {
            disk,
            dir,
            file,
            length: 0,
            live: 0,
            max_live,
            notes: 0,
            broken: false,
            waiting: BTreeMap::new(),
            highest_sequence: 0,
        };
        letters.recover()?;
        if letters.is_wasteful() {
            letters.rewrite()?;
        }
        Ok(letters)
    }

    /// Whether more than half of the file is of no use any more.
    fn is_wasteful(&self) -> bool {
        self.length > COMPACT_FROM && self.live + self.notes < self.length / 2
    }

    /// Reads up to the first frame that is not whole and sound, which a cut left behind, and cuts the file there.
    fn recover(&mut self) -> io::Result<()> {
        self.file.sync_and_reread()?;
        let end = self.file.length()?;
        while let Some(content) = read_frame(&*self.file, self.length, end)? {
            let place = (self.length, PREFIX + content.len() as u64);
            self.length += place.1;
            self.apply(content, place);
        }
        if self.length < end {
            self.file.set_len(self.length)?;
        }
        self.file.sync_data()
    }

    fn apply(&mut self, content: Bytes, place: (u64, u64)) {
        let Some(entry) = decode(&content) else { return };
        if let Some(old) = entry.renamed_from {
            return self.carry_over(old, entry.sink);
        }
        let key = (entry.sink.to_owned(), entry.sequence);
        self.highest_sequence = self.highest_sequence.max(entry.sequence);
        match entry.letter {
            Some((id, cause, at)) => {
                self.live += place.1;
                self.waiting.insert(key, DeadLetter { id, cause, at, place });
            }
            None => {
                self.notes += place.1;
                if let Some(gone) = self.waiting.remove(&key) {
                    self.live -= gone.place.1;
                }
            }
        }
    }

    fn carry_over(&mut self, old: &str, new: &str) {
        let own = (old.to_owned(), 0)..=(old.to_owned(), u64::MAX);
        let moved: Vec<_> = self.waiting.extract_if(own, |_, _| true).collect();
        for ((_, sequence), letter) in moved {
            if let Some(replaced) = self.waiting.insert((new.to_owned(), sequence), letter) {
                self.live -= replaced.place.1;
            }
        }
    }

    /// Bytes on disk.
    pub(super) fn size(&self) -> u64 {
        self.length
    }

    pub(super) fn highest_sequence(&self) -> u64 {
        self.highest_sequence
    }

    pub(super) fn waiting(&self, sink: &str) -> u64 {
        self.of(sink).count() as u64
    }

    /// Those of all sinks or of one, behind the one at `after`, by sink and sequence.
    pub(super) fn after(
        &self,
        sink: Option<&str>,
        after: Option<(String, u64)>,
    ) -> impl Iterator<Item = (&(String, u64), &DeadLetter)> {
        let first = sink.map_or(Bound::Unbounded, |sink| Bound::Included((sink.to_owned(), 0)));
        let behind = after.map(Bound::Excluded);
        // The map is ordered by sink; a cursor of a sink before the wanted one is none.
        let from = match (&first, behind) {
            (Bound::Included(first), Some(Bound::Excluded(after))) if after < *first => Bound::Included(first.clone()),
            (_, Some(behind)) => behind,
            (_, None) => first,
        };
        let sink = sink.map(str::to_owned);
        let of_sink = move |(key, _): &(&(String, u64), &DeadLetter)| sink.as_ref().is_none_or(|sink| key.0 == *sink);
        self.waiting.range((from, Bound::Unbounded)).take_while(of_sink)
    }

    /// Those of a sink, by sequence.
    pub(super) fn of(&self, sink: &str) -> impl DoubleEndedIterator<Item = (u64, &DeadLetter)> {
        let range = (sink.to_owned(), 0)..=(sink.to_owned(), u64::MAX);
        self.waiting.range(range).map(|((_, sequence), letter)| (*sequence, letter))
    }

    /// The event of a letter that waits.
    pub(super) fn event(&self, sink: &str, sequence: u64) -> io::Result<Option<Stored>> {
        let Some(letter) = self.waiting.get(&(sink.to_owned(), sequence)) else { return Ok(None) };
        let (start, length) = letter.place;
        let Some(content) = read_frame(&*self.file, start, start + length)? else { return Ok(None) };
        Ok(decode(&content).and_then(|entry| match frame::take(&mut content.slice_ref(entry.event)) {
            Some(Frame::Event(event)) => Some(event.stored),
            _ => None,
        }))
    }

    /// Adds letters of one sink, durably, as many of the first ones as there is room for, and returns how many these are.
    /// One that waits already is not added twice (its position did not move last time), and counts.
    pub(super) fn park(
        &mut self,
        sink: &str,
        letters: &[(Arc<Stored>, Cause)],
        now: jiff::Timestamp,
    ) -> io::Result<usize> {
        let (mut new, mut live, mut kept) = (Vec::new(), self.live, 0);
        for (stored, cause) in letters {
            if !self.waiting.contains_key(&(sink.to_owned(), stored.sequence)) {
                let content = encode_letter(sink, stored, cause, now);
                live += PREFIX + content.len() as u64;
                if live > self.max_live {
                    break;
                }
                new.push(content);
            }
            kept += 1;
        }
        if kept == 0 && !letters.is_empty() {
            let message = format!(
                "dead letters take {} of at most {} bytes (store.max_dead_letters_size): retry or drop some",
                self.live, self.max_live
            );
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, message));
        }
        self.append(&new)?;
        Ok(kept)
    }

    /// Notes what became of letters. Returns how many of them waited.
    pub(super) fn resolve(&mut self, sink: &str, sequences: &[u64], how: Resolution) -> io::Result<usize> {
        let sequences: BTreeSet<u64> = sequences.iter().copied().collect();
        let waiting = |sequence: &u64| self.waiting.contains_key(&(sink.to_owned(), *sequence));
        let notes = sequences.into_iter().filter(waiting).map(|sequence| encode_note(sink, sequence, how));
        let notes: Vec<_> = notes.collect();
        self.append(&notes)?;
        if self.is_wasteful() {
            self.rewrite()?;
        }
        Ok(notes.len())
    }

    /// Gives the letters of one sink to another, durably.
    pub(super) fn rename(&mut self, old: &str, new: &str) -> io::Result<()> {
        let mut content = vec![RENAMED];
        put_text(&mut content, new);
        content.extend_from_slice(&0u64.to_le_bytes());
        put_text(&mut content, old);
        self.append(&[content])
    }

    fn append(&mut self, contents: &[Vec<u8>]) -> io::Result<()> {
        if contents.is_empty() {
            return Ok(());
        }
        if self.broken {
            self.rewrite()?;
        }
        let mut bytes = Vec::new();
        contents.iter().for_each(|content| put_frame(&mut bytes, content));
        self.broken = true;
        self.file.write_all_at(&bytes, self.length)?;
        self.file.sync_data()?;
        self.broken = false;
        for content in contents {
            let place = (self.length, PREFIX + content.len() as u64);
            self.length += place.1;
            self.apply(Bytes::copy_from_slice(content), place);
        }
        Ok(())
    }

    /// What became of the letters that wait no more, by which their sinks' counts are proven.
    fn notes(&self) -> io::Result<BTreeMap<(String, u64), Resolution>> {
        let mut notes = BTreeMap::new();
        let mut offset = 0;
        while let Some(content) = read_frame(&*self.file, offset, self.length)? {
            offset += PREFIX + content.len() as u64;
            let Some(entry) = decode(&content) else { continue };
            let key = (entry.sink.to_owned(), entry.sequence);
            match (entry.renamed_from, entry.resolution) {
                (Some(old), _) => {
                    let own = (old.to_owned(), 0)..=(old.to_owned(), u64::MAX);
                    let moved: Vec<_> = notes.extract_if(own, |_, _| true).collect();
                    notes.extend(moved.into_iter().map(|((_, sequence), how)| ((key.0.clone(), sequence), how)));
                }
                (None, Some(how)) => drop(notes.insert(key, how)),
                (None, None) => drop(notes.remove(&key)),
            }
        }
        Ok(notes)
    }

    /// Writes what waits, and what became of the rest, into a new file and puts it in the old one's place.
    pub(super) fn rewrite(&mut self) -> io::Result<()> {
        let path = file_path(&self.dir);
        let temporary = path.with_extension("new");
        let file = self.disk.open(&temporary, Open::Either)?;
        file.set_len(0)?;
        let mut length = 0;
        let mut places = Vec::with_capacity(self.waiting.len());
        for ((sink, _), letter) in &self.waiting {
            let (start, size) = letter.place;
            let content = read_frame(&*self.file, start, start + size)?.and_then(|content| of_sink(&content, sink));
            let Some(content) = content else {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a dead letter cannot be read back"));
            };
            let mut bytes = Vec::new();
            put_frame(&mut bytes, &content);
            file.write_all_at(&bytes, length)?;
            places.push((length, bytes.len() as u64));
            length += bytes.len() as u64;
        }
        let live = length;
        let mut notes = Vec::new();
        for ((sink, sequence), how) in self.notes()? {
            put_frame(&mut notes, &encode_note(&sink, sequence, how));
        }
        file.write_all_at(&notes, length)?;
        length += notes.len() as u64;
        file.sync_data()?;
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(&self.dir)?;
        for (letter, place) in self.waiting.values_mut().zip(places) {
            letter.place = place;
        }
        (self.file, self.length, self.live, self.notes, self.broken) = (file, length, live, length - live, false);
        Ok(())
    }
}

pub(super) fn file_path(dir: &Path) -> PathBuf {
    dir.join("letters.log")
}

pub(super) fn read_frame(file: &dyn File, offset: u64, end: u64) -> io::Result<Option<Bytes>> {
    let mut prefix = [0; PREFIX as usize];
    if offset + PREFIX > end || file.read_at(&mut prefix, offset)? < prefix.len() {
        return Ok(None);
    }
    let mut reader = Reader(&prefix);
    let (Some(length), Some(crc)) = (reader.u32(), reader.u32()) else { return Ok(None) };
    if offset + PREFIX + u64::from(length) > end {
        return Ok(None);
    }
    let mut content = vec![0; length as usize];
    let read = file.read_at(&mut content, offset + PREFIX)?;
    Ok((read == content.len() && crc32c::crc32c(&content) == crc).then(|| Bytes::from(content)))
}

fn put_frame(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
    bytes.extend_from_slice(content);
}

/// The same letter as that sink's, which may have had another name when it was written.
fn of_sink(content: &[u8], sink: &str) -> Option<Vec<u8>> {
    let mut reader = Reader(content);
    let kind = reader.u8()?;
    reader.text()?;
    let mut renamed = vec![kind];
    put_text(&mut renamed, sink);
    renamed.extend_from_slice(reader.0);
    Some(renamed)
}

fn encode_note(sink: &str, sequence: u64, how: Resolution) -> Vec<u8> {
    let mut content = vec![match how {
        Resolution::Retried => RETRIED,
        Resolution::Dropped => DROPPED,
        Resolution::Forwarded => FORWARDED,
    }];
    put_text(&mut content, sink);
    content.extend_from_slice(&sequence.to_le_bytes());
    content
}

fn encode_letter(sink: &str, stored: &Stored, cause: &Cause, now: jiff::Timestamp) -> Vec<u8> {
    let mut content = vec![LETTER];
    put_text(&mut content, sink);
    content.extend_from_slice(&stored.sequence.to_le_bytes());
    content.extend_from_slice(&now.as_microsecond().to_le_bytes());
    put_text(&mut content, &cause.reason);
    put_text(&mut content, &cause.message);
    put_text(&mut content, &stored.event.id);
    frame::put_event(&mut content, &EventFrame { stored: stored.clone(), hash: 0, replaces: None });
    content
}

pub(super) struct Entry<'a> {
    pub(super) sink: &'a str,
    pub(super) sequence: u64,
    /// `None`: the letter no longer waits.
    pub(super) letter: Option<(String, Cause, jiff::Timestamp)>,
    /// What became of it; `None` for a new letter.
    pub(super) resolution: Option<Resolution>,
    /// No letter's: the sink has all that it had under this name.
    pub(super) renamed_from: Option<&'a str>,
    pub(super) event: &'a [u8],
}

pub(super) fn decode(content: &[u8]) -> Option<Entry<'_>> {
    let mut reader = Reader(content);
    let kind = reader.u8()?;
    let (sink, sequence) = (reader.text()?, reader.u64()?);
    let letter = match kind {
        LETTER => {
            let at = jiff::Timestamp::from_microsecond(reader.i64()?).ok()?;
            let cause = Cause { reason: reader.text()?.to_owned(), message: reader.text()?.to_owned() };
            Some((reader.text()?.to_owned(), cause, at))
        }
        RETRIED | DROPPED | RENAMED | FORWARDED => None,
        _ => return None,
    };
    let renamed_from = if kind == RENAMED { Some(reader.text()?) } else { None };
    let resolution = match kind {
        RETRIED => Some(Resolution::Retried),
        DROPPED => Some(Resolution::Dropped),
        FORWARDED => Some(Resolution::Forwarded),
        _ => None,
    };
    Some(Entry { sink, sequence, letter, resolution, renamed_from, event: reader.0 })
}
