//! Bytes that are not sound, copied for people to look at.

use super::super::disk::{Disk, Open};
use super::super::log::Segment;
use super::super::record::LogKind;
use super::super::scan::Hole;
use std::io;
use std::path::{Path, PathBuf};

/// Most that is kept of one place, and of all together.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
const MAX_ALL: u64 = 64 * 1024 * 1024;

/// Copies them into a file of `folder`, named after where they lay; `None` where there are none, or no room for more.
pub(super) fn keep(
    disk: &dyn Disk,
    folder: &Path,
    log: LogKind,
    segment: &Segment,
    hole: Hole,
) -> io::Result<Option<PathBuf>> {
    let length = hole.length.min(MAX_BYTES);
    disk.create_dir_all(folder)?;
    let all: u64 = disk.list(folder)?.iter().map(|(_, length)| length).sum();
    if length == 0 || all + length > MAX_ALL {
        return Ok(None);
    }
    let name = format!("{}-{:012}-{}.bytes", log.as_str(), segment.header.number, hole.offset);
    let path = folder.join(name);
    let mut bytes = vec![0; length as usize];
    let read = segment.file.read_at(&mut bytes, hole.offset)?;
    bytes.truncate(read);
    let file = disk.open(&path, Open::Either)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()?;
    disk.sync_dir(folder)?;
    Ok(Some(path))
}
