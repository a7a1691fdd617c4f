//! Opening the letters' file: what counts of it, what a cut left behind, and what is damaged.
//!
//! | what is found | is | and then |
//! |---|---|---|
//! | bytes that are no sound frame, and one behind them | damage | kept in `damaged/`, told, counted, passed over |
//! | such bytes at the end, and no letter is missing | what a cut left of a frame that nobody was answered for | cut off |
//! | such bytes at the end, and a letter is missing | damage: the sink's position is past it, so that it was there | as the first |
//!
//! What was in damaged bytes nobody knows for certain. A letter in them is lost. One whose resolution was in them waits again:
//! the line that tells the damage says so. How many letters are lost is what the sinks have noted of their dead letters less
//! what the file has, where the bytes could hold any; that is written down, so that the sums close from then on.
//! Where nothing is damaged nothing is made up for: then a difference is somebody's fault, and shows.

use super::index::Index;
use super::writer::{Tail, Writer, set_aside};
use super::{Context, DeadLetterCounts, Job, SHAPE, Shared, State, coding, file_path, folder};
use crate::store::files::disk::{File, Open};
use crate::store::files::frames::{self, Found, Place, Scanner};
use crate::store::files::guarded::Guarded;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};

/// What a file holds.
#[derive(Default)]
struct Read {
    index: Index,
    /// Where the last sound frame ends.
    length: u64,
    damaged: Vec<Place>,
    torn: Option<Place>,
}

impl Writer {
    pub(super) fn open(context: Context, jobs: mpsc::Receiver<Job>) -> io::Result<(Arc<Shared>, Self)> {
        let folder = folder(&context.store);
        let path = file_path(&folder);
        let disk = &*context.disk;
        disk.create_dir_all(&folder)?;
        let file = disk.open(&path, Open::Either)?;
        disk.sync_dir(&folder)?;
        remove_unfinished(&context)?;
        file.sync_and_reread()?;
        let mut read = read(&*file)?;
        let lost = missing(&context, &read);
        if !lost.is_empty() {
            read.damaged.extend(read.torn);
        }
        let has_damage = !read.damaged.is_empty();
        read.damaged.iter().for_each(|place| set_aside(&context, &*file, *place));
        let frames = if has_damage { count_lost(&read, lost) } else { Vec::new() };
        cut_and_append(&*file, &mut read, &frames)?;
        let Read { index, length, .. } = read;
        let state = Guarded::new(State { index, file: Arc::clone(&file) });
        let shared = Arc::new(Shared { state, size: AtomicU64::new(length) });
        let writer = Self {
            context,
            path,
            shared: Arc::clone(&shared),
            file,
            length,
            tail: Tail::Clean,
            rewrite: None,
            rewrite_from: 0,
            has_damage,
            jobs,
        };
        Ok((shared, writer))
    }
}

/// What a kill left of a file that was to take the old one's place, by whatever name: it may be large.
fn remove_unfinished(context: &Context) -> io::Result<()> {
    let folder = folder(&context.store);
    for (name, _) in context.disk.list(&folder)? {
        if name.ends_with(".new") {
            context.disk.remove(&folder.join(name))?;
        }
    }
    Ok(())
}

fn read(file: &dyn File) -> io::Result<Read> {
    let mut read = Read::default();
    let mut scanner = Scanner::new(file, file.length()?, SHAPE);
    while let Some(found) = scanner.next()? {
        match found {
            Found::Frame(place, content) => {
                read.index.apply(&content, place);
                read.length = place.end();
            }
            Found::Damaged(place) => read.damaged.push(place),
            Found::Torn(place) => read.torn = Some(place),
        }
    }
    Ok(read)
}

/// How many letters of which sinks are not there, though their positions are past them. Nobody is asked where everything is
/// sound.
fn missing(context: &Context, read: &Read) -> Vec<(String, u64)> {
    if read.damaged.is_empty() && read.torn.is_none() {
        return Vec::new();
    }
    let missing = (context.positions)().into_iter().map(|(sink, known)| {
        let progress = known.progress;
        let there = read.index.counts(&sink, progress.base, progress.position).sum();
        (sink, progress.dead_lettered.saturating_sub(there))
    });
    missing.filter(|(_, missing)| *missing > 0).collect()
}

/// Counts letters as lost with the bytes that are damaged, and returns the frames that say so. Any number may be lost with a
/// sink's totals.
fn count_lost(read: &Read, missing: Vec<(String, u64)>) -> Vec<Vec<u8>> {
    if read.damaged.iter().all(|place| place.length < coding::SHORTEST_COUNT) {
        return Vec::new();
    }
    let count = |(sink, lost): (String, u64)| {
        tracing::error!(
            sink,
            letters = lost,
            "what is known of dead letters of this sink is lost with bytes that are damaged"
        );
        coding::totals(&sink, &DeadLetterCounts { damaged: lost, ..DeadLetterCounts::default() })
    };
    missing.into_iter().map(count).collect()
}

/// Cuts off what is behind the last sound frame, and writes what is to be noted there. The note first: as long as it is not
/// whole, the bytes that prove it are not gone.
fn cut_and_append(file: &dyn File, read: &mut Read, contents: &[Vec<u8>]) -> io::Result<()> {
    let mut bytes = Vec::new();
    contents.iter().for_each(|content| frames::put(&mut bytes, content));
    let written = if bytes.is_empty() { Ok(()) } else { file.write_all_at(&bytes, read.length) };
    if let Err(error) = &written {
        // It counts until the next start, which finds less than there was, and says so.
        tracing::warn!(%error, "that dead letters are lost cannot be written down");
        bytes.clear();
    }
    for content in contents {
        read.index.apply(content, Place { start: read.length, length: 0 });
    }
    if read.torn.is_some() || written.is_err() {
        file.set_len(read.length + bytes.len() as u64)?;
    }
    read.length += bytes.len() as u64;
    file.sync_data()
}
