//! Whether the host's clock can be believed: the providers tell theirs with every reply.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Two clocks that are further apart cannot both be right.
pub const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(5 * 60);

/// By source, the provider's clock less the host's, in seconds.
#[derive(Debug, Default)]
pub(super) struct Offsets(Mutex<BTreeMap<Arc<str>, f64>>);

impl Offsets {
    /// Notes what the provider says at the host's `now`; tells the log when that changes what is believed.
    pub(super) fn tell(&self, source: &Arc<str>, time: jiff::Timestamp, now: jiff::Timestamp) -> f64 {
        let seconds = time.duration_since(now).as_secs_f64();
        let before = self.lock().insert(Arc::clone(source), seconds);
        let (was, is) = (before.is_some_and(is_apart), is_apart(seconds));
        if is && !was {
            tracing::error!(
                %source, seconds, "the provider's clock and the host's are more than 5 minutes apart: no event is taken \
                 for too old or too new until one of them is set right"
            );
        } else if was && !is {
            tracing::info!(%source, seconds, "the provider's clock and the host's agree again");
        }
        seconds
    }

    pub(super) fn forget(&self, source: &str) {
        self.lock().remove(source);
    }

    pub(super) fn is_apart(&self, source: &str) -> bool {
        self.lock().get(source).copied().is_some_and(is_apart)
    }

    pub(super) fn any_is_apart(&self) -> bool {
        self.lock().values().copied().any(is_apart)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_apart(seconds: f64) -> bool {
    seconds.abs() > MAX_CLOCK_OFFSET.as_secs_f64()
}
