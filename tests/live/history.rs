//! What was missed for long: fetched as far as it still can be, at a bounded rate, and counted beyond that.

use super::many::Taken;
use crate::e2b::KEY;
use crate::simulate::Running;
use crate::support::daemon::PATIENCE;
use e2b_relay::e2b::{self, Api};
use e2b_relay::intake::{Intake, Limits, Log};
use e2b_relay::metrics::Metrics;
use e2b_relay::sandboxes::{Sandboxes, Wants};
use e2b_relay::shutdown;
use e2b_relay::simulator::provider::Options;
use e2b_relay::source::scrape::{Parts, Scraper, Settings};
use jiff::SignedDuration;
use std::sync::Arc;
use std::time::Duration;

/// How long they have run, in seconds.
const RAN: i64 = 7_200;
/// The longest span that the API still gives in steps of 5 s, in samples; two may fall on the edges of the span.
const FETCHED: usize = 3_595 / 5 - 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hours_missed_are_fetched_for_one_hour_one_sandbox_at_a_time_and_the_rest_is_counted() {
    let provider = Running::start(Options::default()).await;
    // Of what began then, only what still runs is asked for.
    provider.happen_ago(60, 10, RAN as usize).await;
    let (metrics, folder) = (Metrics::new("0", "0").unwrap(), tempfile::tempdir().unwrap());
    metrics.source("acme");
    let settings = e2b::Settings {
        url: Some(provider.base.clone()),
        api_key: Some(KEY.to_owned().into()),
        ..e2b::Settings::default()
    };
    let api = Api::new("acme", &settings, metrics.clone(), fastrand::Rng::with_seed(1)).unwrap();
    // The relay had begun to follow them before, and was then away.
    let now = jiff::Timestamp::now();
    let before = now - SignedDuration::from_secs(RAN + 600);
    let sandboxes = Sandboxes::open(folder.path(), [("acme", Wants::default())], 0, before, &metrics);
    let live = sandboxes.of("acme").unwrap();
    let mut running = 0;
    for listed in api.sandboxes(None).await.unwrap().value.sandboxes {
        running += usize::from(listed.state == "running");
        live.listed(&listed, now, now);
    }
    assert!(running >= 3, "only {running} run");
    let taken = Arc::new(Taken::default());
    let (stop, shutdown) = shutdown::channel();
    let limits = Limits { dedupe_window: Duration::from_secs(86_400), commit_timeout: PATIENCE, max_in_flight: 1 };
    let log = Arc::clone(&taken) as Arc<dyn Log>;
    let clock = Arc::new(jiff::Timestamp::now);
    let intake = Arc::new(Intake::new(log, limits, clock, metrics.clone(), shutdown.clone()));
    let scraper = Scraper::new(Parts {
        live,
        api,
        settings: Settings { interval: Duration::from_millis(100), max_series: 100, ..Settings::default() },
        // Of which gaps may have a fifth, and one call in each round at the least.
        max_calls_per_minute: 50,
        team_id: None,
        intake,
        metrics: metrics.clone(),
        caught_up: tokio::sync::watch::channel(true).1,
    });
    let task = tokio::spawn(scraper.run(shutdown));
    let calls = |endpoint: &str| {
        let metrics = crate::support::daemon::Metrics(metrics.encode().unwrap());
        metrics.sum("api_requests_total", &format!("code=\"200\",endpoint=\"{endpoint}\""))
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while calls("sandbox_metrics") < running as f64 {
        // A round asks for all at once, and then for one gap.
        let (spans, rounds) = (calls("sandbox_metrics"), calls("metrics"));
        assert!(spans <= rounds, "{spans} spans in {rounds} rounds");
        if rounds >= 2.0 {
            // What is missing keeps the records back, and not what is used now.
            let shown = metrics.encode().unwrap().lines().filter(|line| line.starts_with("e2b_sandbox_cpus{")).count();
            assert_eq!(shown, running, "gauges after {rounds} rounds");
        }
        assert!(tokio::time::Instant::now() < deadline, "{spans} of {running} spans");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while taken.count() < running * FETCHED {
        assert!(tokio::time::Instant::now() < deadline, "{} samples", taken.count());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.fire();
    task.await.unwrap();
    let counted = crate::support::daemon::Metrics(metrics.encode().unwrap()).sum("metrics_gaps_total", "acme");
    println!("{running} sandboxes: {} samples fetched, {counted} gaps counted", taken.count());
    assert_eq!(counted, running as f64);
    assert_eq!(calls("sandbox_metrics"), running as f64, "each gap is asked for once");
}
