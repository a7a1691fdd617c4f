//! One sink's part of the store: its position, its dead letters, its small state. By its key, so that it stays this sink's
//! while names change.

use crate::event::Stored;
use crate::store::dead_letters::{Cause, DeadLetter, DeadLetterCounts, Resolution};
use crate::store::errors::Refused;
use crate::store::phase::{Phase, during};
use crate::store::shared::Shared;
use crate::store::sinks::positions::Progress;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// The right to move a sink's position, and whose dead letters are whose. This engine grants it at once and for ever.
#[derive(Clone)]
pub struct Claim {
    shared: Arc<Shared>,
    key: String,
}

impl Claim {
    /// Of the sink that has this name now. One that is not known has nothing.
    pub(super) fn new(shared: &Arc<Shared>, name: &str) -> Self {
        let key = shared.key_of(name).unwrap_or_else(|| name.to_owned());
        Self { shared: Arc::clone(shared), key }
    }

    /// By which the sink is known for ever, whatever its name; of version 0.1.0 it is the name that it had first.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How far the sink is.
    pub fn progress(&self) -> Progress {
        self.shared.positions.get(&self.key).unwrap_or_default()
    }

    /// Keeps how far the sink is, on the peer's own confirmation only. Survives a kill of the process once this returns.
    ///
    /// Blocks on the disk.
    pub fn keep(&self, progress: Progress) -> io::Result<()> {
        self.shared.positions.set(&self.key, progress);
        self.shared.positions.witness(*self.shared.durable.borrow());
        during(Phase::Position, || self.shared.reserve.write(|| self.shared.positions.write()))
    }

    /// Whether the sink had a record before that was damaged, or has it among its dead letters, by the sequence that this had.
    pub fn had(&self, replaced: u64) -> bool {
        self.shared.damage.had(&self.key, replaced) || self.shared.letters.has(&self.key, replaced)
    }

    /// The peer has everything up to a sequence, more than was kept here: what is damaged of that, the sink had. For good
    /// when this returns, so that the position may be kept.
    pub async fn had_through(&self, sequence: u64) -> Result<(), Refused> {
        match self.shared.had_through(&self.key, sequence) {
            Some(noted) => noted.await.unwrap_or(Err(Refused::Draining)),
            None => Ok(()),
        }
    }

    /// Small state about the sink, which is forgotten with it.
    pub fn state(&self) -> Option<Vec<u8>> {
        self.shared.state.sink_value(&self.key)
    }

    /// Keeps [`Self::state`]; on disk for good when this returns.
    ///
    /// Blocks on the disk.
    pub fn set_state(&self, value: Vec<u8>) -> io::Result<()> {
        self.shared.state.set_sink_value(&self.key, value);
        self.shared.reserve.write(|| self.shared.state.sync())
    }

    /// Puts records among the sink's dead letters, on disk, before its position may move past them. Returns how many of the
    /// first ones are there now; it fails where there is not even room for one.
    ///
    /// Blocks on the disk.
    pub fn park(&self, letters: &[(Arc<Stored>, Cause)]) -> io::Result<usize> {
        let now = self.shared.now();
        let park = || self.shared.letters.park(&self.key, letters, now);
        during(Phase::DeadLettering, || self.shared.reserve.write(park))
    }

    /// What became of its dead letters up to a position.
    pub fn dead_letter_counts(&self, position: u64) -> DeadLetterCounts {
        self.shared.letters.counts(&self.key, self.progress().base, position)
    }

    /// Records behind a position that are among its dead letters, or were until somebody resolved them: the process ended
    /// before the position was moved past them.
    pub fn dead_lettered_behind(&self, position: u64) -> BTreeSet<u64> {
        self.shared.letters.above(&self.key, position)
    }

    /// How many of its dead letters wait.
    pub fn dead_letters_waiting(&self) -> u64 {
        self.shared.letters.waiting(&self.key)
    }

    /// Its dead letters, by sequence.
    pub fn dead_letters(&self) -> Vec<(u64, DeadLetter)> {
        self.shared.letters.of(&self.key)
    }

    /// So many of the newest of them, the newest first.
    pub fn newest_dead_letters(&self, limit: usize) -> Vec<(u64, DeadLetter)> {
        self.shared.letters.newest(&self.key, limit)
    }

    /// The event of a dead letter; `None` when none waits there, or none any more, since its bytes are damaged.
    ///
    /// Blocks on the disk.
    pub fn dead_letter_event(&self, sequence: u64) -> io::Result<Option<Stored>> {
        self.shared.letters.event(&self.key, sequence)
    }

    /// Notes, durably, what became of dead letters. Returns how many of them waited.
    ///
    /// Blocks on the disk.
    pub fn resolve(&self, sequences: &[u64], how: Resolution) -> io::Result<usize> {
        self.shared.reserve.write(|| self.shared.letters.resolve(&self.key, sequences, how))
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("key", &self.key).finish_non_exhaustive()
    }
}
