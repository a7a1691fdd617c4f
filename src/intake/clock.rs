//! Whether the host's clock can be believed: the providers tell theirs with every reply.

use crate::store::ProviderClock;
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

    /// What all of them say of the host's.
    pub(super) fn all(&self) -> ProviderClock {
        let offsets = self.lock();
        if offsets.values().copied().any(is_apart) {
            ProviderClock::Differs
        } else if offsets.is_empty() {
            ProviderClock::Unknown
        } else {
            ProviderClock::Agrees
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_apart(seconds: f64) -> bool {
    seconds.abs() > MAX_CLOCK_OFFSET.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_clock_is_compared_with_every_provider_s() {
        let offsets = Offsets::default();
        let (acme, beta): (Arc<str>, Arc<str>) = ("acme".into(), "beta".into());
        let now: jiff::Timestamp = "2026-08-21T10:00:00Z".parse().expect("a time");
        let later = |seconds| now + jiff::SignedDuration::from_secs(seconds);
        assert_eq!(offsets.all(), ProviderClock::Unknown);
        offsets.tell(&acme, later(300), now);
        assert_eq!(offsets.all(), ProviderClock::Agrees);
        offsets.tell(&beta, later(-301), now);
        assert_eq!(offsets.all(), ProviderClock::Differs);
        offsets.forget("beta");
        assert_eq!(offsets.all(), ProviderClock::Agrees);
        offsets.forget("acme");
        assert_eq!(offsets.all(), ProviderClock::Unknown);
    }
}
