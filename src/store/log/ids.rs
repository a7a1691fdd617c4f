//! The ids of a sealed segment: day, hash and sequence of each of its events.
//!
//! Written once a segment is sealed, so that an index can be rebuilt without reading bodies, and kept after the
//! segment itself has gone for as long as its ids must be remembered.
//!
//! ```text
//! magic 8 │ number 8 │ first sequence 8 │ count 8 │ lowest day 4 │ highest day 4 │ entries' CRC-32C 4 │ CRC-32C 4
//! then per event: sequence minus first 4 │ day 4 │ hash 16
//! ```

use super::frame::{Day, DedupeHash};
use crate::store::files::bytes::Reader;
use crate::store::files::disk::{Disk, Open};
use crate::store::files::replace::replace;
use std::io;
use std::path::Path;

const MAGIC: [u8; 8] = *b"E2BRIDS1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// What is remembered of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Id {
    pub(in crate::store) sequence: u64,
    pub(in crate::store) day: Day,
    pub(in crate::store) hash: DedupeHash,
}

/// What stands at the front of a file of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Summary {
    pub(in crate::store) number: u64,
    pub(in crate::store) first_sequence: u64,
    pub(in crate::store) count: u64,
    /// Lowest and highest day; `None` when it is empty.
    pub(in crate::store) days: Option<(Day, Day)>,
    entries_crc: u32,
}

pub(in crate::store) fn file_name(number: u64) -> String {
    format!("{number:012}.ids")
}

/// The length of a file of so many ids.
pub(in crate::store) fn length(count: usize) -> u64 {
    (HEADER + count * ENTRY) as u64
}

/// Writes the file of segment `number`, durably. A file that was there is replaced.
pub(in crate::store) fn write(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    first_sequence: u64,
    ids: &[Id],
) -> io::Result<()> {
    let mut entries = Vec::with_capacity(ids.len() * ENTRY);
    for id in ids {
        entries.extend_from_slice(&(id.sequence.saturating_sub(first_sequence) as u32).to_le_bytes());
        entries.extend_from_slice(&id.day.to_le_bytes());
        entries.extend_from_slice(&id.hash.to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(HEADER + entries.len());
    bytes.extend_from_slice(&MAGIC);
    for field in [number, first_sequence, ids.len() as u64] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    // Empty: the lowest above the highest.
    for day in [ids.iter().map(|id| id.day).min().unwrap_or(1), ids.iter().map(|id| id.day).max().unwrap_or(0)] {
        bytes.extend_from_slice(&day.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32c::crc32c(&entries).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend_from_slice(&entries);

    Ok(replace(disk, &dir.join(file_name(number)), &bytes)?)
}

/// Reads the front of a file; `None` when it is torn.
pub(in crate::store) fn summary(disk: &dyn Disk, path: &Path) -> io::Result<Option<Summary>> {
    let mut bytes = [0; HEADER];
    let file = disk.open(path, Open::Existing)?;
    if file.read_at(&mut bytes, 0)? < HEADER {
        return Ok(None);
    }
    let length = |count: u64| count.checked_mul(ENTRY as u64)?.checked_add(HEADER as u64);
    Ok(decode_summary(&bytes).filter(|summary| file.length().is_ok_and(|there| Some(there) == length(summary.count))))
}

fn decode_summary(bytes: &[u8; HEADER]) -> Option<Summary> {
    let mut reader = Reader(bytes);
    let magic: [u8; 8] = reader.array()?;
    let (number, first_sequence, count) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let (lowest, highest) = (reader.i32()?, reader.i32()?);
    let entries_crc = reader.u32()?;
    let crc = crc32c::crc32c(bytes.get(..HEADER - 4)?);
    (magic == MAGIC && reader.u32()? == crc).then_some(Summary {
        number,
        first_sequence,
        count,
        days: (lowest <= highest).then_some((lowest, highest)),
        entries_crc,
    })
}

/// Reads the ids of a file; `None` when it is damaged.
pub(in crate::store) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<Id>>> {
    let Some(summary) = summary(disk, path)? else { return Ok(None) };
    let file = disk.open(path, Open::Existing)?;
    let mut bytes = vec![0; summary.count as usize * ENTRY];
    let read = file.read_at(&mut bytes, HEADER as u64)?;
    if read < bytes.len() || crc32c::crc32c(&bytes) != summary.entries_crc {
        return Ok(None);
    }
    Ok(bytes.chunks_exact(ENTRY).map(|entry| decode_entry(entry, summary.first_sequence)).collect())
}

fn decode_entry(entry: &[u8], first_sequence: u64) -> Option<Id> {
    let mut reader = Reader(entry);
    let sequence = first_sequence.checked_add(u64::from(reader.u32()?))?;
    Some(Id { sequence, day: reader.i32()?, hash: reader.u128()? })
}
