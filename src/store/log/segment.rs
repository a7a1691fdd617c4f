//! One file of a log: a header, then group envelopes, each written and synced as one.
//!
//! ```text
//! header    magic 8 │ format 4 │ log 4 │ number 8 │ generation 8 │ first sequence 8 │ events before 8 │
//!           number and length of the previous segment 8 + 8 │ created at 8 │ CRC-32C 4 │ zero 4
//! envelope  magic 4 │ count 4 │ generation 8 │ group number 8 │ first sequence 8 │ events before 8 │ length 4 │ CRC-32C 4
//!           then `length` bytes of frames, then zeros up to a multiple of 8
//! ```
//! In segments of format 1, which are read and not written, an envelope is without `events before`: their records are
//! counted from the header on.
//!
//! Little-endian. `generation` is drawn at random when the file gets its header: what another life of the same blocks
//! left behind, or what a stranger put into a body, never looks like an envelope of this file.

use crate::store::files::bytes::Reader;
use crate::store::files::disk::File;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Where the first envelope lies.
pub(in crate::store) const HEADER: u64 = 80;
/// Bytes of an envelope before its frames.
pub(super) const ENVELOPE: usize = 48;
/// The same in a segment of format 1.
const ENVELOPE_1: usize = 40;
/// Of the store; see `format` in its folder.
pub(in crate::store) const FORMAT: u32 = 2;

const HEADER_MAGIC: [u8; 8] = *b"E2BRELAY";
const ENVELOPE_MAGIC: [u8; 4] = *b"GRP2";
const ENVELOPE_MAGIC_1: [u8; 4] = *b"GRP1";
/// What is read from a file at once.
const READ_AHEAD: u64 = 256 * 1024;

/// The header of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Header {
    /// Of this segment: what an older version wrote stays as it is.
    pub(in crate::store) format: u32,
    /// Which log: 1 events, 2 samples.
    pub(in crate::store) log: u32,
    /// Rises by one from segment to segment.
    pub(in crate::store) number: u64,
    pub(in crate::store) generation: u64,
    /// The lowest sequence that an event in it can have.
    pub(in crate::store) first_sequence: u64,
    /// Events in this log before this segment, since the store was made.
    pub(in crate::store) events_before: u64,
    /// The segment before this one; 0 for the first. Numbers between the two were begun and given up.
    pub(in crate::store) previous_number: u64,
    /// What of the previous segment counts; anything behind it there was never acknowledged.
    pub(in crate::store) previous_length: u64,
    /// Unix time, microseconds.
    pub(in crate::store) created_at: i64,
}

impl Header {
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER as usize);
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&self.format.to_le_bytes());
        out.extend_from_slice(&self.log.to_le_bytes());
        for number in [
            self.number,
            self.generation,
            self.first_sequence,
            self.events_before,
            self.previous_number,
            self.previous_length,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.created_at.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out
    }

    /// `None` when it is torn or of another format.
    pub(in crate::store) fn read(file: &dyn File) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEADER as usize];
        if file.read_at(&mut bytes, 0)? < bytes.len() {
            return Ok(None);
        }
        Ok(Self::decode(&bytes))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let magic: [u8; 8] = reader.array()?;
        let format = reader.u32()?;
        let sound = magic == HEADER_MAGIC && (1..=FORMAT).contains(&format);
        let header = Self {
            format,
            log: reader.u32()?,
            number: reader.u64()?,
            generation: reader.u64()?,
            first_sequence: reader.u64()?,
            events_before: reader.u64()?,
            previous_number: reader.u64()?,
            previous_length: reader.u64()?,
            created_at: reader.i64()?,
        };
        let crc = crc32c::crc32c(bytes.get(..bytes.len() - reader.0.len())?);
        (sound && reader.u32()? == crc).then_some(header)
    }
}

/// One envelope with its frames.
#[derive(Debug, Clone)]
pub(in crate::store) struct Group {
    /// Rises by one from group to group of a segment.
    pub(in crate::store) number: u64,
    /// Events in it; control notes do not count.
    pub(in crate::store) count: u32,
    /// Events in this log before it.
    pub(in crate::store) events_before: u64,
    pub(in crate::store) frames: Bytes,
    /// Where the next envelope lies.
    pub(in crate::store) end: u64,
}

/// What is said of a group before its frames.
pub(super) struct Envelope {
    /// Of the segment.
    pub(in crate::store) generation: u64,
    /// [`Group::number`].
    pub(in crate::store) number: u64,
    /// The lowest sequence that an event in it can have.
    pub(in crate::store) first_sequence: u64,
    /// [`Group::events_before`].
    pub(in crate::store) events_before: u64,
    /// [`Group::count`].
    pub(in crate::store) count: u32,
}

/// Puts an envelope around `frames`, which begin at [`ENVELOPE`] in `buffer`.
pub(super) fn seal_group(buffer: &mut Vec<u8>, envelope: &Envelope) {
    let Envelope { generation, number, first_sequence, events_before, count } = *envelope;
    let length = buffer.len().saturating_sub(ENVELOPE) as u32;
    let mut head = Vec::with_capacity(ENVELOPE);
    head.extend_from_slice(&ENVELOPE_MAGIC);
    head.extend_from_slice(&count.to_le_bytes());
    for field in [generation, number, first_sequence, events_before] {
        head.extend_from_slice(&field.to_le_bytes());
    }
    head.extend_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head), buffer.get(ENVELOPE..).unwrap_or_default());
    head.extend_from_slice(&crc.to_le_bytes());
    if let Some(place) = buffer.get_mut(..ENVELOPE) {
        place.copy_from_slice(&head);
    }
    buffer.resize(buffer.len().next_multiple_of(8), 0);
}

