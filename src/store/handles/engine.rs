//! That the store is open: its threads, and its end.

use crate::executor::Running;
use crate::health::Health;
use crate::store::dedupe::librarian;
use crate::store::errors::Refused;
use crate::store::files::guarded::Guarded;
use crate::store::files::lock::Lock;
use crate::store::shared::Shared;
use crate::store::write::janitor;
use std::sync::{Arc, mpsc};
use tokio::sync::watch;

/// What works in the store. Dropping it closes the store like [`Engine::close`]; whoever has another handle then can still
/// read, and is refused what would be written.
pub struct Engine {
    pub(in crate::store) shared: Arc<Shared>,
    threads: Guarded<Option<Threads>>,
}

/// The threads, and how two of them are told to end; the committer ends with the inbox, the dead letters by their handle.
pub(in crate::store) struct Threads {
    pub(in crate::store) committer: Running,
    pub(in crate::store) letters: Running,
    pub(in crate::store) librarian: (mpsc::Sender<librarian::Job>, Running),
    pub(in crate::store) janitor: (mpsc::Sender<janitor::Job>, Running),
    /// The last thing to go: until then something may be written.
    pub(in crate::store) lock: Lock,
}

impl Engine {
    pub(super) fn new(shared: Arc<Shared>, threads: Threads) -> Self {
        Self { shared, threads: Guarded::new(Some(threads)) }
    }

    /// Where its threads note that they move.
    pub fn health(&self) -> Health {
        self.shared.health.clone()
    }

    /// Becomes true if the store's writer ends without being told to: then the process has to end too.
    pub fn died(&self) -> watch::Receiver<bool> {
        self.shared.dead.subscribe()
    }

    /// Bytes that count towards `store.max_size`.
    pub fn used_bytes(&self) -> u64 {
        self.shared.used()
    }

    /// Has the janitor look now rather than at its next tick.
    #[cfg(test)]
    pub(in crate::store) fn janitor_now(&self) {
        if let Some(threads) = &*self.threads.lock() {
            threads.janitor.0.send(janitor::Job::Sweep).unwrap();
        }
    }

    /// Refuses what comes from now on; what waits is still answered.
    pub fn stop_accepting(&self) {
        self.shared.inbox.close();
        self.shared.refusing.send_replace(Some(Refused::Draining));
    }

    /// Works off what waits, puts everything on disk, and ends the threads.
    ///
    /// Blocks on the disk.
    pub fn close(&self) {
        self.stop_accepting();
        let Some(threads) = self.threads.lock().take() else { return };
        let Threads { committer, letters, librarian, janitor, lock } = threads;
        if committer.join().is_err() {
            self.shared.dead.send_replace(true);
        }
        let _ = librarian.0.send(librarian::Job::Finish);
        let _ = janitor.0.send(janitor::Job::Finish);
        self.shared.letters.finish();
        for thread in [letters, librarian.1, janitor.1] {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        self.shared.positions.witness(*self.shared.durable.borrow());
        if let Err(error) = self.shared.positions.close() {
            tracing::error!(%error, "the positions cannot be put on disk: sinks may repeat what they sent last");
        }
        if let Err(error) = self.shared.state.close() {
            tracing::error!(%error, "the small state cannot be put on disk");
        }
        drop(lock);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
