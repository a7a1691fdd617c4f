//! How often the API may be asked: one budget for everything that asks for a source.
//!
//! A generic cell rate algorithm (ITU-T I.371): calls are spaced evenly, and a tenth of a minute's calls may come at
//! once. The two together never exceed the limit within any minute.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// Cloning shares it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Between two calls in the long run.
    interval: Duration,
    /// How far calls may be ahead of that.
    tolerance: Duration,
    /// When the next call is due.
    due: Mutex<Instant>,
}

impl Budget {
    /// At most `calls` within any minute; 0 counts as 1.
    pub fn per_minute(calls: u32) -> Self {
        let calls = calls.max(1);
        let burst = (calls / 10).max(1);
        // `burst` at once and then one per interval make `burst - 1 + minute / interval` within a minute.
        let interval = MINUTE / (calls - burst + 1);
        Self(Arc::new(Inner { interval, tolerance: interval * (burst - 1), due: Mutex::new(Instant::now()) }))
    }

    /// Waits until one more call is within the budget. First come, first served.
    pub async fn take(&self) {
        let at = {
            let mut due = self.0.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = (*due).max(now);
            *due = turn + self.0.interval;
            turn.checked_sub(self.0.tolerance).unwrap_or(now)
        };
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_minute_sees_more_calls_than_allowed_and_all_of_them_can_be_used() {
        for limit in [1_u32, 2, 7, 60, 3000] {
            let budget = Budget::per_minute(limit);
            let start = Instant::now();
            let mut times = Vec::new();
            while start.elapsed() < MINUTE * 3 {
                budget.take().await;
                times.push(start.elapsed());
            }
            let within = |from: &Duration| times.iter().filter(|at| *at >= from && **at < *from + MINUTE).count();
            let most = times.iter().map(within).max().unwrap_or(0);
            assert!(most <= limit as usize, "{most} calls within a minute, over {limit}");
            assert!(times.len() as f64 > f64::from(limit) * 2.4, "{limit}: only {} in three minutes", times.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_rest_a_tenth_may_come_at_once() {
        let budget = Budget::per_minute(600);
        tokio::time::sleep(MINUTE).await;
        let start = Instant::now();
        for _ in 0..60 {
            budget.take().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        budget.take().await;
        assert!(start.elapsed() > Duration::ZERO);
    }
}
