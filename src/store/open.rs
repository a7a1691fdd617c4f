//! Opening the store: lock, recovery, threads.

use super::committer::{Committer, OpenDay};
use super::dead_letters::{self, DeadLetters, Known};
use super::disk::Disk;
use super::frame::{Control, day_of};
use super::guarded::Guarded;
use super::ids;
use super::inbox::Inbox;
use super::janitor::{self, Janitor};
use super::librarian::Librarian;
use super::lock::Lock;
use super::log::{Found, Kind, Log, Place, Sealed, number_of};
use super::meta::{Meta, Progress};
use super::migrate::{self, Step};
use super::quarantine::Quarantine;
use super::recent::Recent;
use super::reserve::Reserve;
use super::shared::{Clock, LogShare, Shared};
use super::{Settings, Store, Threads, format};
use crate::health::{self, Health};
use crate::metrics::Metrics;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const MIB: u64 = 1024 * 1024;
/// How long the threads that nobody waits for may take for one file or one index: they note that they move within these,
/// too, as far as that is theirs.
const UNHURRIED: Duration = Duration::from_secs(300);

/// What the store is given from outside.
pub struct Parts {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The host's clock.
    pub clock: Clock,
    /// Where it counts.
    pub metrics: Metrics,
    /// Most webhook deliveries that may wait for the disk.
    pub max_in_flight: usize,
    /// Where its threads note that they move.
    pub health: Health,
}

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{path} is in use by another daemon; two on one folder would overwrite each other's events: stop it, or set another store.path"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Another version's, or not a store.
    #[error("{0}")]
    Format(String),
    /// It is of an earlier version, and there is no room for the copy that is made before it is changed.
    #[error(
        "{path} is of an earlier version, and the copy that is made before it is changed needs {wanted} bytes, where {free} are free; make room, or use the version that wrote it"
    )]
    Room {
        /// The folder.
        path: PathBuf,
        /// Bytes.
        wanted: u64,
        /// Bytes.
        free: u64,
    },
    /// The disk does not do what is asked.
    #[error("{path}: {source}")]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

pub(super) fn open(settings: Settings, parts: Parts, steps: &[Step]) -> Result<Store, OpenError> {
    let path = settings.path.clone();
    let at_path = |error| OpenError::io(&path, error);
    parts.disk.create_dir_all(&path).map_err(at_path)?;
    let make = |path: &Path| std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let lock = Lock::take(&path, make)?;
    let now = (parts.clock)();
    let format = migrate::migrate(&*parts.disk, &path, steps, format::open(&path)?, now)?;

    let (events, found) = open_log(&parts.disk, &path, Kind::Events, settings.max_size.as_u64(), now)?;
    let (samples, found_samples) =
        open_log(&parts.disk, &path, Kind::Samples, settings.max_samples_size.as_u64(), now)?;
    let damaged = found.damaged + found_samples.damaged;
    parts.metrics.store_damaged(damaged);
    if damaged > 0 {
        tracing::error!(groups = damaged, "the journal is damaged: what could not be read is passed over");
    }
    let meta = Arc::new(Meta::open(path.join("meta")).map_err(at_path)?);
    let context = dead_letters::Context {
        disk: Arc::clone(&parts.disk),
        store: path.clone(),
        max_live: settings.max_dead_letters(),
        positions: positions(&meta),
        metrics: parts.metrics.clone(),
    };
    let (letters, letters_writer) = DeadLetters::open(context).map_err(at_path)?;
    let quarantine = Quarantine::open(path.join("quarantine")).map_err(at_path)?;
    sync_names(&*parts.disk, &path).map_err(at_path)?;
    let births = match found.sinks {
        Some(Control::Sinks(sinks)) => sinks,
        None => Vec::new(),
    };

    // Above everything that was ever given out, even where the journal's own end was lost.
    let positions = meta.sinks().values().map(|progress| progress.position).max().unwrap_or(0);
    let last = [
        events.last_sequence(),
        samples.last_sequence(),
        positions,
        letters.highest_sequence(),
        births.iter().map(|birth| birth.after).max().unwrap_or(0),
    ]
    .into_iter()
    .max()
    .unwrap_or(0);

    let space = parts.disk.space(&path).map_err(at_path)?;
    let min_free = settings.min_free.map_or((512 * MIB).min(space.total / 20), |size| size.as_u64());
    let shared = Arc::new(Shared {
        events: share(&parts.disk, &path, Kind::Events, settings.max_size.as_u64(), &events).map_err(at_path)?,
        samples: share(&parts.disk, &path, Kind::Samples, settings.max_samples_size.as_u64(), &samples)
            .map_err(at_path)?,
        reserve: Reserve::new(Arc::clone(&parts.disk), path.join("reserve")),
        disk: parts.disk,
        metrics: parts.metrics,
        health: parts.health,
        started: (now, Instant::now()),
        doubtful_clock: AtomicBool::new(false),
        clock: parts.clock,
        durable: watch::Sender::new(last),
        recent: Arc::new(Recent::new(last)),
        meta,
        letters,
        quarantine,
        sinks: Guarded::new(births),
        refusing: watch::Sender::new(None),
        dead: watch::Sender::new(false),
        min_free,
        kept: Guarded::new(format.kept()),
        settings,
    });
    write_missing_ids(&shared.events).map_err(at_path)?;
    write_missing_ids(&shared.samples).map_err(at_path)?;
    start(shared, format, parts.max_in_flight, lock, letters_writer, (events, samples), last + 1).map_err(at_path)
}

