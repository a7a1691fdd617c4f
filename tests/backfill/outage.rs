//! The relay was away for an hour.

use super::inside::by_sandbox;
use super::kills::home;
use crate::simulate::Running;
use crate::support::consume;
use crate::support::forward::Forwarder;
use e2b_relay::simulator::provider::Options;

const BEFORE: usize = 1_000;
const MISSED: usize = 6_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_away_is_repaired_by_the_first_sweep_with_as_few_calls_as_there_must_be() {
    let provider = Running::start(Options::default()).await;
    provider.happen_ago(BEFORE, 3600, 3605).await;
    let gate = Forwarder::start(&provider.base).await;
    let home = home(&gate.url);
    let swept =
        |metrics: &crate::support::daemon::Metrics| metrics.sum("backfill_polls_total", "outcome=\"ok\"") >= 1.0;
    let daemon = home.start().await;
    daemon.until("the first sweep", swept).await;
    assert!(daemon.terminate().await.success());
    provider.happen(MISSED, 3600).await;
    let before = gate.asked().len();
    let daemon = home.start().await;
    daemon.until("the sweep after the outage", swept).await;
    let metrics = daemon.metrics().await;
    let calls = gate.asked().len() - before;
    let least = MISSED.div_ceil(100);
    // Of the ten minutes before the outage; and a page is not full of one kind.
    let overlap = (BEFORE * 600 / 3600).div_ceil(100) + 1;
    println!("{MISSED} events missed in an hour: {calls} calls, {least} at the least and {overlap} for the overlap");
    assert_eq!(metrics.sum("backfill_recovered_total", "acme"), MISSED as f64);
    assert!((least..=least + overlap).contains(&calls), "{calls} calls");
    daemon.until("the file has it", |metrics| metrics.sum("sink_lag_events", "audit") == 0.0).await;
    assert!(daemon.terminate().await.success());
    let told = by_sandbox(&provider, &provider.told());
    let verdict = consume::judge("audit", &consume::file(&home.path().join("audit.ndjson")), &told);
    assert_eq!(verdict, consume::NOTHING_WRONG);
}
