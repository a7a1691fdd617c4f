//! Files of plain frames, one behind the other: length 4, CRC-32C 4, content. There is one reader for them.
//!
//! A frame that is not sound is either the *torn* end of the file, which a cut left behind and nobody was ever answered for,
//! or *damage*, if a sound one follows: frames are appended one after the other and each is synced before the next. So
//! whatever is damaged costs itself, and nothing behind it.
//!
//! The next sound frame is looked for at every byte, for the length of the damaged one may be what is damaged. Three things
//! keep what is none from being taken for one, and the search from growing with the square of the file: a length below
//! [`LONGEST`], which no text has at any place; the beginning that the file's own kind of content must have; and the CRC,
//! with all of the content read as what it is to be. A frame within a frame is no danger then: its content is another kind's.

use super::bytes::Reader;
use super::disk::File;
use bytes::Bytes;
use std::io;

/// Bytes before the content.
pub(in crate::store) const PREFIX: u64 = 8;
/// A content is shorter. Any four bytes of a body, read as a length, are more: JSON has no character below TAB.
pub(super) const LONGEST: u64 = 0x0900_0000;
/// What is read from the file at once.
const READ_AHEAD: u64 = 256 * 1024;
/// As much of a content as its kind is told by.
pub(super) const HEAD: usize = 3;

/// Where a frame is, its prefix included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Place {
    pub(in crate::store) start: u64,
    pub(in crate::store) length: u64,
}

impl Place {
    pub(in crate::store) fn end(&self) -> u64 {
        self.start + self.length
    }

    /// Of a content of so many bytes.
    pub(in crate::store) fn of(start: u64, content: usize) -> Self {
        Self { start, length: PREFIX + content as u64 }
    }
}

/// What a file's contents look like.
#[derive(Clone, Copy)]
pub(in crate::store) struct Shape {
    /// No content is shorter.
    pub(in crate::store) shortest: u64,
    /// Whether a content may begin with these [`HEAD`] bytes.
    pub(in crate::store) may_begin: fn(&[u8]) -> bool,
    /// Whether it can be read, all of it.
    pub(in crate::store) is_whole: fn(&Bytes) -> bool,
}

/// What lies at a place.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum Found {
    /// A sound frame, and its content.
    Frame(Place, Bytes),
    /// Bytes between two sound frames, or before the first.
    Damaged(Place),
    /// Bytes behind the last sound frame.
    Torn(Place),
}

/// Reads a file from its first frame to `end`.
pub(in crate::store) struct Scanner<'a> {
    file: &'a dyn File,
    shape: Shape,
    offset: u64,
    end: u64,
    window: Bytes,
    window_start: u64,
}

impl<'a> Scanner<'a> {
    pub(in crate::store) fn new(file: &'a dyn File, end: u64, shape: Shape) -> Self {
        Self { file, shape, offset: 0, end, window: Bytes::new(), window_start: 0 }
    }

    /// What comes next; `None` at the end.
    pub(in crate::store) fn next(&mut self) -> io::Result<Option<Found>> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let start = self.offset;
        if let Some((place, content)) = self.frame_at(start)? {
            self.offset = place.end();
            return Ok(Some(Found::Frame(place, content)));
        }
        let mut next = start + 1;
        while next + PREFIX + self.shape.shortest <= self.end {
            if self.frame_at(next)?.is_some() {
                self.offset = next;
                return Ok(Some(Found::Damaged(Place { start, length: next - start })));
            }
            next += 1;
        }
        self.offset = self.end;
        Ok(Some(Found::Torn(Place { start, length: self.end - start })))
    }

    fn frame_at(&mut self, offset: u64) -> io::Result<Option<(Place, Bytes)>> {
        let shortest = (HEAD as u64).max(self.shape.shortest);
        let Some(front) = self.bytes_at(offset, PREFIX + shortest)? else { return Ok(None) };
        let mut reader = Reader(&front);
        let (Some(length), Some(crc)) = (reader.u32(), reader.u32()) else { return Ok(None) };
        let length = u64::from(length);
        let plausible =
            (shortest..LONGEST).contains(&length) && reader.take(HEAD).is_some_and(|head| (self.shape.may_begin)(head));
        if !plausible {
            return Ok(None);
        }
        let Some(whole) = self.bytes_at(offset, PREFIX + length)? else { return Ok(None) };
        let content = whole.slice(PREFIX as usize..);
        let sound = crc32c::crc32c(&content) == crc && (self.shape.is_whole)(&content);
        Ok(sound.then(|| (Place { start: offset, length: PREFIX + length }, content)))
    }

    /// `None` when they are not all before the end.
    fn bytes_at(&mut self, offset: u64, length: u64) -> io::Result<Option<Bytes>> {
        let end = offset + length;
        if end > self.end {
            return Ok(None);
        }
        if offset < self.window_start || end > self.window_start + self.window.len() as u64 {
            let wanted = length.max(READ_AHEAD.min(self.end - offset));
            let mut buffer = vec![0; wanted as usize];
            let read = self.file.read_at(&mut buffer, offset)?;
            buffer.truncate(read);
            (self.window, self.window_start) = (Bytes::from(buffer), offset);
        }
        let start = (offset - self.window_start) as usize;
        let whole = start + length as usize <= self.window.len();
        Ok(whole.then(|| self.window.slice(start..start + length as usize)))
    }
}

