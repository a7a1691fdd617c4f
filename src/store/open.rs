//! Opening the store: lock, recovery, threads.

use super::clock::{BootClock, Clock, WallClock};
use super::damage::{self, Damage};
use super::dead_letters::{self, Known, Letters, Working};
use super::dedupe::librarian::{self, Librarian};
use super::errors::OpenError;
use super::files::disk::Disk;
use super::files::guarded::Guarded;
use super::files::lock::Lock;
use super::format::migrate::{self, Step};
use super::handles::{Handles, Threads};
use super::kv::KeyValue;
use super::log::frame::day_of;
use super::log::ids;
use super::log::notes::SinkRegistration;
use super::log::record::{End, Limits, LogKind, Ordinals};
use super::log::tail_cache::TailCache;
use super::log::{Found, Log, Place, Segment, number_of};
use super::phase::{Phase, during};
use super::quarantine::Copies;
use super::shared::{LogShare, Shared};
use super::sinks::positions::{Positions, Progress};
use super::sinks::registry;
use super::state::SmallState;
use super::write::committer::{self, Committer, OpenDay};
use super::write::inbox::Inbox;
use super::write::janitor::{self, Janitor};
use super::write::reserve::Reserve;
use super::write::room::Refusals;
use super::{Settings, format};
use crate::executor::Executor;
use crate::health::{self, Health};
use crate::metrics::Metrics;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

const MIB: u64 = 1024 * 1024;
/// How long the threads that nobody waits for may take for one file or one index: they note that they move within these,
/// too, as far as that is theirs.
const UNHURRIED: Duration = Duration::from_secs(300);

/// What the store is given from outside.
pub struct Parts {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// Where databases are.
    pub kv: Arc<dyn KeyValue>,
    /// Who runs its workers.
    pub executor: Executor,
    /// The host's clock.
    pub clock: Clock,
    /// By which steps of that are seen.
    pub boot_clock: BootClock,
    /// Where it counts.
    pub metrics: Metrics,
    /// How much of the newest is kept in memory: [`TAIL`](super::TAIL), but where that is what a test is about.
    pub tail: Limits,
    /// Most webhook deliveries that may wait for the disk.
    pub max_in_flight: usize,
    /// Where its threads note that they move.
    pub health: Health,
}

/// Opens or makes the store in `settings.path`, recovering what is there.
///
/// Blocks on the disk.
pub fn open(settings: Settings, parts: Parts) -> Result<Handles, OpenError> {
    open_migrating(settings, parts, migrate::STEPS)
}

/// The same with other steps from older formats than this version's own.
pub fn open_migrating(settings: Settings, parts: Parts, steps: &[Step]) -> Result<Handles, OpenError> {
    during(Phase::Recovery, || recover(settings, parts, steps))
}

