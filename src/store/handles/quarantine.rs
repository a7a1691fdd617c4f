//! Bodies that were well signed and yet no events.

use crate::store::quarantine::Quarantined;
use crate::store::shared::Shared;
use std::io;
use std::sync::Arc;

/// Copies of them, for people to look at.
#[derive(Clone)]
pub struct Quarantine {
    shared: Arc<Shared>,
}

impl Quarantine {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// Keeps a copy, and why it is no event.
    ///
    /// Blocks on the disk.
    pub fn keep(&self, source: &str, reason: &str, body: &[u8]) -> io::Result<()> {
        self.shared.quarantine.keep(source, reason, body, self.shared.now())
    }

    /// Those whose id is above `after`, oldest first: at most `limit` that are `wanted`.
    pub fn after(&self, after: Option<i64>, limit: usize, wanted: impl Fn(&Quarantined) -> bool) -> Vec<Quarantined> {
        self.shared.quarantine.after(after, limit, wanted)
    }

    /// One of them with its body.
    ///
    /// Blocks on the disk.
    pub fn read(&self, id: i64) -> io::Result<Option<(Quarantined, Vec<u8>)>> {
        self.shared.quarantine.read(id)
    }

    /// Gives them up. Returns how many there were.
    ///
    /// Blocks on the disk.
    pub fn give_up(&self, ids: &[i64]) -> io::Result<usize> {
        ids.iter().try_fold(0, |dropped, id| Ok(dropped + usize::from(self.shared.quarantine.remove(*id)?)))
    }
}

impl std::fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quarantine").finish_non_exhaustive()
    }
}
