//! The positions of a stopped store.

use crate::store::files::disk::ReadOnlyDisk;
use crate::store::sinks::positions::{self, Content};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// How far each sink is, by its key, and the log's end as it was noted beside that.
pub(super) fn read(folder: &Path, faults: &mut Vec<String>) -> io::Result<Content> {
    let found = positions::peek(&ReadOnlyDisk, folder)?;
    // A kill may come before they are first written.
    if found.is_none() && std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()) {
        faults.push("positions: none of them can be read; sinks will repeat what they had".to_owned());
    }
    Ok(found.unwrap_or_default())
}

/// The sequences up to which events are to be counted, each at none.
pub(super) fn marks(sinks: &BTreeMap<String, positions::Progress>) -> BTreeMap<u64, u64> {
    sinks.values().flat_map(|progress| [(progress.base, 0), (progress.position, 0)]).collect()
}
