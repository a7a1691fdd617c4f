//! From the format of an earlier version to this version's, one step after another, each with a copy kept.
//!
//! ```text
//! format says N        before-format-N/ is made: journal, samples, dead letters, quarantine, positions, live sets, and
//!                      `format` at last
//! format says N + 1,   the step reads the copy and writes the store; cut short, it is done again from the copy
//!   not finished
//! format says N + 1    done; the copy stays for `store.retention`, or until the disk is nearly full
//! ```
//! A version that knows N only refuses the store from the second line on. Segments that nobody writes to any more are
//! linked, not copied, so that a large store is copied at once; the indexes in `seen` are left out, since a start rebuilds
//! them.

mod format_1;

use crate::store::errors::OpenError;
use crate::store::files::disk::{Disk, Open};
use crate::store::format::{Format, Migrated};
use crate::store::log::number_of;
use crate::store::log::segment::FORMAT;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What this version can take on; there is no format before the first.
pub(in crate::store) const STEPS: &[Step] = &[format_1::STEP];

/// The folders whose files go by way of [`Disk`], and those that others write.
const BY_DISK: [&str; 3] = ["journal", "samples", "dead-letters"];
const BY_OTHERS: [&str; 4] = ["quarantine", "meta", "positions", "sandboxes"];
/// So many of the newest segments are copied and not linked: the newest is written to.
const COPIED: usize = 2;
/// What is copied at once.
const BLOCK: usize = 256 * 1024;

/// From one format to the next.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The format that it takes on; it leaves the one after that.
    pub from: u32,
    /// Folders that it writes anew, as a whole or in part: there has to be room for that.
    pub rewrites: &'static [&'static str],
    /// Does it. Everything is on disk for good when it returns, synced by itself.
    ///
    /// It may be run again over what it left half done, so it takes from the copy alone, and it never changes a file in
    /// place, since the copy may be the same file: it writes a new one and renames it.
    pub run: fn(&Work<'_>) -> io::Result<()>,
}

/// What a step works on.
pub struct Work<'a> {
    /// The file system.
    pub disk: &'a dyn Disk,
    /// The copy of the store as it was.
    pub copy: &'a Path,
    /// The store.
    pub store: &'a Path,
}

/// Where the copy of a store of format `from` is.
pub(in crate::store) fn copy_of(store: &Path, from: u32) -> PathBuf {
    store.join(format!("before-format-{from}"))
}

/// Brings a store, whose lock is held and of which nothing else is open, to this version's format.
pub(in crate::store) fn migrate(
    disk: &dyn Disk,
    store: &Path,
    steps: &[Step],
    mut format: Format,
    now: jiff::Timestamp,
) -> Result<Format, OpenError> {
    while let Some(from) = format.unfinished().or_else(|| (format.number() < FORMAT).then(|| format.number())) {
        let step = steps.iter().find(|step| step.from == from).ok_or_else(|| {
            let store = store.display();
            OpenError::Format(format!(
                "{store} has format {from}, which this version cannot take on; use one in between first, see Upgrading in deploy/OPERATIONS.md"
            ))
        })?;
        let copy = copy_of(store, from);
        if format.unfinished().is_none() {
            keep(disk, store, &copy, step, &format)?;
            format = format.to_next(Migrated { from, at: now, finished: false });
            format.write(store)?;
        }
        tracing::info!(from, to = format.number(), "the store is brought to the format of this version");
        let work = Work { disk, copy: &copy, store };
        (step.run)(&work).map_err(|error| OpenError::io(store, error))?;
        format.finish();
        format.write(store)?;
        tracing::info!(format = format.number(), copy = %copy.display(), "that is done; the copy stays for store.retention");
    }
    Ok(format)
}

/// Makes the copy, on disk for good when this returns. What is left of one that was cut short is made anew.
fn keep(disk: &dyn Disk, store: &Path, copy: &Path, step: &Step, format: &Format) -> Result<(), OpenError> {
    let at_copy = |error| OpenError::io(copy, error);
    unless_missing(disk.remove_dir_all(copy)).map_err(at_copy)?;
    let mut wanted = 0;
    for folder in BY_DISK {
        let files = files(disk, &store.join(folder)).map_err(at_copy)?;
        let rewritten = step.rewrites.contains(&folder);
        wanted += files.iter().filter(|file| rewritten || !file.linked).map(|file| file.length).sum::<u64>();
        wanted += if rewritten { files.iter().filter(|file| !file.linked).map(|file| file.length).sum() } else { 0 };
    }
    for folder in BY_OTHERS {
        wanted += size(&store.join(folder)).map_err(at_copy)?;
    }
    let free = disk.space(store).map_err(at_copy)?.free;
    if free < wanted {
        return Err(OpenError::Room { path: store.to_owned(), wanted, free });
    }
    tracing::info!(copy = %copy.display(), bytes = wanted, "the store is of an earlier version: a copy is made before it is changed");
    for folder in BY_DISK {
        let (from, to) = (store.join(folder), copy.join(folder));
        disk.create_dir_all(&to).map_err(at_copy)?;
        for file in files(disk, &from).map_err(at_copy)? {
            let (from, to) = (from.join(&file.name), to.join(&file.name));
            // Some file systems know no links, and some count them.
            let linked = file.linked && disk.link(&from, &to).is_ok();
            if !linked {
                copy_file(disk, &from, &to).map_err(at_copy)?;
            }
        }
        disk.sync_dir(&to).map_err(at_copy)?;
    }
    for folder in BY_OTHERS {
        let from = store.join(folder);
        if from.exists() {
            copy_folder(&from, &copy.join(folder)).map_err(at_copy)?;
        }
    }
    format.write(copy)?;
    disk.sync_dir(copy).and_then(|()| disk.sync_dir(store)).map_err(at_copy)
}

/// A file that belongs into the copy.
struct Kept {
    name: String,
    length: u64,
    /// Nobody writes to it any more: its name is enough.
    linked: bool,
}

fn files(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<Kept>> {
    let mut found = unless_missing(disk.list(folder))?;
    // Room for segments to come is nobody's data.
    found.retain(|(name, _)| !name.starts_with("spare-"));
    let segments = found.iter().filter_map(|(name, _)| number_of(name, "seg"));
    let mut numbers: Vec<u64> = segments.collect();
    numbers.sort_unstable();
    let first_copied = numbers.iter().rev().nth(COPIED - 1).copied().unwrap_or(0);
    let kept = found.into_iter().map(|(name, length)| {
        let linked = number_of(&name, "seg").is_some_and(|number| number < first_copied);
        Kept { name, length, linked }
    });
    Ok(kept.collect())
}

fn copy_file(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (disk.open(from, Open::Existing)?, disk.open(to, Open::New)?);
    let mut block = vec![0; BLOCK];
    let mut offset = 0;
    loop {
        let read = from.read_at(&mut block, offset)?;
        let Some(part) = block.get(..read).filter(|part| !part.is_empty()) else { break };
        to.write_all_at(part, offset)?;
        offset += read as u64;
    }
    to.sync_data()
}

/// What sled and the quarantine have written, past [`Disk`] as they do.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    let entries = std::fs::read_dir(from)?;
    std::fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            std::fs::copy(&from, &to)?;
            File::open(&to)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.metadata()?;
        bytes += if kind.is_dir() { size(&entry.path())? } else { kind.len() };
    }
    Ok(bytes)
}

pub(in crate::store) fn unless_missing<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(T::default()),
        result => result,
    }
}
