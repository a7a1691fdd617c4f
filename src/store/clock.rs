//! The host's clocks, and whether what rests on the wall clock may be forgotten.
//!
//! The wall clock is set by people, by NTP and by hypervisors; the boot-time clock only runs, through suspends too. What
//! one has gained on the other since the start is a step of the wall clock, and nobody knows which time is right, the one
//! before it or the one after. So nothing is forgotten until the wall clock is back, or has run like the boot-time clock
//! for an hour and, where a provider tells its time, agrees with that. Then it is believed as it is.

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::Duration;

/// The wall clock, as a parameter.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The time since the host was booted, suspends included, as a parameter.
pub type BootClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The host's own [`BootClock`].
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// What the providers' clocks say of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderClock {
    /// They are about the same.
    Agrees,
    /// One of the two is wrong.
    Differs,
    /// Nobody tells.
    Unknown,
}

/// What a look at the clocks has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether the wall clock is believed.
    pub(super) is_believed: bool,
    news: Option<News>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Set { seconds: i64 },
    SetBack,
    Settled,
}

impl Look {
    /// Tells what is new; not to be called while anything is locked.
    pub(super) fn tell(self) {
        match self.news {
            None => {}
            Some(News::Set { seconds }) => {
                tracing::warn!(
                    seconds,
                    "the wall clock was set: nothing is forgotten until it has run evenly for an hour"
                )
            }
            Some(News::SetBack) => tracing::info!("the wall clock is back where it was, and is believed again"),
            Some(News::Settled) => {
                tracing::info!("the wall clock has run evenly for an hour since it was set, and is believed again")
            }
        }
    }
}

/// How long both clocks must have run alike after a step.
const SETTLED_AFTER: Duration = Duration::from_secs(60 * 60);
/// What counts as alike.
const ALIKE: SignedDuration = SignedDuration::from_secs(60);

/// Whether the wall clock is believed. Pure: it is told both clocks, and looks at none.
#[derive(Debug)]
pub(super) struct WallClock {
    /// A step up to this is none.
    tolerance: SignedDuration,
    /// The wall clock less the boot-time clock, as it is believed.
    believed: SignedDuration,
    stepped: Option<Step>,
    provider: ProviderClock,
}

/// The wall clock is not where it should be.
#[derive(Debug)]
struct Step {
    /// The wall clock less the boot-time clock, since then.
    offset: SignedDuration,
    /// By the boot-time clock.
    since: Duration,
    /// A provider has agreed since then.
    is_confirmed: bool,
}

impl WallClock {
    /// It is believed as it is now; `window` is how long ids are remembered.
    pub(super) fn new(window: Duration, wall: Timestamp, boot: Duration) -> Self {
        let tolerance = SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX) / 10;
        let believed = offset(wall, boot);
        Self { tolerance, believed, stepped: None, provider: ProviderClock::Unknown }
    }

    /// Whether the wall clock is believed now.
    pub(super) fn look(&mut self, wall: Timestamp, boot: Duration) -> Look {
        let offset = offset(wall, boot);
        let mut news = None;
        let provider = self.provider;
        if apart(offset, self.believed) <= self.tolerance {
            news = self.stepped.take().map(|_| News::SetBack);
        } else if let Some(step) =
            self.stepped.as_ref().filter(|step| apart(offset, step.offset) <= ALIKE.min(self.tolerance))
        {
            let is_confirmed = provider == ProviderClock::Unknown || step.is_confirmed;
            if is_confirmed && boot.saturating_sub(step.since) >= SETTLED_AFTER {
                news = Some(News::Settled);
                (self.believed, self.stepped) = (offset, None);
            }
        } else {
            news = Some(News::Set { seconds: offset.saturating_sub(self.believed).as_secs() });
            self.stepped = Some(Step { offset, since: boot, is_confirmed: false });
        }
        Look { is_believed: self.stepped.is_none() && provider != ProviderClock::Differs, news }
    }

    /// A provider has just told its time; or none does any more.
    pub(super) fn compare(&mut self, provider: ProviderClock, wall: Timestamp, boot: Duration) -> Look {
        // A step that nobody has seen yet came before this.
        let look = self.look(wall, boot);
        self.provider = provider;
        if let Some(step) = &mut self.stepped {
            step.is_confirmed = provider == ProviderClock::Agrees;
        }
        look
    }
}

fn offset(wall: Timestamp, boot: Duration) -> SignedDuration {
    wall.as_duration().saturating_sub(SignedDuration::try_from(boot).unwrap_or(SignedDuration::MAX))
}

