//! The backfill: within the test's own process where times and replies are to be made up, else as the real daemon.

mod clock;
mod damage;
mod everything;
mod inside;
mod kills;
mod outage;
mod pieces;
mod refused;
mod repeated;
mod trouble;
mod witness;

use crate::e2b::KEY;
use crate::simulate::Running;
use crate::support::daemon::PATIENCE;
use crate::support::oracle::{Answer, Ledger};
use bytes::Bytes;
use e2b_relay::client::Exchange;
use e2b_relay::e2b::{self, Api};
use e2b_relay::event::{Arrival, Event};
use e2b_relay::executor::Executor;
use e2b_relay::intake::{Accepted, Clock, DamagedSpan, Intake, Limits, Log, Recalled, Refused, State};
use e2b_relay::metrics::Metrics;
use e2b_relay::shutdown::{self, Shutdown, Trigger};
use e2b_relay::source::backfill::{Backfill, Bounds, Parts, Settings, Status};
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Whatever the provider told of must come out.
fn ledger(provider: &Running) -> Ledger {
    let mut ledger = Ledger::default();
    for entry in provider.ledger.entries() {
        ledger.note(&entry.sandbox_id, &entry.id.unwrap(), Answer::Acknowledged);
    }
    ledger
}

/// A log that takes everything, and remembers it.
#[derive(Default)]
pub(crate) struct Taken {
    /// Why it takes nothing, if so.
    pub(crate) full: Mutex<Option<String>>,
    known: Mutex<HashSet<String>>,
    events: Mutex<Vec<(Event, Arrival)>>,
    /// What it has lost, by the span's id.
    lost: Mutex<BTreeMap<String, u64>>,
    pub(crate) damaged: watch::Sender<Vec<DamagedSpan>>,
}

impl Log for Taken {
    fn accept(&self, event: Event, arrival: Arrival) -> BoxFuture<'static, Result<Accepted, Refused>> {
        let accepted = if self.known.lock().unwrap().insert(event.id.clone()) {
            if let Some(span) = self.lost.lock().unwrap().remove(&event.id) {
                self.damaged.send_modify(|spans| {
                    spans.iter_mut().filter(|one| one.id == span).for_each(|one| one.recovered += 1);
                });
            }
            let mut events = self.events.lock().unwrap();
            events.push((event, arrival));
            Accepted::New { sequence: events.len() as u64 }
        } else {
            Accepted::Duplicate
        };
        Box::pin(async move { Ok(accepted) })
    }

    fn quarantine(&self, _: &str, _: &str, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        self.full.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

/// Small state in memory, over restarts.
#[derive(Default)]
pub(crate) struct Kept(Mutex<BTreeMap<String, String>>);

impl State for Kept {
    fn recall(&self, key: &str) -> Recalled {
        self.0.lock().unwrap().get(key).cloned().map_or(Recalled::Nothing, Recalled::Value)
    }

    fn keep(&self, key: &str, value: &str) -> std::io::Result<()> {
        self.0.lock().unwrap().insert(key.to_owned(), value.to_owned());
        Ok(())
    }
}

/// One source, over restarts of its backfill.
pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) taken: Arc<Taken>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) settings: Settings,
    /// Of one call.
    pub(crate) timeout: Duration,
    pub(crate) bounds: Bounds,
    /// Added to the host's clock.
    pub(crate) clock: jiff::SignedDuration,
    pub(crate) spool: tempfile::TempDir,
    pub(crate) status: watch::Sender<Status>,
}

/// A backfill at work, until dropped.
pub(crate) struct Working {
    pub(crate) metrics: Metrics,
    pub(crate) webhook_id: watch::Sender<Option<String>>,
    stop: Trigger,
    task: tokio::task::JoinHandle<()>,
}

impl Site {
    pub(crate) fn new(url: &str) -> Self {
        let settings =
            Settings { interval: Duration::from_millis(50), overlap: Duration::from_secs(60), ..Settings::default() };
        Self {
            url: url.to_owned(),
            taken: Arc::default(),
            kept: Arc::default(),
            settings,
            timeout: Duration::from_secs(10),
            bounds: Bounds::default(),
            clock: jiff::SignedDuration::ZERO,
            spool: tempfile::tempdir().unwrap(),
            status: watch::Sender::default(),
        }
    }

