//! What a life asks the provider: its poller, and those who ask it for a sweep.

use super::core::{Core, Life};
use super::provider::LATE;
use e2b_relay::e2b::{self, Api};
use e2b_relay::intake::{Intake, Limits, StoreLog};
use e2b_relay::shutdown::Shutdown;
use e2b_relay::source::backfill::{self, Backfill, Bounds, Order, Settings, Status};
use e2b_relay::store::Handles;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub(super) const SOURCE: &str = "acme";

/// The backfill of one life.
pub(super) struct Polling {
    pub(super) done: Rc<Cell<bool>>,
    handle: backfill::Handle,
    status: watch::Receiver<Status>,
}

impl Polling {
    pub(super) async fn begin(core: &Core, store: &Handles, shutdown: &Shutdown) -> Self {
        let log = StoreLog { log: store.log.clone(), quarantine: store.quarantine.clone() };
        let limits = Limits {
            dedupe_window: e2b_relay::store::Settings::default().dedupe_window,
            commit_timeout: Duration::from_secs(2),
            max_in_flight: 1_000,
        };
        let intake = Intake::new(Arc::new(log), limits, core.clock(), core.metrics.clone(), shutdown.clone());
        let asked = e2b::Settings { max_calls_per_minute: 60_000, ..e2b::Settings::default() };
        let random = core.turns.draw(fastrand::Rng::fork);
        let provider = Arc::new(core.provider.clone());
        let status = watch::Sender::default();
        let mut backfill = Backfill::new(backfill::Parts {
            source: SOURCE.into(),
            team_id: None,
            api: Api::over(provider, String::new(), SOURCE, &asked, core.metrics.clone(), random),
            settings: Settings { interval: Duration::from_millis(300), overlap: LATE * 2, ..Settings::default() },
            intake: Arc::new(intake),
            state: Arc::new(store.state.clone()),
            executor: core.executor(),
            spool: core.path.join("backfill"),
            // Little, so that a sweep is done in pieces.
            bounds: Bounds { file: 8 * 1024, files: core.turns.draw(|rng| rng.usize(5..20)) },
            metrics: core.metrics.clone(),
            webhook_id: watch::channel(None).1,
            damaged: store.log.damaged_spans(),
            status: status.clone(),
        });
        backfill.prepare().await;
        let handle = backfill.handle();
        let done = core.turns.spawn("backfill", backfill.run(shutdown.clone()));
        Self { done, handle, status: status.subscribe() }
    }
}

impl Life {
    /// Whether everything that happened at the provider is known to be in the store, and what is gone is told.
    pub(super) fn is_read(&self) -> bool {
        let polling = self.polling.borrow();
        let Some(status) = polling.as_ref().map(|polling| polling.status.borrow()) else { return false };
        status.last_poll.as_ref().is_some_and(|poll| poll.outcome == "ok")
            && status.verified_through >= self.core.provider.newest()
    }

    /// How far it is, for people.
    pub(super) fn read(&self) -> String {
        let polling = self.polling.borrow();
        let status = polling.as_ref().map(|polling| polling.status.borrow().clone());
        format!("newest {:?}, {status:?}", self.core.provider.newest())
    }

    /// A backfill by hand: of all, or of one sandbox; to its end, or until its operator has had enough.
    pub(super) async fn sweep(&self) {
        let handle = self.polling.borrow().as_ref().map(|polling| polling.handle.clone());
        let order = self.core.turns.draw(|rng| Order {
            sandbox_id: rng.bool().then(|| format!("sandbox-{}", rng.u8(0..8))),
            since: None,
            any_age: rng.bool(),
        });
        let Some(Ok(mut sweep)) = handle.map(|handle| handle.ask(order)) else { return };
        let patience = Duration::from_millis(self.core.turns.draw(|rng| rng.choice([20, 10_000]).unwrap()));
        match tokio::time::timeout(patience, sweep.ended()).await {
            Ok(Ok(_)) => self.core.sometimes.happened("a backfill by hand"),
            Ok(Err(_)) => self.core.sometimes.happened("a backfill by hand that fails"),
            Err(_) => self.core.sometimes.happened("a backfill by hand that is given up"),
        }
    }
}
