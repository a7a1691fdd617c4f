//! Who looks whether everything moves, and tells the log and the service manager.

use crate::health::{Health, Still};
use crate::systemd::Notifier;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often it looks where no manager wants to know.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// Feeds the manager's watchdog by the judgement of `/livez`.
pub struct Watchdog {
    health: Health,
    notifier: Notifier,
    /// Who stood still when it looked last.
    still: Vec<String>,
}

impl Watchdog {
    /// It has not looked yet.
    pub fn new(health: Health, notifier: Notifier) -> Self {
        Self { health, notifier, still: Vec::new() }
    }

    /// Looks `every` so often, until it is dropped.
    pub(super) async fn run(mut self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look();
        }
    }

    /// One look. The manager hears nothing for as long as somebody stands still, and so ends what cannot end itself.
    pub fn look(&mut self) {
        let still = self.health.still();
        let names: Vec<String> = still
            .iter()
            .map(|one| match one {
                Still::For(name, _) | Still::Panicked(name) => name.clone(),
            })
            .collect();
        let changed = names != self.still;
        self.still = names;
        if still.is_empty() {
            self.notifier.alive();
            if changed {
                tracing::info!("everything moves again");
                self.notifier.status("everything moves again");
            }
        } else if changed {
            let said = still.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            tracing::error!(error = said, "something in the daemon stands still: see /livez");
            self.notifier.status(&format!("something stands still: {said}"));
        }
    }
}
