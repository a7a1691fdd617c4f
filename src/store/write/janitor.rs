//! The thread that keeps the store in order: ids of sealed segments, spares, what may go, what is full.

use super::sweep;
use crate::executor::Worker;
use crate::health::Pulse;
use crate::logging::Occasional;
use crate::store::files::disk::Open;
use crate::store::format::migrate;
use crate::store::log::ids;
use crate::store::log::record::LogKind;
use crate::store::log::{Segment, ids_path, number_of};
use crate::store::phase::{Phase, during};
use crate::store::shared::{LogShare, Shared};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::time::Instant;

pub(in crate::store) enum Job {
    /// A segment is full.
    Sealed(LogKind, Arc<Segment>),
    /// Room is wanted.
    Sweep,
    /// The store is being closed.
    Finish,
}

pub(in crate::store) const TICK: Duration = Duration::from_secs(1);
/// A spare is made once the first segment is a quarter full: a log that is not used needs none.
const SPARE_FROM: u64 = 4;
/// What a spare is zeroed with at once.
const BLOCK: usize = 256 * 1024;

pub(in crate::store) struct Janitor {
    shared: Arc<Shared>,
    pulse: Pulse,
    /// What it says each time that it fails anew.
    said: [Occasional; 6],
    /// Sealed segments whose ids could not be written yet.
    unwritten: Vec<(LogKind, Arc<Segment>)>,
    jobs: mpsc::Receiver<Job>,
}

impl Worker for Janitor {
    /// Ends when told to finish.
    fn step(&mut self, patience: Duration) -> bool {
        self.pulse.beat();
        match self.jobs.recv_timeout(patience) {
            Ok(Job::Sealed(log, segment)) => self.unwritten.push((log, segment)),
            Ok(Job::Sweep) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(Job::Finish) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                self.write_ids();
                return false;
            }
        }
        self.tidy();
        true
    }
}

impl Janitor {
    pub(in crate::store) fn new(
        shared: Arc<Shared>,
        pulse: Pulse,
        unwritten: Vec<(LogKind, Arc<Segment>)>,
        jobs: mpsc::Receiver<Job>,
    ) -> Self {
        Self { shared, pulse, said: Default::default(), unwritten, jobs }
    }

    pub(in crate::store) fn tidy(&mut self) {
        self.write_ids();
        let shared = Arc::clone(&self.shared);
        let tasks: [(&str, &dyn Fn() -> io::Result<()>); 5] = [
            ("what is settled cannot be removed", &|| self.sweep(true)),
            ("samples that are settled cannot be removed", &|| self.sweep(false)),
            ("ids that need not be remembered cannot be removed", &|| self.forget_ids()),
            ("the space that is set aside cannot be held", &|| self.hold_space()),
            ("the copy from before the upgrade cannot be removed", &|| self.give_up_copy()),
        ];
        for ((trouble, task), said) in tasks.into_iter().zip(&self.said) {
            if let Err(error) = task()
                && let Some(suppressed) = said.pass(Instant::now())
            {
                tracing::error!(%error, suppressed, "{trouble}");
            }
        }
        let first = shared.events.oldest().map_or(0, |segment| segment.header.first_sequence.saturating_sub(1));
        let kept = shared.durable.borrow().sequence.saturating_sub(first);
        shared.metrics.store_size(shared.used(), shared.settings.max_size.as_u64(), kept);
    }

    fn write_ids(&mut self) {
        let shared = Arc::clone(&self.shared);
        let [.., said] = &self.said;
        self.unwritten.retain(|(log, segment)| {
            let written = shared.reserve.write(|| write_ids(shared.log(*log), segment));
            if let Err(error) = &written
                && let Some(suppressed) = said.pass(Instant::now())
            {
                tracing::error!(%error, suppressed, "the ids of a segment cannot be written: the segment stays");
            }
            written.is_err()
        });
    }

    /// Removes what is over, and makes a spare once a log is in use.
    fn sweep(&self, events: bool) -> io::Result<()> {
        let shared = &self.shared;
        let share = if events { &shared.events } else { &shared.samples };
        let segments = share.segments.snapshot();
        let in_use = segments.len() > 1
            || segments.first().is_some_and(|segment| segment.durable() > share.place.segment_size / SPARE_FROM);
        if !in_use || share.spare().is_some() {
            return sweep::make_room(shared, events, 0);
        }
        let wanted = share.unfilled() + share.place.segment_size;
        sweep::make_room(shared, events, wanted)?;
        // What the newest segment will still take is looked for, and not taken.
        match shared.claim(events, wanted, share.place.segment_size) {
            Some(_claim) => self.make_spare(share),
            None => Ok(()),
        }
    }

