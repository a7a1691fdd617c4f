//! The host's clocks.

use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::Duration;

/// The wall clock, as a parameter.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// The time since the host was booted, suspends included, as a parameter.
pub type BootClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The host's own [`BootClock`].
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
