//! How many events came by which way, by the relay's own counters.

use super::plan::{SINK, SOURCE};
use super::tell;
use crate::event::Origin;
use crate::metrics::Metrics;
use crate::simulator::Ledger;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

/// Between two lines about it.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at whether everything has come.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest that is waited for what has not come when the story is over: several looks of the backfill, and more than
/// the provider takes for its attempts at one delivery.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What the simulated E2B made, and what the relay took.
pub(super) struct Progress {
    metrics: Metrics,
    ledger: Ledger,
    /// Where the status page is.
    admin: SocketAddr,
}

impl Progress {
    pub(super) fn new(metrics: Metrics, ledger: Ledger, admin: SocketAddr) -> Self {
        Self { metrics, ledger, admin }
    }

    /// Tells how it goes, now and then; ends when the story is over and everything has come, or could have.
    pub(super) async fn tell_until_repaired(&self, mut over: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval_at(Instant::now() + TELL_EVERY, TELL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let repaired = async {
            // Its sender lives for as long as the provider runs, and so for longer than this.
            let _ = over.wait_for(|over| *over).await;
            let deadline = Instant::now() + LONGEST_WAIT;
            while self.missing() > 0 && Instant::now() < deadline {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let mut repaired = std::pin::pin!(repaired);
        loop {
            tokio::select! {
                () = &mut repaired => return,
                _ = ticks.tick() => {
                    // Without a standard error there is nobody to tell.
                    let missing = rest(self.missing(), "not here yet");
                    // The address once more, since by now it has been scrolled away.
                    let _ = tell(format_args!("{}{missing}\nstatus: http://{}/\n", self.ways(), self.admin));
                }
            }
        }
    }

    /// The last word, once the relay is drained.
    pub(super) fn last(&self) -> String {
        let (sent, unsent) = (self.metrics.sent(SINK), self.metrics.unsent(SINK));
        let ways = self.ways() + &rest(self.missing(), "did not come before the end");
        format!("{ways}; {sent} records sent{}", rest(unsent, "not, since the sink did not take them"))
    }

    fn ways(&self) -> String {
        let (made, [webhook, backfill]) = (self.ledger.summary().made, self.taken());
        format!("{made} events made: {webhook} came by webhook, {backfill} by backfill")
    }

    fn taken(&self) -> [u64; 2] {
        [Origin::Webhook, Origin::Backfill].map(|origin| self.metrics.events(SOURCE, origin.as_str()))
    }

    fn missing(&self) -> u64 {
        // In this order: what comes meanwhile is not missed.
        let made = self.ledger.summary().made;
        made.saturating_sub(self.taken().iter().sum())
    }
}

/// Only of what there is.
fn rest(count: u64, fate: &str) -> String {
    if count == 0 { String::new() } else { format!(", {count} {fate}") }
}