    /// A zeroed and synced file: appending to it later changes no metadata, so that each `fdatasync` is one write.
    fn make_spare(&self, share: &LogShare) -> io::Result<()> {
        let place = &share.place;
        let space = place.disk.space(&place.dir)?;
        if space.free < self.shared.min_free + 2 * place.segment_size {
            return Ok(());
        }
        let unfinished = place.dir.join("spare-unfinished");
        let file = place.disk.open(&unfinished, Open::Either)?;
        let zeros = vec![0; BLOCK];
        let mut length = 0;
        while length < place.segment_size {
            let block = zeros.get(..zeros.len().min((place.segment_size - length) as usize)).unwrap_or(&zeros);
            file.write_all_at(block, length)?;
            // Bit by bit: the committer's `fdatasync` waits behind whatever the disk has been given at once.
            file.sync_data()?;
            length += block.len() as u64;
            self.pulse.beat();
        }
        let path = place.dir.join("spare-ready");
        place.disk.rename(&unfinished, &path)?;
        place.disk.sync_dir(&place.dir)?;
        *share.spare() = Some(path);
        Ok(())
    }

    /// Removes files of ids whose segment is gone and whose days are all over.
    fn forget_ids(&self) -> io::Result<()> {
        if !self.shared.clock_is_sane() {
            return Ok(());
        }
        let share = &self.shared.events;
        let kept: Vec<u64> = share.segments.snapshot().iter().map(|segment| segment.header.number).collect();
        for (name, _) in share.place.disk.list(&share.place.dir)? {
            let Some(number) = number_of(&name, "ids").filter(|number| !kept.contains(number)) else { continue };
            let summary = ids::summary(&*share.place.disk, &ids_path(&share.place, number))?;
            let over = summary
                .is_some_and(|summary| summary.days.is_none_or(|(_, highest)| self.shared.is_forgotten(highest)));
            if over {
                during(Phase::DayDrop, || sweep::remove_ids(share, number))?;
            }
        }
        Ok(())
    }

    /// Takes the reserve back once there is room again.
    fn hold_space(&self) -> io::Result<()> {
        let space = self.shared.disk.space(&self.shared.settings.path)?;
        if space.free > self.shared.min_free + 2 * super::reserve::SIZE {
            self.shared.reserve.hold()?;
        }
        Ok(())
    }
}

impl Janitor {
    /// The copy from before an upgrade stays for as long as a delivered event does, and goes before anything is refused
    /// for want of disk. It does not count towards `max_size`: it never makes an event go.
    fn give_up_copy(&self) -> io::Result<()> {
        let shared = &self.shared;
        let Some(kept) = *shared.kept() else { return Ok(()) };
        let retention = jiff::SignedDuration::try_from(shared.settings.retention).unwrap_or(jiff::SignedDuration::MAX);
        let old = shared.clock_is_sane() && shared.now().duration_since(kept.at) > retention;
        let path = &shared.settings.path;
        if !old && shared.disk.space(path)?.free >= shared.min_free + super::reserve::SIZE {
            return Ok(());
        }
        for from in 0..=kept.from {
            let copy = migrate::copy_of(path, from);
            if copy.exists() {
                migrate::unless_missing(shared.disk.remove_dir_all(&copy))?;
                shared.disk.sync_dir(path)?;
                let why = if old { "it is older than store.retention" } else { "the disk is nearly full" };
                tracing::info!(copy = %copy.display(), why, "the copy from before the upgrade is removed");
            }
        }
        *shared.kept() = None;
        Ok(())
    }
}

/// Writes the ids of a sealed segment, whose bytes were counted when it was sealed.
pub(super) fn write_ids(share: &LogShare, segment: &Segment) -> io::Result<()> {
    let header = &segment.header;
    loop {
        let ids = segment.ids.lock().clone();
        ids::write(&*share.place.disk, &share.place.dir, header.number, header.first_sequence, &ids)?;
        let mut known = segment.ids.lock();
        // Of what turned out to be damaged meanwhile the file must not tell.
        if known.len() == ids.len() {
            *known = Vec::new();
            segment.ids_written.store(true, Ordering::Release);
            return Ok(());
        }
    }
}