/// Appends a frame to `bytes`.
pub(in crate::store) fn put(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
    bytes.extend_from_slice(content);
}

/// The content of a frame whose place is known; `None` when it is not sound any more.
pub(in crate::store) fn read(file: &dyn File, place: Place) -> io::Result<Option<Bytes>> {
    let bytes = bytes(file, place)?;
    let mut reader = Reader(&bytes);
    let (length, crc) = (reader.u32(), reader.u32());
    let sound = length.is_some_and(|length| u64::from(length) == place.length.saturating_sub(PREFIX))
        && bytes.len() as u64 == place.length
        && crc == Some(crc32c::crc32c(reader.0));
    Ok(sound.then(|| bytes.slice(PREFIX as usize..)))
}

/// The bytes at a place, whatever they are; fewer where the file ends.
pub(in crate::store) fn bytes(file: &dyn File, place: Place) -> io::Result<Bytes> {
    let mut bytes = vec![0; place.length as usize];
    let read = file.read_at(&mut bytes, place.start)?;
    bytes.truncate(read);
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::disk::{Disk, Open, RealDisk};

    /// Contents of a `T`, a length of two bytes, and as many characters.
    const SHAPE: Shape = Shape {
        shortest: 3,
        may_begin: |head| head.first() == Some(&b'T'),
        is_whole: |content| {
            let mut reader = Reader(content);
            reader.u8() == Some(b'T') && reader.text().is_some() && reader.0.is_empty()
        },
    };

    fn text(length: usize) -> Vec<u8> {
        let mut content = vec![b'T'];
        crate::store::files::bytes::put_text(&mut content, &"x".repeat(length));
        content
    }

    fn scan(bytes: &[u8]) -> Vec<Found> {
        let folder = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&folder.path().join("log"), Open::New).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let mut scanner = Scanner::new(&*file, bytes.len() as u64, SHAPE);
        std::iter::from_fn(|| scanner.next().unwrap()).collect()
    }

    fn file_of(lengths: &[usize]) -> (Vec<u8>, Vec<Place>) {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for length in lengths {
            let content = text(*length);
            places.push(Place::of(bytes.len() as u64, content.len()));
            put(&mut bytes, &content);
        }
        (bytes, places)
    }

    #[test]
    fn whichever_byte_is_damaged_only_its_frame_is_lost() {
        let lengths = [5, 0, 40, 17, 1];
        let (bytes, places) = file_of(&lengths);
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let hit = places.iter().position(|place| (place.start..place.end()).contains(&(at as u64))).unwrap();
                let expected = places.iter().enumerate().map(|(index, place)| match index {
                    _ if index != hit => Found::Frame(*place, Bytes::from(text(lengths[index]))),
                    _ if hit + 1 == places.len() => Found::Torn(*place),
                    _ => Found::Damaged(*place),
                });
                let expected: Vec<Found> = expected.collect();
                assert_eq!(scan(&damaged), expected, "byte {at}, by {flip:#x}");
            }
        }
    }

    #[test]
    fn wherever_it_is_cut_what_is_before_stays_and_the_rest_is_torn() {
        let (bytes, places) = file_of(&[5, 40, 17]);
        for length in 0..=bytes.len() {
            let found = scan(&bytes[..length]);
            let whole = places.iter().filter(|place| place.end() <= length as u64).count();
            let end = places[..whole].last().map_or(0, Place::end);
            assert_eq!(found.iter().filter(|one| matches!(one, Found::Frame(..))).count(), whole);
            let torn = Place { start: end, length: length as u64 - end };
            assert_eq!(found.get(whole), (torn.length > 0).then_some(&Found::Torn(torn)), "at {length}");
        }
    }

    #[test]
    fn a_frame_longer_than_what_is_read_at_once_and_damage_as_long_are_passed_over() {
        let long = READ_AHEAD as usize * 2;
        let mut bytes = Vec::new();
        put(&mut bytes, &text(3));
        // Zeros are a length of nothing with the CRC of nothing, and no frame.
        bytes.extend(std::iter::repeat_n(0, long));
        let behind = bytes.len() as u64;
        put(&mut bytes, &text(60_000));
        let found = scan(&bytes);
        assert_eq!(found.len(), 3);
        assert_eq!(found[1], Found::Damaged(Place { start: 14, length: behind - 14 }));
        assert_eq!(found[2], Found::Frame(Place::of(behind, 60_003), Bytes::from(text(60_000))));
    }

    #[test]
    fn a_text_is_never_taken_for_a_length() {
        for character in [b'\t', b'\n', b'\r', b' ', b'{', 0x7f, 0xc3] {
            assert!(u64::from(u32::from_le_bytes([0, 0, 0, character])) >= LONGEST, "{character}");
        }
    }
}