    pub(crate) fn work(&self) -> Working {
        let metrics = Metrics::new("0", "0").unwrap();
        metrics.source("acme");
        let (stop, shutdown) = shutdown::channel();
        let limits =
            Limits { dedupe_window: Duration::from_secs(8 * 86_400), commit_timeout: PATIENCE, max_in_flight: 1 };
        let ahead = self.clock;
        let clock = Arc::new(move || jiff::Timestamp::now() + ahead);
        let log = Arc::clone(&self.taken) as Arc<dyn Log>;
        let intake = Arc::new(Intake::new(log, limits, clock, metrics.clone(), shutdown.clone()));
        let api = e2b::Settings {
            url: Some(self.url.clone()),
            api_key: Some(KEY.to_owned().into()),
            timeout: self.timeout,
            ..e2b::Settings::default()
        };
        let (webhook_id, known) = watch::channel(self.settings.webhook_id.clone());
        let backfill = Backfill::new(Parts {
            status: self.status.clone(),
            damaged: self.taken.damaged.subscribe(),
            source: "acme".into(),
            team_id: None,
            api: Api::new("acme", &api, metrics.clone(), fastrand::Rng::with_seed(1)).unwrap(),
            settings: self.settings.clone(),
            intake,
            state: Arc::clone(&self.kept) as Arc<dyn State>,
            executor: Executor::default(),
            spool: self.spool.path().to_owned(),
            bounds: self.bounds,
            metrics: metrics.clone(),
            webhook_id: known,
        });
        let task = tokio::spawn(backfill.run(shutdown));
        Working { metrics, webhook_id, stop, task }
    }

    /// Ids in the order in which they were taken.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.taken.events.lock().unwrap().iter().map(|(event, _)| event.id.clone()).collect()
    }

    pub(crate) fn cursor(&self) -> Option<jiff::Timestamp> {
        let kept = self.kept.0.lock().unwrap();
        let value: serde_json::Value = serde_json::from_str(kept.get("backfill/acme")?).unwrap();
        value["cursor"].as_str().map(|text| text.parse().unwrap())
    }

    pub(crate) fn set_cursor(&self, cursor: jiff::Timestamp) {
        self.kept.keep("backfill/acme", &format!(r#"{{"cursor":"{cursor}"}}"#)).unwrap();
    }
}

impl Working {
    /// The series of a family that begin so.
    pub(crate) fn sum(&self, family: &str, label: &str) -> f64 {
        crate::support::daemon::Metrics(self.metrics.encode().unwrap()).sum(family, label)
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is_so() {
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}\n{}", self.metrics.encode().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for so many more looks of that outcome.
    pub(crate) async fn polls(&self, more: u32, outcome: &str) {
        let label = format!("outcome=\"{outcome}\"");
        let before = self.sum("backfill_polls_total", &label);
        self.until(outcome, || self.sum("backfill_polls_total", &label) >= before + f64::from(more)).await;
    }

    /// In good order.
    pub(crate) async fn end(self) {
        self.stop.fire();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("it ends at once").unwrap();
    }
}

/// A number that a request has in its query.
fn asked_for(path: &str, name: &str) -> usize {
    path.split(name).nth(1).unwrap().split('&').next().unwrap().parse().unwrap()
}

/// A page of a list of events that is made up: when each happened, and its id.
fn page(rows: impl Iterator<Item = (jiff::Timestamp, String)>) -> Bytes {
    let row = |(at, id): (jiff::Timestamp, String)| {
        let (kind, at) = ("sandbox.lifecycle.updated", at.to_string());
        serde_json::json!({"id": id, "type": kind, "timestamp": at, "sandbox_id": "sbx-1"})
    };
    serde_json::Value::from_iter(rows.map(row)).to_string().into()
}

/// The backfill of a list that is made up, by a clock that is too; what it says of itself; and where its spool is.
fn backfill_of(
    list: Arc<impl Exchange + 'static>,
    clock: Clock,
    taken: &Arc<Taken>,
    bounds: Bounds,
    shutdown: &Shutdown,
) -> (Backfill, watch::Receiver<Status>, tempfile::TempDir) {
    let metrics = Metrics::new("0", "0").unwrap();
    let (spool, status) = (tempfile::tempdir().unwrap(), watch::Sender::default());
    let limits = Limits { dedupe_window: Duration::from_secs(8 * 86_400), commit_timeout: PATIENCE, max_in_flight: 1 };
    let intake = Intake::new(taken.clone(), limits, clock, metrics.clone(), shutdown.clone());
    let random = fastrand::Rng::with_seed(1);
    let backfill = Backfill::new(Parts {
        source: "acme".into(),
        team_id: None,
        api: Api::over(list, String::new(), "acme", &e2b::Settings::default(), metrics.clone(), random),
        settings: Settings { overlap: Duration::from_secs(210), ..Settings::default() },
        intake: Arc::new(intake),
        state: Arc::<Kept>::default(),
        executor: Executor::default(),
        spool: spool.path().to_owned(),
        bounds,
        metrics,
        webhook_id: watch::channel(None).1,
        damaged: taken.damaged.subscribe(),
        status: status.clone(),
    });
    (backfill, status.subscribe(), spool)
}