/// What the dead letters ask of the positions.
fn positions(meta: &Arc<Meta>) -> dead_letters::Positions {
    let meta = Arc::clone(meta);
    Arc::new(move || {
        let known = |(sink, progress): (String, Progress)| {
            let durable = meta.durable_position(&sink);
            (sink, Known { progress, durable })
        };
        meta.sinks().into_iter().map(known).collect()
    })
}

/// Puts the names of the folders on disk, and the name of the store's own: syncing what is in a folder does not keep the
/// folder itself. Each time, since whoever made them may have been killed before this.
fn sync_names(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.sync_dir(path)?;
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => disk.sync_dir(Path::new(".")),
        Some(parent) => match disk.sync_dir(parent) {
            // Not ours to read: then the folder was made for us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result,
        },
        None => Ok(()),
    }
}

/// Opens the indexes of today and yesterday, then starts the threads.
fn start(
    shared: Arc<Shared>,
    format: format::Format,
    max_in_flight: usize,
    lock: Lock,
    letters: dead_letters::Writer,
    (events, samples): (Log, Log),
    next_sequence: u64,
) -> io::Result<Store> {
    let inbox = Arc::new(Inbox::new(max_in_flight));
    let (to_librarian, librarian_jobs) = mpsc::channel();
    let (to_janitor, janitor_jobs) = mpsc::channel();
    let seen = shared.settings.path.join("seen");
    let health = shared.health.clone();
    let pulse = health.join("the store's librarian", UNHURRIED);
    let mut librarian = Librarian::new(Arc::clone(&shared), Arc::clone(&inbox), seen, pulse)?;
    let today = day_of(shared.now());
    let mut days = HashMap::new();
    for day in [today - 1, today] {
        days.insert(day, OpenDay { index: librarian.open(day)?, used: Instant::now() });
    }
    let committer = Committer {
        pulse: health.join("the store's committer", health::PATIENCE),
        shared: Arc::clone(&shared),
        inbox: Arc::clone(&inbox),
        events,
        samples,
        next_sequence,
        librarian: to_librarian.clone(),
        janitor: to_janitor.clone(),
        days,
        waiting: HashMap::new(),
        unindexed: HashMap::new(),
    };
    let janitor = Janitor::new(Arc::clone(&shared), health.join("the store's janitor", UNHURRIED));
    let _ = to_janitor.send(janitor::Job::Sweep);
    let spawn =
        |name: &str, run: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name.to_owned()).spawn(run);
    let pulse = health.join("the store's dead letters", UNHURRIED);
    let died = shared.dead.clone();
    let threads = Threads {
        letters: spawn("dead-letters", Box::new(move || letters.run(&pulse, died)))?,
        committer: spawn(
            "committer",
            Box::new(move || {
                // The lock is held for as long as something may be written.
                let _lock = lock;
                committer.run();
            }),
        )?,
        librarian: (to_librarian, spawn("librarian", Box::new(move || librarian.run(&librarian_jobs)))?),
        janitor: (to_janitor, spawn("janitor", Box::new(move || janitor.run(&janitor_jobs)))?),
    };
    Ok(Store { shared, inbox, format, threads: Guarded::new(Some(threads)) })
}

fn place(disk: &Arc<dyn Disk>, path: &Path, kind: Kind, max_size: u64) -> Place {
    let name = match kind {
        Kind::Events => "journal",
        Kind::Samples => "samples",
    };
    let segment_size = (max_size / 64).clamp(MIB, 64 * MIB);
    Place { disk: Arc::clone(disk), dir: path.join(name), kind, segment_size }
}

fn open_log(
    disk: &Arc<dyn Disk>,
    path: &Path,
    kind: Kind,
    max_size: u64,
    now: jiff::Timestamp,
) -> Result<(Log, Found), OpenError> {
    let place = place(disk, path, kind, max_size);
    let dir = place.dir.clone();
    Log::open(place, now).map_err(|error| OpenError::io(&dir, error))
}

fn share(disk: &Arc<dyn Disk>, path: &Path, kind: Kind, max_size: u64, log: &Log) -> io::Result<LogShare> {
    let place = place(disk, path, kind, max_size);
    let files = disk.list(&place.dir)?;
    let ids_bytes = files.iter().filter(|(name, _)| number_of(name, "ids").is_some()).map(|(_, length)| length).sum();
    // A spare has its name only once it is zeroed and synced; one of another size is from other settings.
    let spare =
        files.iter().find(|(name, _)| name == "spare-ready").map(|(name, length)| (place.dir.join(name), *length));
    let spare = match spare {
        Some((path, length)) if length != place.segment_size => {
            disk.remove(&path)?;
            None
        }
        spare => spare.map(|(path, _)| path),
    };
    Ok(LogShare {
        segments: Arc::clone(&log.segments),
        spare: Guarded::new(spare),
        claimed: AtomicU64::new(0),
        claiming: Guarded::default(),
        ids_bytes: AtomicU64::new(ids_bytes),
        max_size,
        place,
    })
}

/// A crash may have come between the sealing of a segment and the writing of its ids.
fn write_missing_ids(share: &LogShare) -> io::Result<()> {
    for segment in share.segments.snapshot() {
        use std::sync::atomic::Ordering::Acquire;
        if segment.sealed.load(Acquire) && !segment.ids_written.load(Acquire) {
            let mut ids = Vec::new();
            segment.for_each_id(|id| ids.push(id))?;
            share.ids_bytes.fetch_add(ids::length(ids.len()), std::sync::atomic::Ordering::Relaxed);
            janitor::write_ids(share, &Sealed { segment, ids })?;
        }
    }
    Ok(())
}
