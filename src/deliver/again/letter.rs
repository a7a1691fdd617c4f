//! The event of a dead letter, read back.

use super::Road;
use crate::event::Stored;
use crate::logging::Occasional;
use std::io;
use std::sync::Arc;
use tokio::time::Instant;

/// What became of the reading.
pub(super) enum Read {
    Event(Box<Stored>),
    /// It waits no more: an operator was faster.
    Gone,
    /// It waits, and what is kept of it cannot be read now, or ever.
    Unreadable(Unreadable),
}

/// Why a letter that waits cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The same at every look.
    #[error("what is kept of it is damaged")]
    Damaged,
    /// This may pass.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

impl Road {
    pub(super) async fn read_letter(self: &Arc<Self>, sequence: u64) -> Read {
        let road = Arc::clone(self);
        let read = self.executor.call(move || match road.claim.dead_letter_event(sequence) {
            Ok(Some(stored)) => Read::Event(Box::new(stored)),
            Ok(None) if road.waits(sequence) => Read::Unreadable(Unreadable::Damaged),
            Ok(None) => Read::Gone,
            Err(error) => Read::Unreadable(error.into()),
        });
        read.await.unwrap_or_else(|error| Read::Unreadable(io::Error::other(error).into()))
    }

    fn waits(&self, sequence: u64) -> bool {
        self.claim.dead_letters().iter().any(|(waiting, _)| *waiting == sequence)
    }

    /// Tells, now and then, of a letter that cannot be read.
    pub(super) fn tell_unreadable(&self, sequence: u64, error: &Unreadable, said: &Occasional) {
        if let Some(suppressed) = said.pass(Instant::now()) {
            tracing::error!(
                sink = self.name,
                sequence,
                %error,
                suppressed,
                "a dead letter cannot be read, and waits: drop it by hand, or restore the store"
            );
        }
    }
}