fn recover(settings: Settings, parts: Parts, steps: &[Step]) -> Result<Handles, OpenError> {
    let path = settings.path.clone();
    let at_path = |error| OpenError::io(&path, error);
    parts.disk.create_dir_all(&path).map_err(at_path)?;
    let make = |path: &Path| std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let lock = Lock::take(&path, make)?;
    let now = (parts.clock)();
    let format = migrate::migrate(&*parts.disk, &path, steps, format::open(&path)?, now)?;

    let (mut events, found) = open_log(&parts.disk, &path, LogKind::Events, settings.max_size.as_u64(), now)?;
    let (mut samples, found_samples) =
        open_log(&parts.disk, &path, LogKind::Samples, settings.max_samples_size.as_u64(), now)?;
    let reserve = Reserve::new(Arc::clone(&parts.disk), path.join("reserve"));
    let set_aside = found.damaged + found_samples.damaged;
    let opened = Positions::open(Arc::clone(&parts.disk), path.join("positions"));
    let (positions, kept) = opened.map_err(|error| OpenError::io(&path.join("positions"), error))?;
    let positions = Arc::new(positions);
    parts.metrics.store_damaged(set_aside + u64::from(kept.lost));
    let state = reserve.write(|| SmallState::open(Arc::clone(&parts.kv), path.join("meta")));
    let state = state.map_err(|error| OpenError::io(&path.join("meta"), error))?;
    let context = dead_letters::Context {
        disk: Arc::clone(&parts.disk),
        store: path.clone(),
        max_live: settings.max_dead_letters(),
        positions: known_positions(&positions),
        metrics: parts.metrics.clone(),
    };
    let (letters, letters_writer) = Letters::open(context).map_err(at_path)?;
    let quarantine = Copies::open(path.join("quarantine")).map_err(at_path)?;
    sync_names(&*parts.disk, &path).map_err(at_path)?;

    // Above everything that was ever given out, even where the journal's own end was lost.
    let counted = kept.content.counted;
    let (end, known) = if counted { (kept.content.end, kept.content.sinks) } else { Default::default() };
    let witnessed = damage::witnessed(&mut events, &mut samples, end, &known);
    let sinks = found.notes.sinks.unwrap_or_default();
    let born = sinks.iter().map(|sink| sink.after).max().unwrap_or(0);
    let in_logs = events.last_sequence().max(samples.last_sequence());
    let last = in_logs.max(witnessed).max(letters.highest_sequence()).max(born);
    let ordinals = Ordinals { events: events.events(), samples: samples.events() };
    let end = End { sequence: last, ordinals };

    let space = parts.disk.space(&path).map_err(at_path)?;
    let min_free = settings.min_free.map_or((512 * MIB).min(space.total / 20), |size| size.as_u64());
    let shared = Arc::new(Shared {
        events: share(&parts.disk, &path, LogKind::Events, settings.max_size.as_u64(), &events).map_err(at_path)?,
        samples: share(&parts.disk, &path, LogKind::Samples, settings.max_samples_size.as_u64(), &samples)
            .map_err(at_path)?,
        reserve,
        disk: parts.disk,
        kv: parts.kv,
        executor: parts.executor,
        metrics: parts.metrics,
        health: parts.health,
        wall_clock: Guarded::new(WallClock::new(settings.dedupe_window, now, (parts.boot_clock)())),
        boot_clock: parts.boot_clock,
        clock: parts.clock,
        durable: watch::Sender::new(end),
        tail: Arc::new(TailCache::new(end, parts.tail)),
        inbox: Arc::new(Inbox::new(parts.max_in_flight)),
        positions,
        state,
        damage: Damage::new(found.notes.damaged),
        letters,
        quarantine,
        sinks: Guarded::new(sinks),
        registry: tokio::sync::Semaphore::new(1),
        refusing: watch::Sender::new(None),
        dead: watch::Sender::new(false),
        min_free,
        kept: Guarded::new(format.kept()),
        format,
        settings,
    });
    let seen = path.join("seen");
    shared.disk.create_dir_all(&seen).map_err(at_path)?;
    if !counted {
        count_positions(&shared).map_err(at_path)?;
    }
    damage::recover(&shared, &seen).map_err(at_path)?;
    adopt_positions(&shared, set_aside > 0 || !shared.damage.spans().is_empty());
    let unwritten = missing_ids(&shared);
    start(shared, lock, letters_writer, (events, samples), unwritten).map_err(at_path)
}

/// What the dead letters ask of the positions.
fn known_positions(positions: &Arc<Positions>) -> dead_letters::Positions {
    let positions = Arc::clone(positions);
    Arc::new(move || {
        let known = |(sink, progress): (String, Progress)| {
            let durable = positions.durable(&sink);
            (sink, Known { progress, durable })
        };
        positions.all().into_iter().map(known).collect()
    })
}

/// What version 0.1.0 noted of the sinks is without ordinals.
fn count_positions(shared: &Shared) -> io::Result<()> {
    for (key, progress) in shared.positions.all() {
        let ordinals = registry::ordinals_at(shared, progress.position)?;
        // A record that it had dead-lettered and sent again behind a kill it counted as delivered.
        let letters = shared.letters.counts(&key, progress.base, progress.position).sum();
        let dead_lettered = progress.dead_lettered.max(letters.min(progress.dead_lettered + progress.delivered));
        let delivered = progress.delivered + progress.dead_lettered - dead_lettered;
        let accounted_through = progress.position;
        let counted = Progress { ordinals, delivered, dead_lettered, accounted_through, ..progress };
        shared.positions.set(&key, counted);
    }
    Ok(())
}