/// What lies at a place of a segment.
pub(in crate::store) enum Step {
    Group(Group),
    /// No whole and sound envelope of this segment lies here.
    Bad,
    /// The limit is reached.
    End,
}

/// Reads the groups of one segment in order, up to a limit that may rise.
#[derive(Clone)]
pub(in crate::store) struct Cursor {
    file: Arc<dyn File>,
    generation: u64,
    /// Of the segment.
    format: u32,
    /// Events in the log before the next group, as far as it was read.
    pub(in crate::store) events: u64,
    /// Where the next envelope lies.
    pub(in crate::store) offset: u64,
    /// The number that the next group must have at least.
    next_number: u64,
    window: Bytes,
    window_start: u64,
}

impl Cursor {
    pub(in crate::store) fn new(file: Arc<dyn File>, header: &Header) -> Self {
        let Header { format, generation, events_before: events, .. } = *header;
        Self { file, generation, format, events, offset: HEADER, next_number: 0, window: Bytes::new(), window_start: 0 }
    }

    fn envelope_length(&self) -> usize {
        if self.format == 1 { ENVELOPE_1 } else { ENVELOPE }
    }

    fn magic(&self) -> [u8; 4] {
        if self.format == 1 { ENVELOPE_MAGIC_1 } else { ENVELOPE_MAGIC }
    }

    /// Reads the group at the cursor and moves past it. Nothing at or behind `limit` is looked at.
    pub(in crate::store) fn step(&mut self, limit: u64) -> io::Result<Step> {
        if self.offset >= limit {
            return Ok(Step::End);
        }
        let Some(group) = self.group_at(self.offset, limit)? else { return Ok(Step::Bad) };
        self.offset = group.end;
        self.next_number = group.number + 1;
        self.events = group.events_before + u64::from(group.count);
        Ok(Step::Group(group))
    }

    /// After [`Step::Bad`]: moves to the next sound group with a higher number, and returns how many bytes were
    /// passed over; `None` when there is no such group before `limit`.
    pub(in crate::store) fn resync(&mut self, limit: u64) -> io::Result<Option<u64>> {
        let start = self.offset;
        let mut offset = start + 8;
        while offset + (self.envelope_length() as u64) <= limit {
            let Some(found) = self.find_magic(offset, limit)? else { break };
            if self.group_at(found, limit)?.is_some() {
                self.offset = found;
                return Ok(Some(found - start));
            }
            offset = found + 8;
        }
        Ok(None)
    }

    /// The next multiple of 8 from `offset` on at which the envelope's magic stands.
    fn find_magic(&mut self, mut offset: u64, limit: u64) -> io::Result<Option<u64>> {
        let magic = self.magic();
        while offset + 8 <= limit {
            let Some(chunk) = self.bytes_at(offset, 8, limit)? else { return Ok(None) };
            let available = self.window.len() - (offset - self.window_start) as usize;
            let chunk = if available > chunk.len() {
                self.window.slice((offset - self.window_start) as usize..)
            } else {
                chunk
            };
            for (index, word) in chunk.chunks_exact(8).enumerate() {
                if word.starts_with(&magic) {
                    return Ok(Some(offset + index as u64 * 8));
                }
            }
            offset += (chunk.len() / 8 * 8) as u64;
        }
        Ok(None)
    }

    fn group_at(&mut self, offset: u64, limit: u64) -> io::Result<Option<Group>> {
        let envelope_length = self.envelope_length();
        let Some(head) = self.bytes_at(offset, envelope_length, limit)? else { return Ok(None) };
        let Some((envelope, length, crc)) = self.envelope(&head) else { return Ok(None) };
        let Some(whole) = self.bytes_at(offset, envelope_length + length, limit)? else { return Ok(None) };
        let frames = whole.slice(envelope_length..);
        let head = head.get(..envelope_length - 4).unwrap_or_default();
        if crc32c::crc32c_append(crc32c::crc32c(head), &frames) != crc {
            return Ok(None);
        }
        let end = offset + ((envelope_length + length).next_multiple_of(8)) as u64;
        let Envelope { number, events_before, count, .. } = envelope;
        Ok(Some(Group { number, count, events_before, frames, end }))
    }

    fn envelope(&self, head: &[u8]) -> Option<(Envelope, usize, u32)> {
        let mut reader = Reader(head);
        let magic: [u8; 4] = reader.array()?;
        let count = reader.u32()?;
        let (generation, number, first_sequence) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let events_before = if self.format == 1 { self.events } else { reader.u64()? };
        let envelope = Envelope { generation, number, first_sequence, events_before, count };
        let length = reader.u32()? as usize;
        let crc = reader.u32()?;
        (magic == self.magic() && generation == self.generation && number >= self.next_number)
            .then_some((envelope, length, crc))
    }

    /// `length` bytes at `offset`; `None` when they are not all before `limit` and the end of the file.
    fn bytes_at(&mut self, offset: u64, length: usize, limit: u64) -> io::Result<Option<Bytes>> {
        let end = offset + length as u64;
        if end > limit {
            return Ok(None);
        }
        if offset < self.window_start || end > self.window_start + self.window.len() as u64 {
            let wanted = (end - offset).max(READ_AHEAD.min(limit - offset));
            let mut buffer = vec![0; wanted as usize];
            let read = self.file.read_at(&mut buffer, offset)?;
            buffer.truncate(read);
            self.window = Bytes::from(buffer);
            self.window_start = offset;
            if read < length {
                return Ok(None);
            }
        }
        let start = (offset - self.window_start) as usize;
        Ok(Some(self.window.slice(start..start + length)))
    }
}
