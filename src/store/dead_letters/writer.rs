//! The thread that writes the letters' file, and nobody else does.

use super::rewrite::Rewrite;
use super::{Context, Fate, Job, Shared, coding, file_path, folder};
use crate::executor::Worker;
use crate::health::Pulse;
use crate::sometimes;
use crate::store::damage::damaged;
use crate::store::files::disk::File;
use crate::store::files::frames::{self, Place};
use crate::store::files::replace::Failed;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::time::Duration;
use tokio::sync::watch;

/// How often it notes that it moves while there is nothing to do.
pub(in crate::store) const TICK: Duration = Duration::from_secs(1);
/// Below this a file is not worth being written anew.
const REWRITE_FROM: u64 = 1024 * 1024;
/// So many frames are taken into memory at once, so that nobody who looks waits for long.
const AT_ONCE: usize = 1024;

/// What lies behind the last frame that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    Clean,
    /// What a write left that failed. It was never synced, and is cut off before anything else is written.
    Torn,
    /// Nobody knows, since a sync failed, or which of two files is the one: a new file must be made, and be there for good,
    /// before anything else is written.
    Doubtful,
}

pub(in crate::store) struct Writer {
    pub(super) context: Context,
    pub(super) path: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) file: Arc<dyn File>,
    /// What of the file is on disk for good and read.
    pub(super) length: u64,
    pub(super) tail: Tail,
    /// The file that is to take this one's place, as far as it is made.
    pub(super) rewrite: Option<Rewrite>,
    /// From which length on it is to be written anew.
    pub(super) rewrite_from: u64,
    /// There are damaged bytes in it: it is to be written anew whatever its length.
    pub(super) has_damage: bool,
    pub(super) jobs: mpsc::Receiver<Job>,
}

/// The writer at work. Should it end by a panic, it takes the process along: nothing could be dead-lettered any more.
pub(in crate::store) struct Working {
    pub(in crate::store) writer: Writer,
    pub(in crate::store) pulse: Pulse,
    pub(in crate::store) died: watch::Sender<bool>,
}

impl Drop for Working {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.died.send_replace(true);
        }
    }
}

impl Worker for Working {
    /// Ends when told to finish. A file that is half written anew then stays as it was.
    fn step(&mut self, patience: Duration) -> bool {
        let Self { writer, pulse, .. } = self;
        pulse.beat();
        let job = if writer.rewrite.is_some() || writer.is_wasteful() {
            writer.jobs.try_recv().map_err(|none| none == TryRecvError::Disconnected)
        } else {
            writer.jobs.recv_timeout(patience).map_err(|none| none == RecvTimeoutError::Disconnected)
        };
        match job {
            Ok(Job::Finish) | Err(true) => {
                if let Some(rewrite) = writer.rewrite.take() {
                    rewrite.give_up(&*writer.context.disk);
                }
                return false;
            }
            Ok(job) => writer.answer(job),
            Err(false) => {}
        }
        // One piece, and then whoever waits comes first again.
        if (writer.rewrite.is_some() || writer.is_wasteful())
            && let Err(error) = writer.rewrite_piece()
        {
            tracing::warn!(%error, file = %writer.path.display(), "the file of dead letters cannot be written anew");
        }
        true
    }
}

impl Writer {
    fn answer(&mut self, job: Job) {
        // Whoever asked may have given up; what was done is done.
        match job {
            Job::Park { sink, letters, reply } => drop(reply.send(self.park(&sink, letters))),
            Job::Resolve { sink, sequences, fate, reply } => drop(reply.send(self.resolve(&sink, sequences, fate))),
            Job::Restart { sink, reply } => drop(reply.send(self.restart(&sink))),
            Job::Unreadable { sink, sequence, reply } => drop(reply.send(self.check(&sink, sequence))),
            #[cfg(test)]
            Job::Rewrite { reply } => drop(reply.send(self.rewrite_now())),
            Job::Finish => {}
        }
    }

    /// Whether more than half of the file is of no use any more.
    fn is_wasteful(&self) -> bool {
        self.has_damage
            || self.length > self.rewrite_from.max(REWRITE_FROM)
                && self.shared.state.lock().index.live() < self.length / 2
    }

