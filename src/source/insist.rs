//! Offering one event to the intake until it is durable or refused for good.

use crate::backoff::Backoff;
use crate::event::{Arrival, Event};
use crate::intake::{Age, Answer, Intake};
use std::time::Duration;

/// Delays between two offers of the same event: at most this, then twice this …
const BACKOFF: Duration = Duration::from_millis(100);
/// … up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// Offers of one event by whoever has other things to do.
const ATTEMPTS: u32 = 4;

/// How long whoever offers can wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until the daemon ends.
    Endless,
    /// For a few offers, and not for room in the store; he offers the event again in his own time.
    Short,
}

/// The event may not be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenUp {
    /// When it is worth to try again.
    pub(super) retry_after: Duration,
}

/// Returns the intake's last word, which is never one of trouble that passes.
pub(super) async fn insist(
    intake: &Intake,
    event: &Event,
    arrival: &Arrival,
    age: Age,
    patience: Patience,
) -> Result<Answer, GivenUp> {
    let mut backoff = Backoff::new(BACKOFF, LONGEST_BACKOFF, fastrand::Rng::new());
    loop {
        let arrival = Arrival { received_at: intake.now(), ..arrival.clone() };
        let wait = match intake.accept_of(age, event.clone(), arrival).await {
            Answer::Draining => return Err(GivenUp { retry_after: Duration::ZERO }),
            Answer::StoreFull { retry_after } if patience == Patience::Short => return Err(GivenUp { retry_after }),
            Answer::StoreFull { retry_after } => retry_after,
            Answer::Overloaded | Answer::TimedOut | Answer::Failed => Duration::ZERO,
            answer => return Ok(answer),
        };
        let retry_after = wait + backoff.next_delay();
        let is_enough = patience == Patience::Short && backoff.attempt() >= ATTEMPTS;
        if is_enough || intake.is_draining() {
            return Err(GivenUp { retry_after });
        }
        tokio::time::sleep(retry_after).await;
    }
}
