//! Ten thousand sandboxes and an API that takes 200 ms for each answer.

use axum::Json;
use axum::extract::{Query, State};
use axum::routing::get;
use e2b_relay::e2b::{self, Api, ListedSandbox};
use e2b_relay::event::{Arrival, Event};
use e2b_relay::intake::{Accepted, Intake, Limits, Log, Refused};
use e2b_relay::metrics::Metrics;
use e2b_relay::sandboxes::{Sandboxes, Wants};
use e2b_relay::shutdown;
use e2b_relay::source::scrape::{Parts, Scraper, Settings};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SANDBOXES: usize = 10_000;

#[derive(Default)]
struct Stub {
    calls: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    asked: Mutex<BTreeSet<String>>,
}

async fn answer(State(stub): State<Arc<Stub>>, Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    stub.calls.fetch_add(1, Ordering::SeqCst);
    let now = stub.now.fetch_add(1, Ordering::SeqCst) + 1;
    stub.most.fetch_max(now, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    stub.now.fetch_sub(1, Ordering::SeqCst);
    let ids: Vec<&str> = query["sandbox_ids"].split(',').collect();
    assert!(ids.len() <= 100);
    stub.asked.lock().unwrap().extend(ids.iter().map(|id| (*id).to_owned()));
    let time = jiff::Timestamp::now().as_second() / 5 * 5;
    let sample = json!({"timestamp": "2026-08-21T10:00:00Z", "timestampUnix": time, "cpuCount": 2, "cpuUsedPct": 1.5,
        "memUsed": 1, "memTotal": 2, "memCache": 0, "diskUsed": 3, "diskTotal": 4});
    Json(json!({"sandboxes": ids.into_iter().map(|id| (id.to_owned(), sample.clone())).collect::<BTreeMap<_, _>>()}))
}

/// Remembers ids, and is full when told so.
#[derive(Default)]
pub(super) struct Taken {
    ids: Mutex<Vec<String>>,
    full: AtomicBool,
}

impl Taken {
    pub(super) fn count(&self) -> usize {
        self.ids.lock().unwrap().len()
    }
}

impl Log for Taken {
    fn accept(&self, event: Event, _: Arrival) -> BoxFuture<'static, Result<Accepted, Refused>> {
        if self.full.load(Ordering::SeqCst) {
            return Box::pin(async { Err(Refused::Full { retry_after: Duration::from_millis(100) }) });
        }
        let mut ids = self.ids.lock().unwrap();
        ids.push(event.id);
        let sequence = ids.len() as u64;
        Box::pin(async move { Ok(Accepted::New { sequence }) })
    }

    fn quarantine(&self, _: &str, _: &str, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + crate::support::daemon::PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sandboxes_take_a_hundred_calls_eight_at_a_time_and_a_full_log_pauses_them() {
    let stub = Arc::new(Stub::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/sandboxes/metrics", get(answer)).with_state(Arc::clone(&stub));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let (metrics, folder) = (Metrics::new("0", "0").unwrap(), tempfile::tempdir().unwrap());
    let now = jiff::Timestamp::now();
    let sandboxes = Sandboxes::open(folder.path(), [("acme", Wants::default())], 0, now, &metrics);
    let live = sandboxes.of("acme").unwrap();
    for number in 0..SANDBOXES {
        // Some ids are of the old kind, with a client's id behind them: asked for and replied to without.
        let id = if number % 10 == 0 { format!("s{number}-6532622b") } else { format!("s{number}") };
        let listed: ListedSandbox = serde_json::from_value(json!({"sandboxID": id, "templateID": "t",
            "startedAt": "2026-08-21T10:00:00Z", "endAt": "2026-08-21T11:00:00Z", "state": "running"}))
        .unwrap();
        live.listed(&listed, now, now);
    }
    let taken = Arc::new(Taken::default());
    let (stop, shutdown) = shutdown::channel();
    let limits = Limits {
        dedupe_window: Duration::from_secs(86_400),
        commit_timeout: Duration::from_secs(60),
        max_in_flight: 1,
    };
    let log = Arc::clone(&taken) as Arc<dyn Log>;
    let intake = Arc::new(Intake::new(log, limits, Arc::new(jiff::Timestamp::now), metrics.clone(), shutdown.clone()));
    let settings = e2b::Settings { url: Some(url), api_key: Some("key".to_owned().into()), ..e2b::Settings::default() };
    let scraper = Scraper::new(Parts {
        live,
        api: Api::new("acme", &settings, metrics.clone(), fastrand::Rng::with_seed(1)).unwrap(),
        settings: Settings::default(),
        max_calls_per_minute: settings.max_calls_per_minute,
        team_id: None,
        intake,
        metrics: metrics.clone(),
        caught_up: tokio::sync::watch::channel(true).1,
    });
    let task = tokio::spawn(scraper.run(shutdown));
    let (began, count) = (std::time::Instant::now(), || taken.count());
    until("each sandbox has a record", || count() >= SANDBOXES).await;
    let (calls, most) = (stub.calls.load(Ordering::SeqCst), stub.most.load(Ordering::SeqCst));
    println!("{SANDBOXES} sandboxes: {calls} calls, {most} side by side, {:?}", began.elapsed());
    assert_eq!((calls, most, stub.asked.lock().unwrap().len()), (100, 8, SANDBOXES));
    assert!(!stub.asked.lock().unwrap().iter().any(|id| id.contains('-')));

    taken.full.store(true, Ordering::SeqCst);
    until("a round begins", || stub.calls.load(Ordering::SeqCst) > calls).await;
    let reached = count();
    // Eight were under way; then one batch alone finds out.
    until("it is tried again", || stub.calls.load(Ordering::SeqCst) >= calls + 9).await;
    assert_eq!(count(), reached, "nothing is taken while it is full");
    taken.full.store(false, Ordering::SeqCst);
    until("it goes on", || count() > reached).await;
    stop.fire();
    task.await.unwrap();
    let ids = taken.ids.lock().unwrap();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "no sample is told twice");
}
