//! Exponential back-off with full jitter: the n-th delay is drawn evenly from 0 to min(cap, base · 2ⁿ).
//!
//! Full jitter spreads the retries of many clients best; see "Exponential Backoff And Jitter", AWS Architecture Blog.

use std::time::Duration;

/// Grows with each call of [`Backoff::next_delay`], starts anew with [`Backoff::reset`].
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// Delays of at most `base`, 2 · `base`, 4 · `base` … `cap`.
    pub fn new(base: Duration, cap: Duration, random: fastrand::Rng) -> Self {
        Self { base, cap, attempt: 0, random }
    }

    /// How many delays were drawn since the last success.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.base.saturating_mul(2u32.saturating_pow(self.attempt)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        ceiling.mul_f64(self.random.f64())
    }

    /// To be called after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_a_doubling_ceiling_and_the_cap() {
        let (base, cap) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(base, cap, fastrand::Rng::with_seed(7));
        let mut longest = Duration::ZERO;
        for attempt in 0..64 {
            let delay = backoff.next_delay();
            assert!(delay <= base.saturating_mul(2u32.saturating_pow(attempt)).min(cap));
            longest = longest.max(delay);
        }
        assert!(longest > cap / 2, "64 draws stayed under half the cap: {longest:?}");
        backoff.reset();
        assert!(backoff.next_delay() <= base);
    }
}
