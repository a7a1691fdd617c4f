//! Log lines that come again and again, about what strangers send or what stays broken: so few that they cannot fill a disk.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often one line is written, unless its place says otherwise.
const EVERY: Duration = Duration::from_secs(10);

/// Lets one through per interval, and counts the others. The line that passes tells their number as `suppressed`.
pub struct Occasional {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Occasional {
    /// One in that interval.
    pub fn every(interval: Duration) -> Self {
        Self { every: interval, state: Mutex::default() }
    }

    /// `Some` when a line may be written now, with how many were not since the last one.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < self.every) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

impl Default for Occasional {
    fn default() -> Self {
        Self::every(EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_passes_per_interval_and_tells_of_the_others() {
        let occasional = Occasional::every(Duration::from_secs(10));
        let start = Instant::now();
        let at = |milliseconds| occasional.pass(start + Duration::from_millis(milliseconds));
        assert_eq!(at(0), Some(0));
        assert_eq!([at(1), at(5_000), at(9_999)], [None; 3]);
        assert_eq!(at(10_000), Some(3));
        assert_eq!(at(10_001), None);
        assert_eq!(at(60_000), Some(1));
    }
}