/// Positions that no sink of the list has are what a kill left of one that was forgotten, or never noted. Where the journal is
/// damaged the list may be an older one: then they tell of sinks that it has not got.
fn adopt_positions(shared: &Shared, damaged: bool) {
    let mut sinks = shared.sinks().clone();
    let known = |sinks: &[SinkRegistration], key: &str| sinks.iter().any(|sink| sink.key() == key);
    if damaged {
        for (key, progress) in shared.positions.all() {
            if !known(&sinks, &key) {
                sinks.push(SinkRegistration::found(&key, progress.base));
            }
        }
    }
    shared.positions.retain(|key| known(&sinks, key));
    shared.state.retain_sinks(|key| known(&sinks, key));
    *shared.sinks() = sinks;
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
    lock: Lock,
    letters: dead_letters::Writer,
    (events, samples): (Log, Log),
    unwritten: Vec<(LogKind, Arc<Segment>)>,
) -> io::Result<Handles> {
    let next_sequence = shared.durable.borrow().sequence + 1;
    let (to_librarian, librarian_jobs) = mpsc::channel();
    let (to_janitor, janitor_jobs) = mpsc::channel();
    let seen = shared.settings.path.join("seen");
    let health = shared.health.clone();
    let pulse = health.join("the store's librarian", UNHURRIED);
    let mut librarian = Librarian::new(Arc::clone(&shared), seen, pulse, librarian_jobs)?;
    let today = day_of(shared.now());
    let mut days = HashMap::new();
    for day in [today - 1, today] {
        // Of one that is not to be had now the committer is told, and refuses its events until it is.
        if let Some(index) = librarian.try_open(day) {
            days.insert(day, OpenDay { index, used: Instant::now() });
        }
    }
    let committer = Committer {
        pulse: health.join("the store's committer", health::PATIENCE),
        inbox: Arc::clone(&shared.inbox),
        shared: Arc::clone(&shared),
        events,
        samples,
        next_sequence,
        librarian: to_librarian.clone(),
        janitor: to_janitor.clone(),
        days,
        waiting: HashMap::new(),
        unavailable: HashMap::new(),
        unindexed: HashMap::new(),
        refusals: Refusals::default(),
        // As a note leaves it that began a segment of a store that was full.
        unclaimed: !shared.has_room(true, shared.events.unfilled()),
        last_group: 0,
        last_wait: None,
    };
    let pulse = health.join("the store's janitor", UNHURRIED);
    let janitor = Janitor::new(Arc::clone(&shared), pulse, unwritten, janitor_jobs);
    let _ = to_janitor.send(janitor::Job::Sweep);
    let letters = Working {
        writer: letters,
        pulse: health.join("the store's dead letters", UNHURRIED),
        died: shared.dead.clone(),
    };
    let executor = shared.executor.clone();
    let threads = Threads {
        letters: executor.start("dead-letters", dead_letters::TICK, Box::new(letters))?,
        committer: executor.start("committer", committer::TICK, Box::new(committer))?,
        librarian: (to_librarian, executor.start("librarian", librarian::RETRY_AFTER, Box::new(librarian))?),
        janitor: (to_janitor, executor.start("janitor", janitor::TICK, Box::new(janitor))?),
        lock,
    };
    shared.letters.answered_by(threads.letters.answers());
    Ok(Handles::new(shared, threads))
}

fn place(disk: &Arc<dyn Disk>, path: &Path, kind: LogKind, max_size: u64) -> Place {
    let name = match kind {
        LogKind::Events => "journal",
        LogKind::Samples => "samples",
    };
    let segment_size = (max_size / 64).clamp(MIB, 64 * MIB);
    Place { disk: Arc::clone(disk), dir: path.join(name), kind, segment_size }
}

fn open_log(
    disk: &Arc<dyn Disk>,
    path: &Path,
    kind: LogKind,
    max_size: u64,
    now: jiff::Timestamp,
) -> Result<(Log, Found), OpenError> {
    let place = place(disk, path, kind, max_size);
    let dir = place.dir.clone();
    Log::open(place, now).map_err(|error| OpenError::io(&dir, error))
}

fn share(disk: &Arc<dyn Disk>, path: &Path, kind: LogKind, max_size: u64, log: &Log) -> io::Result<LogShare> {
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

/// A crash may have come between the sealing of a segment and the writing of its ids. The janitor writes them.
fn missing_ids(shared: &Shared) -> Vec<(LogKind, Arc<Segment>)> {
    let mut unwritten = Vec::new();
    for log in LogKind::ALL {
        let share = shared.log(log);
        for segment in share.segments.snapshot() {
            if !segment.sealed.load(Acquire) || segment.ids_written.load(Acquire) {
                continue;
            }
            let mut ids = Vec::new();
            match segment.for_each_id(|id| ids.push(id)) {
                Ok(()) => {
                    share.ids_bytes.fetch_add(ids::length(ids.len()), Relaxed);
                    *segment.ids.lock() = ids;
                    unwritten.push((log, segment));
                }
                Err(error) => {
                    tracing::error!(%error, segment = %segment.path.display(), "a segment cannot be read: it stays");
                }
            }
        }
    }
    unwritten
}