fn apart(one: SignedDuration, other: SignedDuration) -> SignedDuration {
    let between = one.saturating_sub(other);
    if between.is_negative() { SignedDuration::ZERO.saturating_sub(between) } else { between }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const WINDOW: Duration = Duration::from_secs(8 * 86_400);

    /// Both clocks, in seconds.
    struct Host {
        wall: i64,
        boot: u64,
        clock: WallClock,
    }

    impl Host {
        fn start() -> Self {
            let (wall, boot) = (1_780_000_000, 1_000);
            let clock = WallClock::new(WINDOW, Timestamp::from_second(wall).unwrap(), Duration::from_secs(boot));
            Self { wall, boot, clock }
        }

        fn now(&self) -> (Timestamp, Duration) {
            (Timestamp::from_second(self.wall).unwrap(), Duration::from_secs(self.boot))
        }

        fn is_believed(&mut self) -> bool {
            let (wall, boot) = self.now();
            self.clock.look(wall, boot).is_believed
        }

        fn told(&mut self, provider: ProviderClock) {
            let (wall, boot) = self.now();
            self.clock.compare(provider, wall, boot);
        }

        /// Whether it was believed at any, and at every, second of so many.
        fn pass(&mut self, seconds: u64) -> (bool, bool) {
            let (mut any, mut every) = (false, true);
            for _ in 0..seconds {
                let is = self.is_believed();
                (any, every) = (any || is, every && is);
                self.wall += 1;
                self.boot += 1;
            }
            (any, every)
        }
    }

    const NEVER: (bool, bool) = (false, false);
    const ALWAYS: (bool, bool) = (true, true);

    #[test]
    fn without_a_step_it_is_believed_through_suspends_too() {
        let mut host = Host::start();
        assert_eq!(host.pass(10_000), ALWAYS);
        (host.wall, host.boot) = (host.wall + 90 * DAY, host.boot + 90 * 86_400);
        assert_eq!(host.pass(10), ALWAYS, "a suspend");
        host.wall += DAY / 2;
        assert_eq!(host.pass(10), ALWAYS, "within a tenth of the window");
    }

    #[test]
    fn after_a_step_in_either_direction_it_is_believed_again_after_an_hour() {
        for days in [30, 1, -1, -30] {
            let mut host = Host::start();
            host.pass(100);
            host.wall += days * DAY;
            assert_eq!(host.pass(3_600), NEVER, "{days} days");
            assert_eq!(host.pass(100_000), ALWAYS, "{days} days");
            // And so after the next one.
            host.wall -= days * DAY;
            assert_eq!(host.pass(3_600), NEVER, "{days} days");
            assert!(host.is_believed());
        }
    }

    #[test]
    fn a_step_that_is_taken_back_within_the_hour_was_none() {
        for days in [30, -30] {
            let mut host = Host::start();
            host.wall += days * DAY;
            assert_eq!(host.pass(3_000), NEVER);
            host.wall -= days * DAY;
            assert_eq!(host.pass(100_000), ALWAYS);
        }
    }

    #[test]
    fn each_further_step_begins_the_hour_anew() {
        let mut host = Host::start();
        for _ in 0..10 {
            host.wall += 2 * DAY;
            assert_eq!(host.pass(3_500), NEVER);
        }
        // Even a small one.
        host.wall += 120;
        assert_eq!(host.pass(3_600), NEVER);
        assert!(host.is_believed());
    }

    #[test]
    fn a_provider_must_have_agreed_since_the_step_wherever_one_tells_its_time() {
        let mut host = Host::start();
        host.told(ProviderClock::Agrees);
        host.wall += 30 * DAY;
        assert_eq!(host.pass(20_000), NEVER, "what it said before the step says nothing");
        host.told(ProviderClock::Agrees);
        assert_eq!(host.pass(10), ALWAYS, "the hour was over");

        host.wall -= 30 * DAY;
        host.told(ProviderClock::Agrees);
        assert_eq!(host.pass(3_600), NEVER, "the hour is not over");
        assert!(host.is_believed());

        host.wall += 30 * DAY;
        host.told(ProviderClock::Differs);
        assert_eq!(host.pass(20_000), NEVER);
        host.told(ProviderClock::Unknown);
        assert!(host.is_believed(), "there is no provider any more");
    }

    #[test]
    fn while_a_provider_differs_it_is_not_believed_with_or_without_a_step() {
        let mut host = Host::start();
        host.told(ProviderClock::Differs);
        assert_eq!(host.pass(20_000), NEVER);
        host.told(ProviderClock::Agrees);
        assert!(host.is_believed());
        host.wall += 30 * DAY;
        host.told(ProviderClock::Differs);
        host.wall -= 30 * DAY;
        assert!(!host.is_believed(), "until it says so");
        host.told(ProviderClock::Agrees);
        assert!(host.is_believed());
    }

    #[test]
    fn the_host_s_own_clock_runs() {
        let before = since_boot();
        assert!(before > Duration::ZERO && since_boot() >= before);
    }
}
