//! What the store's threads and handles have in common.

use super::clock::{BootClock, Clock, ProviderClock, WallClock};
use super::damage::Damage;
use super::dead_letters::Letters;
use super::errors::Refused;
use super::files::disk::Disk;
use super::files::guarded::{Guard, Guarded};
use super::format::{Format, Migrated};
use super::kv::KeyValue;
use super::log::frame::Day;
use super::log::ids::{self, Id};
use super::log::notes::{Control, SinkRegistration};
use super::log::record::{End, LogKind, Ordinals};
use super::log::tail_cache::TailCache;
use super::log::{Place, Segment, Segments, ids_path, number_of};
use super::quarantine::Copies;
use super::settings::Settings;
use super::sinks::positions::Positions;
use super::state::SmallState;
use super::write::inbox::Inbox;
use crate::executor::Executor;
use crate::health::Health;
use crate::metrics::Metrics;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// One log of the two, as the threads beside the committer see it.
pub(super) struct LogShare {
    pub(super) place: Place,
    pub(super) segments: Arc<Segments>,
    /// A zeroed, synced file that waits to become a segment.
    pub(super) spare: Guarded<Option<PathBuf>>,
    /// Bytes that are taken by who is about to use them, and count nowhere else yet.
    pub(super) claimed: AtomicU64,
    /// Held from looking for room to taking it.
    pub(super) claiming: Guarded<()>,
    /// Bytes of the files of ids.
    pub(super) ids_bytes: AtomicU64,
    /// Most bytes the log may take.
    pub(super) max_size: u64,
}

impl LogShare {
    pub(super) fn spare(&self) -> Guard<'_, Option<PathBuf>> {
        self.spare.lock()
    }

    /// Segments, ids, the spare, and what is claimed for one of them.
    pub(super) fn bytes(&self) -> u64 {
        let spare = if self.spare().is_some() { self.place.segment_size } else { 0 };
        self.segments.allocated()
            + self.ids_bytes.load(Ordering::Relaxed)
            + spare
            + self.claimed.load(Ordering::Relaxed)
    }

    /// What the newest segment will still take; room for it was asked for when it was begun.
    pub(super) fn unfilled(&self) -> u64 {
        let newest = self.segments.snapshot().into_iter().next_back();
        newest.map_or(0, |newest| self.place.segment_size.saturating_sub(newest.allocated.load(Ordering::Relaxed)))
    }

    /// Calls `visit` with every id of the days that `wanted` says yes to (lowest and highest day of a file), by rising
    /// sequence, from the files of ids where they are there, else from the segments.
    pub(super) fn for_each_id(&self, wanted: impl Fn(Day, Day) -> bool, mut visit: impl FnMut(Id)) -> io::Result<()> {
        let segments = self.segments.snapshot();
        let mut numbers: BTreeSet<u64> = segments.iter().map(|segment| segment.header.number).collect();
        let disk = &*self.place.disk;
        numbers.extend(disk.list(&self.place.dir)?.iter().filter_map(|(name, _)| number_of(name, "ids")));
        for number in numbers {
            let path = ids_path(&self.place, number);
            let segment = segments.iter().find(|segment| segment.header.number == number);
            let summary = if segment.is_none_or(|segment| segment.ids_written.load(Ordering::Acquire)) {
                ids::summary(disk, &path)?
            } else {
                None
            };
            if let Some(summary) = summary {
                if summary.days.is_none_or(|(lowest, highest)| !wanted(lowest, highest)) {
                    continue;
                }
                if let Some(ids) = ids::read(disk, &path)? {
                    ids.into_iter().for_each(&mut visit);
                    continue;
                }
            }
            match segment {
                Some(segment) => segment.for_each_id(&mut visit)?,
                None => {
                    tracing::error!(path = %path.display(), "a file of ids is damaged: events of its time may be accepted twice")
                }
            }
        }
        Ok(())
    }

    /// The oldest segment that is there.
    pub(super) fn oldest(&self) -> Option<Arc<Segment>> {
        self.segments.snapshot().into_iter().next()
    }
}

/// Room that is taken until this is dropped: by then it counts as what it is used for, or is free again.
pub(super) struct Claim<'a> {
    share: &'a LogShare,
    bytes: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.share.claimed.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

pub(super) struct Shared {
    pub(super) format: Format,
    pub(super) settings: Settings,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) kv: Arc<dyn KeyValue>,
    pub(super) executor: Executor,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) clock: Clock,
    pub(super) boot_clock: BootClock,
    /// Whether [`Self::clock`] is believed; see [`Shared::clock_is_sane`].
    pub(super) wall_clock: Guarded<WallClock>,
    pub(super) events: LogShare,
    pub(super) samples: LogShare,
    /// The end of what is on disk.
    pub(super) durable: watch::Sender<End>,
    /// Has what is durable before `durable` says so.
    pub(super) tail: Arc<TailCache>,
    /// What waits for the committer.
    pub(super) inbox: Arc<Inbox>,
    pub(super) positions: Arc<Positions>,
    pub(super) state: SmallState,
    pub(super) damage: Damage,
    pub(super) letters: Letters,
    pub(super) quarantine: Copies,
    /// Every sink that is known, those taken out of the settings included.
    pub(super) sinks: Guarded<Vec<SinkRegistration>>,
    /// Held by whoever changes that list, see `sinks::registry`.
    pub(super) registry: tokio::sync::Semaphore,
    /// `None` while events are accepted.
    pub(super) refusing: watch::Sender<Option<Refused>>,
    /// The committer's thread has ended, and not because it was told to.
    pub(super) dead: watch::Sender<bool>,
    pub(super) min_free: u64,
    /// The copy from before an upgrade, unless it is given up already.
    pub(super) kept: Guarded<Option<Migrated>>,
    pub(super) reserve: super::write::reserve::Reserve,
}

