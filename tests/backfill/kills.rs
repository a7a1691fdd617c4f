//! SIGKILL in the middle of a sweep.

use super::inside::by_sandbox;
use crate::e2b::KEY;
use crate::simulate::Running;
use crate::support::consume::{self, Verdict};
use crate::support::daemon::{Home, Metrics};
use crate::support::forward::Forwarder;
use crate::support::verify;
use e2b_relay::simulator::provider::Options;

const EVENTS: usize = 2_000;
const PAGES: usize = 20;

pub(super) fn home(api: &str) -> Home {
    Home::new(&format!(
        "sources: {{acme: {{api: {{url: '{api}', api_key: {KEY}}}, backfill: {{interval: 1h, lookback: 3h}}}}}}\n\
         sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ))
}

/// Ends the daemon in good order, and holds its file and its store to what the provider told.
async fn judge(home: &Home, daemon: crate::support::daemon::Daemon, provider: &Running) -> Verdict {
    let caught_up = |metrics: &Metrics| {
        metrics.sum("backfill_polls_total", "outcome=\"ok\"") >= 1.0 && metrics.sum("sink_lag_events", "audit") == 0.0
    };
    daemon.until("everything is there", caught_up).await;
    assert!(daemon.terminate().await.success());
    verify::sound(home).await;
    let told = by_sandbox(provider, &provider.told());
    consume::judge("audit", &consume::file(&home.path().join("audit.ndjson")), &told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_each_page_of_a_sweep_in_turn_everything_is_there_once_and_in_order() {
    let provider = Running::start(Options::default()).await;
    provider.happen(EVENTS, 3000).await;
    let gate = Forwarder::start(&provider.base).await;
    let home = home(&gate.url);
    for page in 1..=PAGES {
        gate.allow(page);
        let daemon = home.start().await;
        gate.until_held().await;
        assert_eq!(daemon.metrics().await.sum("events_total", ""), 0.0, "nothing before the oldest is there");
        daemon.kill().await;
        let last = gate.asked().remove(gate.asked().len() - 2);
        assert_eq!(last, format!("/events/sandboxes?offset={}&limit=100&orderAsc=false", (page - 1) * 100));
    }
    gate.allow(usize::MAX);
    let verdict = judge(&home, home.start().await, &provider).await;
    println!("{PAGES} kills, one after each page: {EVENTS} events, {verdict:?}");
    assert_eq!(verdict, consume::NOTHING_WRONG);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_sweep_is_being_accepted_nothing_is_lost_and_each_sandbox_stays_in_order() {
    let provider = Running::start(Options::default()).await;
    provider.happen(EVENTS, 3000).await;
    let home = home(&provider.base);
    let mut kills = 0;
    for part in [200.0, 500.0, 800.0] {
        let daemon = home.start().await;
        daemon
            .until("a part is accepted", |metrics| {
                metrics.sum("events_total", "backfill") >= part
                    || metrics.sum("backfill_polls_total", "outcome=\"ok\"") >= 1.0
            })
            .await;
        kills += usize::from(daemon.metrics().await.sum("backfill_polls_total", "outcome=\"ok\"") == 0.0);
        daemon.kill().await;
    }
    let verdict = judge(&home, home.start().await, &provider).await;
    println!("{kills} of 3 kills while a sweep was being accepted: {EVENTS} events, {verdict:?}");
    assert_eq!((verdict.missing, verdict.unacknowledged), (0, 0));
    assert!(verdict.doubled <= 3 * 1_000, "more twice than can have been in flight at the kills");
}
