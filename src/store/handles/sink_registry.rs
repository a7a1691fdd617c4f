//! Which sinks there are.

use super::Claim;
use crate::store::errors::{AttachError, Refused};
use crate::store::shared::Shared;
use crate::store::sinks::registry::{self, Removed, SinkStart};
use std::sync::Arc;

/// The sinks that the store knows, those that were taken out of the settings included.
#[derive(Clone)]
pub struct SinkRegistry {
    shared: Arc<Shared>,
}

impl SinkRegistry {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// Tells which sinks there are. A new one begins where its `start` says, a known one goes on where it was, one that
    /// is not listed any more keeps its position for `store.retention`.
    pub async fn attach(&self, sinks: &[SinkStart]) -> Result<(), AttachError> {
        registry::attach(&self.shared, sinks).await
    }

    /// Which of these would go on from another sink's position than they now have, since names were exchanged or handed on.
    pub fn moved(&self, sinks: &[SinkStart]) -> Vec<String> {
        registry::moved(&self.shared, sinks)
    }

    /// What belongs to the sink that has this name now.
    pub fn claim(&self, sink: &str) -> Claim {
        Claim::new(&self.shared, sink)
    }

    /// Sinks that are in the settings no more and whose positions are kept.
    pub fn removed(&self) -> Vec<Removed> {
        registry::removed(&self.shared)
    }

    /// Forgets the position of one of them: should it come back, it is new. `false` if there is none of that name.
    pub async fn forget(&self, name: &str) -> Result<bool, Refused> {
        if !registry::forget(&self.shared, name).await? {
            return Ok(false);
        }
        let shared = Arc::clone(&self.shared);
        let forgotten = self.shared.executor.call(move || registry::forget_what_is_over(&shared)).await;
        if let Err(error) = forgotten.unwrap_or_else(|lost| Err(lost.into())) {
            // It is forgotten: its key is nobody's any more, and the next start removes what is left.
            tracing::warn!(sink = name, %error, "what a forgotten sink leaves behind cannot be removed yet");
        }
        Ok(true)
    }
}

impl std::fmt::Debug for SinkRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkRegistry").finish_non_exhaustive()
    }
}
