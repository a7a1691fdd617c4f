//! Small state that somebody keeps in the store under a name of his own.

use crate::store::shared::Shared;
use std::io;
use std::sync::Arc;

/// Values by key, each small.
#[derive(Clone)]
pub struct State {
    shared: Arc<Shared>,
}

impl State {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// What is kept under a key.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.shared.state.value(key)
    }

    /// Whether what was there could not be read when the store was opened.
    pub fn was_lost(&self) -> bool {
        self.shared.state.was_lost()
    }

    /// Keeps it; on disk for good when this returns.
    ///
    /// Blocks on the disk.
    pub fn set(&self, key: &str, value: &[u8]) -> io::Result<()> {
        self.shared.state.set_value(key, value);
        self.shared.reserve.write(|| self.shared.state.sync())
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}