    pub(super) fn park(&mut self, sink: &str, letters: Vec<(u64, Vec<u8>)>) -> io::Result<usize> {
        let (mut new, mut kept, wanted) = (Vec::new(), 0, letters.len());
        {
            let state = self.shared.state.lock();
            let mut live = state.index.live();
            for (sequence, content) in letters {
                if !state.index.is_counted(sink, sequence) {
                    live += frames::PREFIX + content.len() as u64;
                    if live > self.context.max_live {
                        break;
                    }
                    new.push(content);
                }
                kept += 1;
            }
        }
        if kept == 0 && wanted > 0 {
            let message = format!(
                "dead letters take {} of at most {} bytes (store.max_dead_letters_size): retry or drop some",
                self.shared.state.lock().index.live(),
                self.context.max_live
            );
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, message));
        }
        self.append(&new)?;
        Ok(kept)
    }

    pub(super) fn resolve(&mut self, sink: &str, sequences: Vec<u64>, fate: Fate) -> io::Result<usize> {
        let sequences: BTreeSet<u64> = sequences.into_iter().collect();
        let notes: Vec<_> = {
            let state = self.shared.state.lock();
            let waiting = sequences.into_iter().filter(|sequence| state.index.letter(sink, *sequence).is_some());
            waiting.map(|sequence| coding::resolved(sink, sequence, fate)).collect()
        };
        self.append(&notes)?;
        Ok(notes.len())
    }

    #[cfg(test)]
    pub(super) fn rename(&mut self, old: &str, new: &str) -> io::Result<()> {
        self.append(&[coding::renamed(old, new)])
    }

    pub(super) fn restart(&mut self, sink: &str) -> io::Result<()> {
        self.append(&[coding::restarted(sink)])
    }

    /// Looks at a letter that somebody could not read: one that is damaged waits no more.
    fn check(&mut self, sink: &str, sequence: u64) -> io::Result<()> {
        let place = self.shared.state.lock().index.letter(sink, sequence).map(|waiting| waiting.place);
        let Some(place) = place else { return Ok(()) };
        if frames::read(&*self.file, place)?.as_ref().and_then(coding::event).is_some() {
            return Ok(());
        }
        self.set_aside(place);
        self.append(&[coding::resolved(sink, sequence, Fate::Damaged)])
    }

    /// Keeps a copy of damaged bytes, and tells and counts them.
    pub(super) fn set_aside(&self, place: Place) {
        set_aside(&self.context, &*self.file, place);
    }

    /// Writes and syncs frames, and takes them in.
    pub(super) fn append(&mut self, contents: &[Vec<u8>]) -> io::Result<()> {
        if contents.is_empty() {
            return Ok(());
        }
        match self.tail {
            Tail::Clean => {}
            Tail::Torn => {
                sometimes::happened("a dead letter behind a write that failed");
                self.file.set_len(self.length)?;
                self.tail = Tail::Clean;
            }
            Tail::Doubtful => {
                sometimes::happened("a dead letter behind a sync that failed");
                self.rewrite_now()?;
            }
        }
        let mut bytes = Vec::new();
        contents.iter().for_each(|content| frames::put(&mut bytes, content));
        self.tail = Tail::Torn;
        self.file.write_all_at(&bytes, self.length)?;
        self.tail = Tail::Doubtful;
        self.file.sync_data()?;
        self.tail = Tail::Clean;
        for some in contents.chunks(AT_ONCE) {
            let mut state = self.shared.state.lock();
            for content in some {
                let place = Place::of(self.length, content.len());
                self.length = place.end();
                state.index.apply(content, place);
            }
        }
        self.shared.size.store(self.length, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the file anew and puts it in the old one's place before anything else is done.
    pub(super) fn rewrite_now(&mut self) -> io::Result<()> {
        while !self.rewrite_piece()? {}
        Ok(())
    }

    /// Goes on with the new file by one piece; `true` once it is in the old one's place. Should that fail, the new one is
    /// given up, and made again once the old one has grown, or has to be left.
    fn rewrite_piece(&mut self) -> io::Result<bool> {
        let done = self.try_rewrite_piece();
        if done.is_err() {
            self.rewrite_from = self.length + REWRITE_FROM;
            self.has_damage = false;
            if let Some(rewrite) = self.rewrite.take() {
                rewrite.give_up(&*self.context.disk);
            }
        }
        done
    }

    pub(super) fn try_rewrite_piece(&mut self) -> io::Result<bool> {
        let mut rewrite = match self.rewrite.take() {
            Some(rewrite) => rewrite,
            None => Rewrite::begin(self)?,
        };
        let written = rewrite.piece(self);
        if !matches!(written, Ok(true)) {
            self.rewrite = Some(rewrite);
            return written;
        }
        // From the rename on the old file may have no name any more, until the folder is synced.
        let before = std::mem::replace(&mut self.tail, Tail::Doubtful);
        match rewrite.finish(self) {
            Ok(()) => Ok(true),
            Err(failed) => {
                if matches!(failed, Failed::Before(_)) {
                    self.tail = before;
                }
                Err(failed.into())
            }
        }
    }
}

/// Keeps a copy of damaged bytes, and tells and counts them.
pub(super) fn set_aside(context: &Context, file: &dyn File, place: Place) {
    let path = file_path(&folder(&context.store));
    context.metrics.store_damaged(1);
    let kept = Place { length: place.length.min(damaged::MAX_BYTES), ..place };
    let bytes = match frames::bytes(file, kept) {
        Ok(bytes) => bytes,
        Err(error) => {
            return tracing::error!(%error, file = %path.display(), offset = place.start, length = place.length, "dead letters are damaged and cannot be read: they are passed over");
        }
    };
    let seems = coding::guess(&bytes);
    match damaged::keep(&*context.disk, &context.store, super::NAME, place.start, &bytes) {
        Ok(kept) => {
            tracing::error!(file = %path.display(), offset = place.start, length = place.length, kept = %kept.display(), seems, "dead letters are damaged: these bytes are passed over")
        }
        Err(error) => {
            tracing::error!(%error, file = %path.display(), offset = place.start, length = place.length, seems, "dead letters are damaged: these bytes are passed over, and no copy of them can be kept")
        }
    }
}