impl Shared {
    pub(super) fn now(&self) -> jiff::Timestamp {
        (self.clock)()
    }

    pub(super) fn sinks(&self) -> Guard<'_, Vec<SinkRegistration>> {
        self.sinks.lock()
    }

    /// What a new segment of the journal begins with.
    pub(super) fn notes(&self) -> Vec<Control> {
        let damaged = self.damage.spans();
        let damaged = (!damaged.is_empty()).then_some(Control::Damaged(damaged));
        std::iter::once(Control::Sinks(self.sinks().clone())).chain(damaged).collect()
    }

    pub(super) fn log(&self, log: LogKind) -> &LogShare {
        match log {
            LogKind::Events => &self.events,
            LogKind::Samples => &self.samples,
        }
    }

    /// Whether a log may grow by `wanted` bytes.
    pub(super) fn has_room(&self, events: bool, wanted: u64) -> bool {
        let (used, most) =
            if events { (self.used(), self.events.max_size) } else { (self.samples.bytes(), self.samples.max_size) };
        // Sealing the segment before leaves its ids behind, 24 bytes for each event of 200 or more.
        used + wanted + wanted / 8 <= most
    }

    /// Takes `bytes` of a log's room where it may grow by `wanted`, of which they are a part. Looking and taking are one: the
    /// committer and the janitor would both take what is left for one segment.
    pub(super) fn claim(&self, events: bool, wanted: u64, bytes: u64) -> Option<Claim<'_>> {
        let share = if events { &self.events } else { &self.samples };
        let _alone = share.claiming.lock();
        self.has_room(events, wanted).then(|| {
            share.claimed.fetch_add(bytes, Ordering::Relaxed);
            Claim { share, bytes }
        })
    }

    /// Bytes that count towards `store.max_size`.
    pub(super) fn used(&self) -> u64 {
        self.events.bytes() + self.letters.size() + self.quarantine.bytes()
    }

    /// Of which format a copy is kept, and since when.
    pub(super) fn kept(&self) -> Guard<'_, Option<Migrated>> {
        self.kept.lock()
    }

    /// Whether the wall clock is believed. While it is not, nothing is forgotten.
    pub(super) fn clock_is_sane(&self) -> bool {
        let (wall, boot) = (self.now(), (self.boot_clock)());
        let look = self.wall_clock().look(wall, boot);
        look.tell();
        look.is_believed
    }

    /// What the providers' clocks say of the wall clock.
    pub(super) fn compare_clock(&self, provider: ProviderClock) {
        let (wall, boot) = (self.now(), (self.boot_clock)());
        let look = self.wall_clock().compare(provider, wall, boot);
        look.tell();
    }

    fn wall_clock(&self) -> Guard<'_, WallClock> {
        self.wall_clock.lock()
    }

    /// Whether the ids of a day need not be remembered any more.
    pub(super) fn is_forgotten(&self, day: Day) -> bool {
        let end = (i64::from(day) + 1) * 86_400;
        end.saturating_add_unsigned(self.settings.dedupe_window.as_secs()) < self.now().as_second()
    }

    /// The key of a sink, attached or removed.
    pub(super) fn key_of(&self, name: &str) -> Option<String> {
        self.sinks().iter().find(|sink| sink.name == name).map(|sink| sink.key().to_owned())
    }

    pub(super) fn least_of_attached(&self, of: impl Fn(&SinkRegistration) -> u64) -> u64 {
        let sinks = self.sinks();
        sinks.iter().filter(|sink| sink.is_attached()).map(of).min().unwrap_or(u64::MAX)
    }

    /// The sequence up to which every sink that is in the settings has settled everything, by what is on disk.
    pub(super) fn settled_by_all(&self) -> u64 {
        self.least_of_attached(|sink| self.positions.durable(sink.key()))
    }

    /// The same by what memory says.
    pub(super) fn settled_by_all_in_memory(&self) -> u64 {
        self.least_of_attached(|sink| self.positions.get(sink.key()).map_or(0, |progress| progress.position))
    }

    /// Records of each log that every sink that is in the settings has settled.
    pub(super) fn ordinals_settled_by_all(&self) -> Ordinals {
        let of = |log| {
            self.least_of_attached(|sink| {
                self.positions.get(sink.key()).map_or(0, |progress| progress.ordinals.of(log))
            })
        };
        Ordinals { events: of(LogKind::Events), samples: of(LogKind::Samples) }
    }
}
